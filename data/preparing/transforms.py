"""Resize, crop and flip of prepared images, in upstream's words, with the random choices drawn in one place.

Images here are float32 arrays (C, H, W) in [-1, 1], or as they are stored, int16. `to_loading_size` is what happens to
an image once, `draw` and `apply` what happens to it anew at each visit.
"""
from argparse import Namespace
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F

BACKGROUND = -1.0                 # air in CT, nothing in MRI and PET
Image = TypeVar("Image", np.ndarray, torch.Tensor)      # tensors are images that a GPU keeps


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """(H, W) or (C, H, W) -> (channels, H, W): grey is replicated, colours are averaged to grey."""
    image = image[None] if image.ndim == 2 else image
    if image.shape[0] == channels:
        return image
    return np.repeat(image.mean(axis=0, keepdims=True), channels, axis=0)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with anti-aliasing, (C, H, W) float32 -> (C, height, width)."""
    if image.shape[-2:] == (height, width):
        return image
    tensor = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None]
    return F.interpolate(tensor, (height, width), mode="bilinear", antialias=True, align_corners=False)[0].numpy()


def loading_size(height: int, width: int, opt: Namespace) -> tuple[int, int]:
    """The size an image has before cropping, as --preprocess says."""
    if opt.preprocess == "resize_and_crop":
        return opt.load_size, opt.load_size
    if opt.preprocess.startswith("scale_width"):
        return max(round(height * opt.load_size / width), min(opt.crop_size, opt.load_size)), opt.load_size
    return height, width


def to_loading_size(image: np.ndarray, opt: Namespace) -> np.ndarray:
    height, width = image.shape[-2:]
    return resize(image, *loading_size(height, width, opt))


def draw(shape: tuple[int, ...], opt: Namespace, rng: np.random.Generator) -> tuple[int, int, bool]:
    """The random choices for one visit to an image of `shape` (C, H, W): (top, left, flip)."""
    top = left = 0
    if "crop" in opt.preprocess:
        top = int(rng.integers(max(shape[-2] - opt.crop_size, 0) + 1))
        left = int(rng.integers(max(shape[-1] - opt.crop_size, 0) + 1))
    return top, left, not opt.no_flip and bool(rng.integers(2))


def apply(image: Image, choices: tuple[int, int, bool], opt: Namespace, background: float = BACKGROUND) -> Image:
    """Crops and flips as drawn, as a view where it can. An image smaller than the crop is padded with `background`."""
    top, left, flip = choices
    if "crop" in opt.preprocess:
        image = pad_to(image, opt.crop_size, opt.crop_size, background)
        image = image[:, top:top + opt.crop_size, left:left + opt.crop_size]
    else:
        height, width = (round_up(n, 4) for n in image.shape[-2:])
        image = pad_to(image, height, width, background)
    if not flip:
        return image
    return image.flip(-1) if isinstance(image, torch.Tensor) else image[..., ::-1]


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def pad_to(image: Image, height: int, width: int, background: float = BACKGROUND) -> Image:
    """Centres (C, H, W) in at least (height, width) of background."""
    h, w = image.shape[-2:]
    down, right = max(height - h, 0), max(width - w, 0)
    if not down and not right:
        return image
    above, before = down // 2, right // 2
    if isinstance(image, torch.Tensor):
        return F.pad(image, (before, right - before, above, down - above), value=background)
    return np.pad(image, ((0, 0), (above, down - above), (before, right - before)), constant_values=background)


def crop_back(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The inverse of `pad_to` for an image that was (C, height, width) before."""
    top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
    return image[..., top:top + height, left:left + width]


def blend_neighbours(images: list[np.ndarray], reach: int) -> list[np.ndarray]:
    """Each image of one volume averaged with `reach` neighbours on either side, with weights that fall linearly.

    Damps the jumps that come from translating slice by slice, at the price of through-plane sharpness. At the ends of
    the volume the neighbours there are share the weight.
    """
    if reach == 0 or len(images) < 2:
        return images
    done = []
    for k in range(len(images)):
        near = range(max(k - reach, 0), min(k + reach + 1, len(images)))
        weights = [reach + 1 - abs(k - n) for n in near]
        done.append(np.average([images[n] for n in near], axis=0, weights=weights).astype(np.float32))
    return done
