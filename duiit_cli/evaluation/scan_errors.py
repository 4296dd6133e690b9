"""How far translated images are from the truth: the one place where these figures are made, for `duiit test`,
`duiit evaluate --paired` and experiments. What each is: docs/evaluating.md.

Slices of one scan are pooled, as if they were its volume; scans are averaged over a patient, and patients over all.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from duiit.data.preparing.intensity import Intensity, display_range, intensity_of
from duiit.data.readers.slice import DISPLAY, GREY, HU, Slice
from duiit.util.errors import UserError
from duiit.util.image_quality import CT_LIMITS, SSIM_WINDOW, body_mask, masked_errors
from duiit.util.metrics import by_group

VOLUMES = {"nifti", "dicom"}                # what holds neighbouring slices, in order
EVERY, BODY, GIVEN = "whole image", "body found in the real CT", "--mask"
OF_EACH_SCAN = "0.5th to 99.5th percentile of each scan"
TERMS = ("n", "mask", "window")             # what stands in a report beside the errors
_NOT_ERRORS = {"patient", "scan", "slices", "voxels"}


@dataclass(frozen=True)
class Compared:
    """errors: {name: value}, {} where the mask is empty. window: what those `_in_window` are cut to, if any."""
    errors: dict[str, Any]
    mask: str
    window: str | None = None


@dataclass
class ScanErrors:
    """Gathers the errors of one scan after another."""
    window: Intensity                                           # of HU: what a translation can hold
    rows: list[dict[str, Any]] = field(default_factory=list)    # one a scan
    masks: set[str] = field(default_factory=set)
    windows: set[str] = field(default_factory=set)
    empty: int = 0                                              # scans without a voxel in the mask

    def add(self, patient: str, scan: str, fakes: Sequence[Slice], trues: Sequence[Slice],
            masks: Sequence[np.ndarray] | None = None, volume: bool = False) -> None:
        """Takes slices of one scan with their truth. masks: (H, W) each. volume: they are all of it, in order."""
        found = compared(fakes, trues, masks, self.window, volume)
        self.masks.add(found.mask)
        self.windows |= {found.window} if found.window else set()
        if found.errors:
            self.rows.append({"patient": patient, "scan": scan, "slices": len(fakes), **found.errors})
        else:
            self.empty += 1

    def report(self, **counts: int) -> dict[str, Any]:
        """{"n": {…, **counts}, "mask": …, "window": …, <error>: {"mean", "sd", "n"}}; sd is over patients. There is a
        window where an error has it in its name."""
        n = {"patients": len({row["patient"] for row in self.rows}), "scans": len(self.rows),
             "images": sum(r["slices"] for r in self.rows), "voxels": sum(r["voxels"] for r in self.rows), **counts}
        names = dict.fromkeys(key for row in self.rows for key in row if key not in _NOT_ERRORS)
        terms = {"mask": " and ".join(sorted(self.masks))}
        if self.windows:
            terms["window"] = " and ".join(sorted(self.windows))
        return {"n": n, **terms, **{name: self._mean(name) for name in names}}

    def _mean(self, name: str) -> dict[str, Any]:
        rows = [row for row in self.rows if row.get(name) is not None]
        if not rows:
            return {"mean": None, "sd": None, "n": 0}
        values = list(by_group([row[name] for row in rows], [row["patient"] for row in rows]).values())
        mean = float(np.mean(values))
        known = len(values) > 1 and np.isfinite(mean)
        return {"mean": mean, "sd": float(np.std(values, ddof=1)) if known else None, "n": len(values)}


def is_volume(kinds: set[str], count: int, whole: int) -> bool:
    """Whether `count` slices, from files of these kinds, are a whole scan of `whole`, enough for a window in 3D."""
    return kinds <= VOLUMES and count == whole >= SSIM_WINDOW


def errors_in(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{name: {"mean", "sd", "n"}} of a report of ScanErrors."""
    return {name: error for name, error in report.items() if name not in TERMS}


def in_words(report: Mapping[str, Any]) -> str:
    """`body found in the real CT; _in_window: cut to -20 to 100 HU`, for the head of a table."""
    window = f"; _in_window: cut to {report['window']}" if report.get("window") else ""
    return f"{report['mask']}{window}"


def compared(fakes: Sequence[Slice], trues: Sequence[Slice], masks: Sequence[np.ndarray] | None, window: Intensity,
             volume: bool = False) -> Compared:
    """Slices of one scan and their truth, of one size. masks: (H, W) each; without, the body of a CT is found, and of
    other images all counts. Raises UserError for units that cannot be compared."""
    fake, true = (np.stack([plane(s.image) for s in slices]) for slices in (fakes, trues))
    units = fakes[0].unit, trues[0].unit
    outline = GIVEN if masks is not None else BODY if units[1] == HU else EVERY
    mask = np.stack(masks) if masks is not None else body_mask(true) if units[1] == HU else None
    in_hu = f"{window.low:g} to {window.high:g} HU"
    if units == (HU, HU):
        whole = masked_errors(fake, true, mask, volume=volume)
        if not whole or (window.low <= CT_LIMITS[0] and window.high >= CT_LIMITS[1]):
            return Compared(whole, outline)
        return Compared(whole | _in_window(fake, true, mask, window), outline, in_hu)
    if set(units) == {HU, DISPLAY}:         # 8 bits stand for the window, and nothing is known beyond it
        fake, true = (window.restore(display_range().normalise(image)) if unit == DISPLAY else image
                      for image, unit in zip((fake, true), units, strict=True))
        return Compared(_in_window(fake, true, mask, window), outline, in_hu)
    if units[0] != units[1]:
        raise UserError(f"{fakes[0].path}: holds {units[0]} values, and {trues[0].path} {units[1]} ones, which cannot "
                        "be compared; give both in one unit")
    limits = (0.0, 255.0) if units[0] == DISPLAY else (float(true.min()), max(float(true.max()), true.min() + 1e-6))
    errors = masked_errors(fake, true, mask, limits, units[0].lower(), volume)
    if units[0] != GREY or not errors:
        return Compared(errors, outline)
    # Grey values of two scans have no scale in common; what was trained on is each scan on its own.
    mine, own = (intensity_of(GREY, list(image), {}, slices[0].span)
                 for image, slices in ((fake, fakes), (true, trues)))
    return Compared(errors | _in_window(own.restore(mine.normalise(fake)), true, mask, own), outline, OF_EACH_SCAN)


def _in_window(fake: np.ndarray, true: np.ndarray, mask: np.ndarray | None, window: Intensity) -> dict[str, Any]:
    """Errors of images (N, H, W) in the window's unit, of which only what it shows counts."""
    limits = window.low, window.high
    errors = masked_errors(np.clip(fake, *limits), np.clip(true, *limits), mask, limits, window.unit.lower())
    return {key if key == "voxels" else f"{key}_in_window": value for key, value in errors.items()}


def plane(image: np.ndarray) -> np.ndarray:
    """(H, W), or the mean of the channels (C, H, W), which are mostly one grey."""
    return image if image.ndim == 2 else image.mean(axis=0)
