"""From a modality's own unit to the network's [-1, 1] and back. The one place where this conversion is written.

HU and SUV are absolute scales, so their windows are fixed (`--ct_window`, `--pet_window`): twice the uptake is twice as
bright. MRI, and PET that is not in SUV, are scaled scan by scan between robust percentiles, because their units mean
nothing between scanners.
"""
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from duiit.data.readers.slice import DISPLAY, HU, SUV
from duiit.util.errors import UserError

# (level, width) in HU. Brain: the window of the ct-ich authors. Full: everything a 12-bit CT can hold.
CT_WINDOWS = {"brain": (40.0, 120.0), "bone": (600.0, 2800.0), "full": (1023.5, 4095.0)}
PERCENTILES = (0.5, 99.5)
BY_SCAN = "percentiles"         # the word for no fixed window of PET: each scan between its own


@dataclass(frozen=True)
class Intensity:
    """The range [low, high] of a unit that is mapped linearly to [-1, 1]; values outside are clipped."""
    low: float
    high: float
    unit: str

    def normalise(self, image: np.ndarray) -> np.ndarray:
        """image in `unit` -> float32 in [-1, 1]."""
        scaled = (np.asarray(image, np.float32) - np.float32(self.low)) * np.float32(2 / (self.high - self.low)) - 1
        return np.clip(scaled, -1, 1)

    def restore(self, image: np.ndarray) -> np.ndarray:
        """float in [-1, 1] -> float32 in `unit`. What `normalise` clipped stays clipped."""
        return (np.asarray(image, np.float32) + 1) * np.float32((self.high - self.low) / 2) + np.float32(self.low)


def ct_window(text: str) -> Intensity:
    """`brain`, `bone`, `full` or `LEVEL,WIDTH` in HU -> Intensity. Raises UserError."""
    if text in CT_WINDOWS:
        level, width = CT_WINDOWS[text]
    else:
        try:
            level, width = (float(part) for part in text.split(","))
        except ValueError:
            raise UserError(f"--ct_window {text}: give {', '.join(CT_WINDOWS)}, or LEVEL,WIDTH in HU "
                            "such as 40,120") from None
        if not (np.isfinite(level) and np.isfinite(width) and width > 0):
            raise UserError(f"--ct_window {text}: the width must be above 0 HU")
    return Intensity(level - width / 2, level + width / 2, HU)


def pet_window(text: str) -> Intensity | None:
    """`LOW,HIGH` in SUV -> Intensity; None for `percentiles`, which take no account of SUV. Raises UserError."""
    if text == BY_SCAN:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--pet_window {text}: give LOW,HIGH in SUV such as 0,10, or {BY_SCAN}") from None
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise UserError(f"--pet_window {text}: the second number must be above the first")
    return Intensity(low, high, SUV)


def fixed_windows(opt: Namespace) -> dict[str, Intensity]:
    """{unit: Intensity} of the units whose window is the same for every scan. Raises UserError."""
    windows = {HU: ct_window(opt.ct_window)}
    pet = pet_window(opt.pet_window)
    return windows if pet is None else {**windows, SUV: pet}


def display_range() -> Intensity:
    """8-bit images that are already windowed for viewing: 0..255."""
    return Intensity(0.0, 255.0, DISPLAY)


def scale_in_words(unit: str, windows: Mapping[str, Intensity]) -> str:
    """What becomes [-1, 1] of a scan in `unit`, for people."""
    fixed = windows.get(unit) or (display_range() if unit == DISPLAY else None)
    return f"{fixed.low:g} to {fixed.high:g} {unit}" if fixed else "each scan's percentiles"


def robust_range(images: Iterable[np.ndarray], unit: str) -> Intensity:
    """Intensity between the 0.5th and 99.5th percentile of one scan's images (list of arrays)."""
    values = np.concatenate([np.ravel(image) for image in images])
    low, high = (float(v) for v in np.percentile(values, PERCENTILES))
    if high <= low:                       # constant images: any width keeps them finite
        low, high = float(values.min()), float(values.max())
        high = high if high > low else low + 1.0
    return Intensity(low, high, unit)


def intensity_of(unit: str, images: Iterable[np.ndarray], windows: Mapping[str, Intensity],
                 span: tuple[float, float] | None = None) -> Intensity:
    """The Intensity for one scan: the fixed window of HU or SUV, 0..255 for display images, percentiles for the rest.

    windows: as `fixed_windows` gives them. span: the range that a network's [-1, 1] stood for in a scan that it made.
    Its own percentiles would be another range, and the image another than the network's.
    """
    if unit in windows:
        return windows[unit]
    if span:
        return Intensity(span[0], span[1], unit)
    return display_range() if unit == DISPLAY else robust_range(images, unit)
