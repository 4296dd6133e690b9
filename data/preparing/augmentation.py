"""Augmentation of the predictor's training images (`--augment`), after the crop and flip that every image gets.

simple: shifted, rotated, brighter or darker, of more or less contrast. autoaugment: the ImageNet policy of AutoAugment
(Cubuk et al. 2019). random_erasing: rectangles set to air (Zhong et al. 2020). What is done to an image is drawn from
the item's own random generator (`draw`), thus from (seed, epoch, index); it is done to a batch at once (`augment`), on
whatever device that is, and gives the same image in any company.
"""
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from duiit.data.preparing import policy
from duiit.data.preparing.cohort import STEP, as_float
from duiit.data.preparing.transforms import BACKGROUND
from duiit.util.errors import UserError

DRAWING = 2                                     # raise it when the same generator comes to draw something else
DEGREES, SHIFT, JITTER = 10.0, 0.1, 0.2         # of `simple`: either way; of the side; of brightness and contrast
AREA, RATIO, TRIES = (0.02, 0.33), (0.3, 3.3), 10       # of a rectangle: of the image's area; height to width
CONSTANT = 1.5                                  # up to here above the background a stored pixel is background
BLOCK = 4                                       # images at a time on a CPU, which stay in its cache from pass to pass


class Drawn(NamedTuple):
    """An image as a data set draws it: its stored pixels, int16 (C, H, W), and what `augment` is to do with them."""
    stored: np.ndarray | torch.Tensor
    kind: str = "none"
    choices: Any = None


def check(kind: str, channels: int) -> None:
    """UserError where images of so many channels cannot be augmented."""
    if kind == "autoaugment" and channels not in (1, 3):
        raise UserError(f"--augment autoaugment: takes images of 1 or 3 channels, not {channels}; use --augment simple")


def draw(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """The random choices for one visit to an image of `shape` (C, H, W)."""
    return KINDS[kind].draw(shape, rng)


def augment(stored: torch.Tensor, kind: str, choices: Sequence[Any]) -> torch.Tensor:
    """Stored images, int16 (N, C, H, W) in [-STEP, STEP] on any device -> float32 in [-1, 1], each as it was drawn."""
    return KINDS[kind].apply(stored, choices)


def _as_float(stored: torch.Tensor) -> torch.Tensor:
    """int16 -> float32 in [-1, 1]; on a CPU by numpy, which needs one pass."""
    if stored.device.type == "cpu":
        return torch.from_numpy(as_float(stored.numpy()))
    return stored.to(torch.float32).mul_(float(np.float32(1 / STEP)))


# -- simple --------------------------------------------------------------------------------------------------------

def _draw_simple(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[float, int, int, float, float]:
    """(degrees, pixels to the right, pixels down, brightness, contrast)."""
    angle, right, down, brightness, contrast = rng.uniform(-1, 1, 5).tolist()
    return (DEGREES * angle, round(SHIFT * shape[-1] * right), round(SHIFT * shape[-2] * down),
            1 + JITTER * brightness, 1 + JITTER * contrast)


def _simple(stored: torch.Tensor, choices: Sequence[tuple[float, int, int, float, float]]) -> torch.Tensor:
    done = torch.empty(stored.shape, device=stored.device)
    block = BLOCK if stored.device.type == "cpu" else len(stored)
    for at in range(0, len(stored), block):
        some = choices[at:at + block]
        levels = stored[at:at + block].to(torch.float32).add_(STEP)
        done[at:at + block] = jitter(move(levels, [c[:3] for c in some]), [c[3:] for c in some])
    return done


def move(images: torch.Tensor, choices: Sequence[tuple[float, int, int]]) -> torch.Tensor:
    """Rotates (N, C, H, W) clockwise about the centre by so many degrees, and then shifts by so many pixels (right,
    down), bilinearly; what comes in is 0."""
    height, width = images.shape[-2:]
    angle, right, down = np.array(choices).T[..., None]                                         # (N, 1) each
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    x = np.arange(width) + (0.5 - width / 2) - right                                            # (N, W)
    y = np.arange(height) + (0.5 - height / 2) - down                                           # (N, H)
    # Where each pixel comes from is the sum of what its column and what its row says: one pass over the image.
    columns = cos * x * (2 / width) - sin * x * (2j / height)
    rows = sin * y * (2 / width) + cos * y * (2j / height)
    grid = _like(columns, images)[:, None, :] + _like(rows, images)[:, :, None]                 # (N, H, W), complex
    return F.grid_sample(images, torch.view_as_real(grid), align_corners=False)


def jitter(levels: torch.Tensor, choices: Sequence[tuple[float, float]]) -> torch.Tensor:
    """Levels above the background, 0 to 2 * STEP, times `contrast` about their mean and then times `brightness`, as
    (brightness, contrast) of each image: (N, C, H, W) -> the same in [-1, 1], in place.

    Where there is background there is nothing that could be brighter, and no part of the mean.
    """
    brightness, contrast = np.array(choices).T[..., None, None, None]                           # (N, 1, 1, 1) each
    gain, pull = (_like(brightness * share / STEP, levels) for share in (contrast, 1 - contrast))
    F.threshold(levels, CONSTANT, 0.0, inplace=True)
    mean = _sum(levels) / _sum(levels.sign()).clamp_(min=1)
    # Background goes so far down that it is background again in the end, whatever is added.
    F.threshold(levels, 0.0, -1e9, inplace=True).mul_(gain)
    return levels.add_(mean.mul_(pull).add_(BACKGROUND)).clamp_(-1, 1)


def _like(numbers: np.ndarray, images: torch.Tensor) -> torch.Tensor:
    """In single precision where the images are: a handful of numbers is worked out quicker by numpy."""
    kind = np.complex64 if np.iscomplexobj(numbers) else np.float32
    return torch.from_numpy(numbers.astype(kind)).to(images.device)


def _sum(images: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) -> (N, 1, 1, 1). Row by row first: so it is added up in one order in any batch, by any number of
    threads."""
    return images.sum(3, keepdim=True).sum((1, 2), keepdim=True)


# -- random_erasing ------------------------------------------------------------------------------------------------

def _draw_rectangle(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int, int, int] | None:
    """(top, left, height, width), or None: in half of the images, and where no draw fits into the image."""
    if rng.random() >= 0.5:
        return None
    height, width = shape[-2:]
    for _ in range(TRIES):
        area = height * width * rng.uniform(*AREA)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if h < height and w < width:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    return None


def _erase(stored: torch.Tensor, choices: Sequence[tuple[int, int, int, int] | None]) -> torch.Tensor:
    images = _as_float(stored)
    for image, rectangle in zip(images, choices, strict=True):
        if rectangle:
            top, left, height, width = rectangle
            image[:, top:top + height, left:left + width] = BACKGROUND
    return images


# -- autoaugment ---------------------------------------------------------------------------------------------------

def _by_policy(stored: torch.Tensor, choices: Sequence[policy.Choices]) -> torch.Tensor:
    """In 8 bits, which the policy is written for: its thresholds, bits and histograms are wrong on [-1, 1]."""
    levels = _as_float(stored).add_(1).mul_(127.5).round_().to(torch.uint8)
    return policy.apply(levels, choices).to(torch.float32).div_(127.5).sub_(1)


class Kind(NamedTuple):
    draw: Callable[[tuple[int, ...], np.random.Generator], Any]
    apply: Callable[[torch.Tensor, Sequence[Any]], torch.Tensor]        # as `augment`


KINDS = {"none": Kind(lambda shape, rng: None, lambda stored, choices: _as_float(stored)),
         "simple": Kind(_draw_simple, _simple), "random_erasing": Kind(_draw_rectangle, _erase),
         "autoaugment": Kind(lambda shape, rng: policy.draw(rng), _by_policy)}
