"""The fingerprint of a set of scans: the ranges in which their intensities and geometry lie, to tell a scan that is
unlike them (another modality, another unit, shifted values, another field of view).

`facts_of` measures one scan, `summarise` turns many scans' facts into limits, `unlike` holds one scan against them and
says in words what is unusual. `duiit data check` writes the fingerprint of a data folder, a trained run keeps that of
its target's training scans, and `duiit predict` flags by it.
"""
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from duiit.data.preparing.intensity import PERCENTILES, Intensity, intensity_of
from duiit.data.readers.slice import HU, Slice

NAME = "dataset_fingerprint.json"
VERSION = 1
PIXELS = 2**20              # so many of a scan's pixels are measured, evenly spread: more change no third digit
BACKGROUND = -0.95          # of [-1, 1]; what is above shows something
FENCE = 3.0                 # interquartile ranges beyond the quartiles: Tukey's limit for what is far out
FEW = 10                    # quartiles of n scans are uncertain: the fence is (1 + FEW / n) times as far


@dataclass(frozen=True)
class ScanFacts:
    """One scan as measured. low, high, minimum in its own unit; the rest of intensity is of its image in [-1, 1]."""
    unit: str
    rows: int
    columns: int
    slices: int
    spacing: tuple[float, float, float] | None      # (row, column, slice) in mm
    low: float
    high: float
    minimum: float
    mean: float
    sd: float
    foreground: float                               # share of pixels that are not background
    level: float                                    # mean of those pixels
    saturated: float                                # share of pixels at the upper end of the range


@dataclass(frozen=True)
class Measure:
    """A fact that is judged. tolerance: the least that limits stand off the training range; ratio: of factors."""
    name: str
    title: str
    tolerance: float
    ratio: bool = False


MEASURES = (
    Measure("mean", "mean brightness (of -1 to 1)", 0.1),
    Measure("sd", "contrast (standard deviation, of -1 to 1)", 0.1),
    Measure("foreground", "share of the image above background", 0.1),
    Measure("level", "mean brightness of what is not background (of -1 to 1)", 0.1),
    Measure("saturated", "share of the image at full white", 0.1),
    Measure("lowest", "lowest values (HU)", 100.0),
    Measure("highest", "highest values (HU)", 200.0),
    Measure("rows", "rows of the image", 1.25, ratio=True),
    Measure("columns", "columns of the image", 1.25, ratio=True),
    Measure("slices", "number of slices", 2.0, ratio=True),
    Measure("pixel_mm", "pixel spacing (mm)", 1.25, ratio=True),
    Measure("slice_mm", "slice spacing (mm)", 1.5, ratio=True),
    Measure("field_mm", "field of view (mm)", 1.25, ratio=True),
)


def facts_of(slices: Sequence[Slice], windows: Mapping[str, Intensity]) -> ScanFacts:
    """ScanFacts of one scan's slices, as its modality's `prepare` left them. windows: the fixed ones, by unit."""
    values = np.concatenate([np.ravel(v) for v in _sampled(slices)])
    unit = slices[0].unit
    low, high = (float(v) for v in np.percentile(values, PERCENTILES))
    image = intensity_of(unit, [values], windows).normalise(values)
    geometry, shown = slices[0].geometry, image > BACKGROUND
    rows, columns = slices[0].image.shape[-2:]
    return ScanFacts(
        unit, rows, columns, len(slices), None if geometry is None else geometry.spacing, low, high,
        min(float(s.image.min()) for s in slices), float(image.mean()), float(image.std()),
        float(shown.mean()), float(image[shown].mean()) if shown.any() else -1.0, float((image > -BACKGROUND).mean()))


def _sampled(slices: Sequence[Slice]) -> list[np.ndarray]:
    step = -(-sum(s.image.size for s in slices) // PIXELS)
    step += step > 1 and step % 2 == 0          # rows are mostly even: an odd step goes through all columns
    return [s.image.ravel()[::step] for s in slices]


def summarise(facts: Sequence[ScanFacts]) -> dict[str, Any]:
    """The fingerprint of scans: {scans, units, measures: {name: {low, median, high, scans}}}; low and high are limits.

    A limit is FENCE interquartile ranges beyond the quartile (further where scans are few), or the 1st or 99th
    percentile where that is further out, plus the measure's tolerance.
    """
    values = {m.name: [v for f in facts if (v := _value(f, m.name)) is not None] for m in MEASURES}
    return {"scans": len(facts), "units": dict(Counter(f.unit for f in facts).most_common()),
            "measures": {m.name: _limits(values[m.name], m) for m in MEASURES if values[m.name]}}


def unlike(facts: ScanFacts, fingerprint: Mapping[str, Any]) -> list[str]:
    """What of a scan is outside the fingerprint, in words: [] for a scan like those it was made of."""
    reasons = []
    if facts.unit not in fingerprint["units"]:
        reasons.append(f"values in {facts.unit}, training scans in {' or '.join(fingerprint['units'])}")
    for m in MEASURES:
        value, limits = _value(facts, m.name), fingerprint["measures"].get(m.name)
        if value is not None and limits and not limits["low"] <= value <= limits["high"]:
            where = "below" if value < limits["low"] else "above"
            bound = limits["low" if where == "below" else "high"]
            reasons.append(f"{m.title} {value:.3g}, {where} the limit {bound:.3g} (training median "
                           f"{limits['median']:.3g})")
    return reasons


def _value(facts: ScanFacts, name: str) -> float | None:
    """One measure of a scan; None where it has none (no spacing, no absolute unit)."""
    if name in ("lowest", "highest"):
        return (facts.low if name == "lowest" else facts.high) if facts.unit == HU else None
    if not name.endswith("_mm"):
        return getattr(facts, name)
    if facts.spacing is None:
        return None
    row, column, between = facts.spacing
    return {"pixel_mm": row, "slice_mm": between, "field_mm": max(row * facts.rows, column * facts.columns)}[name]


def _limits(values: Sequence[float], measure: Measure) -> dict[str, float]:
    scale = np.log(np.maximum(values, 1e-6)) if measure.ratio else np.asarray(values, float)
    tolerance = np.log(measure.tolerance) if measure.ratio else measure.tolerance
    first, lower, median, upper, last = np.percentile(scale, (1, 25, 50, 75, 99))
    fence = FENCE * (1 + FEW / len(values)) * (upper - lower)
    limits = {"low": min(first, lower - fence) - tolerance, "median": median,
              "high": max(last, upper + fence) + tolerance}
    return {k: float(np.exp(v) if measure.ratio else v) for k, v in limits.items()} | {"scans": len(values)}
