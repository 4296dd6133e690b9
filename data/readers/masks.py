"""Tells segmentations from images: by the names that data sets give them, and by their values."""
import re
from collections.abc import Iterable
from pathlib import Path, PurePath

import numpy as np

from duiit.data.readers.common import stem_of

# MSD's and nnU-Net's labelsTr beside imagesTr, and what others call such a folder.
MASK_FOLDERS = {"mask", "masks", "seg", "segs", "segmentation", "segmentations", "label", "labels", "labelstr",
                "labelsts", "labelsval", "gt", "groundtruth", "ground_truth"}
# Whole words at the end of a name: x_mask, BraTS-GLI-1-seg, x_HGE_Seg, x.seg (Slicer), x_dseg (BIDS), segmentation-3
# (LiTS), x_gt (ACDC); and FreeSurfer's own.
_MASK_STEM = re.compile(r"(^|[_\-. ])((masks?|msk|seg|segm|segmentations?|dseg|probseg)([_\-. ]?\d+)?"
                        r"|labels?|labelmap|gt|ground_?truth|aseg|wmparc|ribbon)$|aseg$", re.IGNORECASE)
FEW = 8                 # values that a whole scan has at most where they are numbers of tissues
_STEP = 101             # every so manieth pixel tells most images at once


def is_mask(path: PurePath) -> bool:
    """Whether a file's name, or its folder's, says that it is a segmentation. path: relative to the cohort's folder."""
    return any(part.lower() in MASK_FOLDERS for part in path.parts[:-1]) or bool(_MASK_STEM.search(stem_of(path)))


def without_masks(files: Iterable[Path], root: Path) -> tuple[list[Path], list[Path]]:
    """(images, masks) among the files below `root`."""
    images: list[Path] = []
    masks: list[Path] = []
    for path in files:
        (masks if is_mask(path.relative_to(root)) else images).append(path)
    return images, masks


def few_whole_numbers(images: Iterable[np.ndarray]) -> bool:
    """Whether a scan's images together hold 2 to FEW values, all whole: numbers of tissues, rather than an image."""
    whole = list(images)
    for step in (_STEP, 1):
        found: set[float] = set()
        for image in whole:
            found.update(np.unique(image.ravel()[::step]).tolist())
            if len(found) > FEW:
                return False
    return len(found) > 1 and all(float(value).is_integer() for value in found)
