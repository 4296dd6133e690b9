"""How wide the ventricles are in an axial head CT, measured in the image alone: the share of the inside of the skull
that is fluid in the middle of the brain.

It needs no pixel size and no segmentation network. Fluid is told from brain by contrast with the image's own brain, so
that a calibration that is off by a few HU moves nothing; the mean over a patient's slices is the patient's width.
"""
import numpy as np
from scipy import ndimage

SKULL = 80.0            # HU: fresh blood stays below, a pixel with a tenth of bone lies above
BELOW_BRAIN = 13.0      # HU: fluid lies 22 below white matter and 31 below grey; half-way but for noise
MIDDLE = 0.5            # of the greatest depth below the skull: holds the ventricles and none of the outer sulci
FEWEST = 30             # pixels of the middle: fewer say nothing
NEEDED = (0.0, 90.0)    # HU that a window has to hold


def middle_of(image: np.ndarray) -> tuple[np.ndarray, int] | None:
    """(mask of the middle of the brain, pixels inside the skull) of a CT slice (H, W) in HU; None where no closed skull
    of a head's size is seen."""
    bone = image >= SKULL
    parts, count = ndimage.label(ndimage.binary_fill_holes(bone) & ~bone)
    if not count:
        return None
    largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    inside = ndimage.binary_fill_holes(parts == largest)        # chalk in the brain is no skull
    depth = ndimage.distance_transform_edt(inside)
    middle = depth >= MIDDLE * depth.max()
    return (middle, int(inside.sum())) if middle.sum() >= FEWEST and inside.mean() >= 0.05 else None


def fluid_share(image: np.ndarray, middle: np.ndarray, inside: int) -> float:
    """Percent of the inside of the skull that is fluid in the middle. image: (H, W) in HU, the slice that `middle_of`
    was asked for or another one of the very same anatomy."""
    values = image[middle]
    threshold = np.percentile(values, 75) - BELOW_BRAIN
    for _ in range(5):                                          # from brain with fluid to brain alone
        threshold = values[values >= threshold].mean() - BELOW_BRAIN
    return 100 * float((values < threshold).sum()) / inside
