"""From a modality's own unit to the network's [-1, 1] and back. The one place where this conversion is written.

CT has an absolute scale, so its window is fixed (`--ct_window`); MRI and PET are scaled scan by scan between robust
percentiles, because their units mean nothing between scanners.
"""
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from duiit.data.readers.slice import DISPLAY, HU
from duiit.util.errors import UserError

# (level, width) in HU. Brain: the window of the ct-ich authors. Full: everything a 12-bit CT can hold.
CT_WINDOWS = {"brain": (40.0, 120.0), "bone": (600.0, 2800.0), "full": (1023.5, 4095.0)}
PERCENTILES = (0.5, 99.5)


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


def display_range() -> Intensity:
    """8-bit images that are already windowed for viewing: 0..255."""
    return Intensity(0.0, 255.0, DISPLAY)


def robust_range(images: Iterable[np.ndarray], unit: str) -> Intensity:
    """Intensity between the 0.5th and 99.5th percentile of one scan's images (list of arrays)."""
    values = np.concatenate([np.ravel(image) for image in images])
    low, high = (float(v) for v in np.percentile(values, PERCENTILES))
    if high <= low:                       # constant images: any width keeps them finite
        low, high = float(values.min()), float(values.max())
        high = high if high > low else low + 1.0
    return Intensity(low, high, unit)


def intensity_of(unit: str, images: Iterable[np.ndarray], window: Intensity,
                 span: tuple[float, float] | None = None) -> Intensity:
    """The Intensity for one scan: the CT window for HU, 0..255 for display images, percentiles for the rest.

    span: the range that a network's [-1, 1] stood for in a scan that it made. Its own percentiles would be another
    range, and the image another than the network's.
    """
    if unit == HU:
        return window
    if span:
        return Intensity(span[0], span[1], unit)
    return display_range() if unit == DISPLAY else robust_range(images, unit)
