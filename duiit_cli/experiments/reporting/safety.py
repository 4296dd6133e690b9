"""Does a translator do harm? The width of the ventricles in its synthetic CTs, against the true CTs of the same
patients: a brain that looks years older or younger than it is would be a wrong finding in an image of a patient.

What is measured is util/ventricles.py's. A regression of it on the label, over true CTs, says what a unit of the label
is worth, so that an error can be told in years where labels are ages.
"""
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from duiit.data.preparing.cohort import Row
from duiit.data.preparing.intensity import Intensity
from duiit.data.readers.slice import HU, Label
from duiit.util.ventricles import NEEDED, fluid_share, middle_of

Measured = tuple[Row, tuple[float, float]]      # a slice, and the widths in its translation and in its true image
OFF = (5, 10)           # label units: how many patients are off by more
FEWEST_PATIENTS = 10    # a regression over fewer is chance
SURE = 0.01             # p of a regression that a conversion may rest on


def cannot(intensity: Intensity) -> str | None:
    """Why images of this range cannot be measured, in one line; None where they can."""
    if intensity.unit != HU:
        return "the target is not in Hounsfield units"
    if intensity.low > NEEDED[0] or intensity.high < NEEDED[1]:
        return f"the CT window does not hold {NEEDED[0]:g} to {NEEDED[1]:g} HU"
    return None


def widths(fake: np.ndarray, true: np.ndarray, intensity: Intensity) -> tuple[float, float] | None:
    """(in the synthetic, in the true image) of one slice, in percent of the inside of the true skull; None where the
    true one shows no closed skull. fake, true: (C, H, W) in [-1, 1]."""
    fake, true = intensity.restore(fake[0]), intensity.restore(true[0])
    found = middle_of(true)
    return None if found is None else (fluid_share(fake, *found), fluid_share(true, *found))


def ventricle_errors(slices: Mapping[str, Sequence[Measured]]) -> dict[str, Any]:
    """What quality.json says of one source. slices: {part: [(Row, (in the synthetic, in the true image)), …]}."""
    parts = {part: _by_patient(found) for part, found in slices.items()}
    patients = {p: v for found in parts.values() for p, v in found.items()}
    if not patients:
        return {"not_measured": "no true CT of a source patient shows a closed skull"}
    scale = _scale(patients.values())
    return {"scale": scale, **{part: _errors(list(found.values()), scale) for part, found in parts.items() if found}}


def _by_patient(slices: Iterable[Measured]) -> dict[str, tuple[Label, float, float]]:
    """{patient: (label, synthetic, true)}, the widths averaged over the patient's slices."""
    found: dict[str, tuple[Label, list[tuple[float, float]]]] = {}
    for row, pair in slices:
        found.setdefault(row.patient, (row.label, []))[1].append(pair)
    return {p: (label, *np.mean(pairs, axis=0)) for p, (label, pairs) in found.items()}


def _scale(patients: Iterable[tuple[Label, float, float]]) -> dict[str, Any]:
    """Regression of the true width on the label: percent a label unit. {"n": …} alone where there is none."""
    known = [(label, true) for label, _, true in patients if isinstance(label, (int, float))]
    if len(known) < FEWEST_PATIENTS or len({label for label, _ in known}) < 2:
        return {"n": len(known)}
    line = stats.linregress(*np.transpose(known))
    return {"n": len(known), "slope": float(line.slope), "pearson_r": float(line.rvalue), "p": float(line.pvalue),
            "sound": bool(line.pvalue < SURE)}


def _errors(patients: Sequence[tuple[Label, float, float]], scale: Mapping[str, Any]) -> dict[str, Any]:
    made, true = (np.asarray([p[k] for p in patients], float) for k in (1, 2))
    off = made - true
    figures = {"patients": len(off), "true_mean": float(true.mean()), "bias": float(off.mean())}
    if len(off) > 2 and np.ptp(true) > 0:
        figures |= {"sd": float(off.std(ddof=1)), "slope": float(stats.linregress(true, made).slope)}
    if scale.get("sound"):
        off = off / scale["slope"]
        figures |= {"bias_label": float(off.mean()), **{f"off_{n}": float((np.abs(off) > n).mean()) for n in OFF}}
        figures |= {"sd_label": float(off.std(ddof=1))} if len(off) > 2 else {}
    return figures
