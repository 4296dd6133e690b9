"""Slices on a common grid of square pixels (`--spacing`), and back on their own.

Both grids lie about the same centre and along the same axes; the distance between slices stays as it is, as networks
see one slice at a time. Without `--spacing` images are resized to --load_size whatever their pixels are.
"""
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from duiit.data.preparing import transforms
from duiit.data.readers.common import notice
from duiit.data.readers.slice import Slice
from duiit.util.errors import UserError

Pixels = tuple[float, float]        # mm between rows, mm between columns


class UnknownSpacing(UserError):
    """--spacing cannot be kept, as an image tells none."""


def spacing_of(opt: Namespace) -> float | None:
    """mm a pixel on the common grid; None where there is none."""
    spacing: float | None = opt.spacing
    return spacing


def pixels_of(s: Slice) -> Pixels:
    """The slice's own pixel spacing. Raises UnknownSpacing."""
    if s.geometry is None:
        raise UnknownSpacing(f"{s.path}: tells no pixel spacing, which --spacing needs; give NIfTI, or DICOM with "
                             "positions, or leave --spacing out")
    row, column, _ = s.geometry.spacing
    return row, column


def to_loading_size(image: np.ndarray, s: Slice, opt: Namespace) -> np.ndarray:
    """What the network sees of slice `s`: its image (C, H, W) in [-1, 1], resized; with --spacing resampled, and padded
    with background or cropped about its centre to --load_size where --preprocess resizes."""
    spacing = spacing_of(opt)
    if spacing is None:
        return transforms.to_loading_size(image, opt)
    pixels, shape = pixels_of(s), image.shape[-2:]
    size = _size(shape, pixels, opt, spacing)
    if any(n * old > (m + 1) * spacing for n, old, m in zip(shape, pixels, size, strict=True)):
        _tell_cropped(opt.load_size, spacing)
    return resample(image, pixels, (spacing, spacing), size)


def to_own_grid(image: np.ndarray, s: Slice, opt: Namespace) -> np.ndarray:
    """The way back: a network's image (C, h, w) on the grid of the slice it was made from, background where the network
    saw nothing."""
    spacing, shape = spacing_of(opt), s.image.shape[-2:]
    if spacing is None:
        return transforms.resize(image, *shape)
    return resample(image, (spacing, spacing), pixels_of(s), shape)


def on_network_grid(slices: Sequence[Slice], images: Sequence[np.ndarray], opt: Namespace) -> list[Slice]:
    """The slices with the size and the place of the network's images (C, h, w): what is written at the network's size
    lies where it belongs. Without --spacing it covers the slices' own field of view, and they stay as they are."""
    spacing = spacing_of(opt)
    if spacing is None:
        return list(slices)
    return [_placed(s, image, spacing) for s, image in zip(slices, images, strict=True)]


def _placed(s: Slice, image: np.ndarray, spacing: float) -> Slice:
    if s.geometry is None:
        return s
    rows, columns = (spacing / old for old in pixels_of(s))
    (height, width), (new_height, new_width) = s.image.shape[-2:], image.shape[-2:]
    step = np.diag([columns, rows, 1.0, 1.0])
    step[:2, 3] = (width - 1 - columns * (new_width - 1)) / 2, (height - 1 - rows * (new_height - 1)) / 2
    return replace(s, image=image[0], geometry=replace(s.geometry, affine=s.geometry.affine @ step))


def resample(image: np.ndarray, old: Pixels, new: Pixels, size: tuple[int, int]) -> np.ndarray:
    """Linear along both axes, anti-aliased where pixels grow: (C, H, W) in [-1, 1] with pixels of `old` mm ->
    (C, *size) with pixels of `new` mm about the same centre; background beyond the image's outer edges."""
    down, right = (_weights(n, a, m, b) for n, a, m, b in zip(image.shape[-2:], old, size, new, strict=True))
    lifted = image.astype(np.float64) - transforms.BACKGROUND               # what has no weight becomes background
    done = (down @ lifted @ right.T + transforms.BACKGROUND).astype(np.float32)
    return np.clip(done, -1, 1)


@lru_cache(maxsize=64)
def _weights(count: int, step: float, new_count: int, new_step: float) -> np.ndarray:
    """(new_count, count): how much each old sample has of each new one along one axis."""
    places = (np.arange(new_count) - (new_count - 1) / 2) * (new_step / step) + (count - 1) / 2
    reach = max(1.0, new_step / step)
    weights = np.clip(1 - np.abs(places[:, None] - np.arange(count)) / reach, 0, None)
    total = weights.sum(axis=1, keepdims=True)
    inside = (places >= -0.5 - 1e-9) & (places <= count - 0.5 + 1e-9)
    return np.where(inside[:, None], weights / np.where(total > 0, total, 1), 0)


def _size(shape: tuple[int, ...], pixels: Pixels, opt: Namespace, spacing: float) -> tuple[int, int]:
    if opt.preprocess.startswith("resize"):
        return opt.load_size, opt.load_size
    height, width = (max(int(np.ceil(n * old / spacing - 1e-6)), 1) for n, old in zip(shape, pixels, strict=True))
    return height, width


@lru_cache(maxsize=16)
def _tell_cropped(load_size: int, spacing: float) -> None:
    """Once a process and setting; `duiit data check` says in how many scans."""
    notice(f"fields of view larger than --load_size {load_size} x --spacing {spacing:g} mm are cropped about their "
           "centre; give a larger --load_size if anatomy lies outside (duiit data check says in which scans)")
