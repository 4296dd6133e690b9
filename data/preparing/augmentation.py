"""Augmentation of the predictor's training images (`--augment`), after the crop and flip that every image gets.

simple: shifted, rotated, brighter or darker, of more or less contrast. autoaugment: the ImageNet policy of AutoAugment
(Cubuk et al. 2019). random_erasing: rectangles set to air (Zhong et al. 2020). What is drawn follows from the item's
own random generator, thus from (seed, epoch, index), whoever draws besides.
"""
import numpy as np
import torch
from torchvision.transforms import v2

from duiit.data.preparing.cohort import DTYPE, STEP, as_float
from duiit.data.preparing.transforms import BACKGROUND
from duiit.util.errors import UserError

DEGREES, SHIFT, JITTER = 10.0, 0.1, 0.2         # of `simple`: either way; of the side; of brightness and contrast
BILINEAR = v2.InterpolationMode.BILINEAR
CONSTANT = 1.5 / STEP                           # up to here above the background a stored pixel is background


def augment(stored: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """A stored image, int16 (C, H, W) in [-STEP, STEP] -> another one like it. Takes one number from `rng`.

    torchvision draws from torch's generator of the process: it is set from that number, and put back afterwards.
    """
    image = torch.from_numpy(np.ascontiguousarray(as_float(stored)))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        image = KINDS[kind](image)
    return np.round(image.clamp(-1, 1).numpy() * STEP).astype(DTYPE)


def check(kind: str, channels: int) -> None:
    """UserError where images of so many channels cannot be augmented."""
    if kind == "autoaugment" and channels not in (1, 3):
        raise UserError(f"--augment autoaugment: takes images of 1 or 3 channels, not {channels}; use --augment simple")


# -- kinds: float32 (C, H, W) in [-1, 1] -> the same ---------------------------------------------------------------

# Air has to be 0 here: at the image's border torchvision interpolates towards 0, and only then towards the fill.
_moved = v2.RandomAffine(DEGREES, (SHIFT, SHIFT), interpolation=BILINEAR, fill=0)
_erased = v2.RandomErasing(p=0.5, value=BACKGROUND)
_by_policy = v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET, interpolation=BILINEAR, fill=0)


def _simple(image: torch.Tensor) -> torch.Tensor:
    moved = _moved(image - BACKGROUND) + BACKGROUND
    return jitter(moved, *(1 + JITTER * (2 * torch.rand(2) - 1)).tolist())


def jitter(image: torch.Tensor, brightness: float, contrast: float) -> torch.Tensor:
    """Grey values above the background, times `contrast` about their mean and then times `brightness`.

    Where there is background there is nothing that could be brighter, and no part of the mean.
    """
    level = (image - BACKGROUND) / 2                                    # 0 to 1
    there = level > CONSTANT / 2
    mean = level[there].mean() if there.any() else 0.0
    changed = ((level - mean) * contrast + mean) * brightness
    return torch.where(there, changed.clamp(0, 1), 0.0) * 2 + BACKGROUND


def _autoaugment(image: torch.Tensor) -> torch.Tensor:
    """In 8 bits, which the policy is written for: its thresholds, bits and histograms are wrong on [-1, 1]. All of its
    operations take one channel as well as three."""
    levels = ((image + 1) * 127.5).round().to(torch.uint8)
    return _by_policy(levels).float() / 127.5 - 1


KINDS = {"simple": _simple, "autoaugment": _autoaugment, "random_erasing": _erased}
