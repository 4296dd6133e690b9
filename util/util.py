"""Small helpers under the names that models and data sets written for the upstream toolkit import (`util.util`)."""
import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from duiit.util.files import atomic_path

logger = logging.getLogger(__name__)


def tensor2im(input_image: Any, imtype: type[np.generic] = np.uint8) -> np.ndarray:
    """The first image of a batch (N, C, H, W), or a single (C, H, W) or (H, W), from [-1, 1] to H x W x 3 in 0..255.

    One channel is shown in gray. Two are shown as magenta and green, so that where they agree the picture is gray; of
    more than three the first three are shown. An array is taken for an image already and only changes its type.
    """
    if isinstance(input_image, np.ndarray):
        return input_image.astype(imtype)
    if not isinstance(input_image, torch.Tensor):
        return input_image
    image = input_image.detach()
    if image.ndim == 4:
        image = image[0]
    elif image.ndim == 2:
        image = image[None]
    if image.ndim != 3:
        raise ValueError(f"an image has the shape (N, C, H, W), (C, H, W) or (H, W), not {tuple(input_image.shape)}")
    channels = {1: [0, 0, 0], 2: [0, 1, 0]}.get(image.shape[0], [0, 1, 2])
    pixels = image[channels].float().cpu().numpy().transpose(1, 2, 0)  # (H, W, 3)
    pixels = (np.nan_to_num(pixels, nan=-1.0, posinf=1.0, neginf=-1.0) + 1) / 2 * 255
    if np.issubdtype(imtype, np.integer):
        # Values a little outside [-1, 1] are kept at the ends: an unclipped cast would wrap white to black.
        pixels = np.rint(pixels.clip(0, 255))
    return pixels.astype(imtype)


def save_image(image_numpy: np.ndarray, image_path: str | PathLike[str], aspect_ratio: float = 1.0) -> None:
    """Write an H x W or H x W x 3 uint8 array; `aspect_ratio` above 1 widens it, below 1 makes it taller."""
    image = Image.fromarray(image_numpy)
    width, height = image.size
    if aspect_ratio > 1.0:
        image = image.resize((round(width * aspect_ratio), height), Image.Resampling.BICUBIC)
    elif aspect_ratio < 1.0:
        image = image.resize((width, round(height / aspect_ratio)), Image.Resampling.BICUBIC)
    with atomic_path(image_path, durable=False) as temporary:
        image.save(temporary, compress_level=3)  # half the time of the usual 6, at the same size


def diagnose_network(net: torch.nn.Module, name: str = "network") -> float:
    """Log and return the mean absolute gradient over a network's parameters (0 where none has a gradient)."""
    gradients = [p.grad.abs().mean().item() for p in net.parameters() if p.grad is not None]
    mean = sum(gradients) / len(gradients) if gradients else 0.0
    logger.info("%s: mean absolute gradient %.3g over %d parameters", name, mean, len(gradients))
    return mean


def print_numpy(x: np.ndarray, val: bool = True, shp: bool = False) -> None:
    """Log the shape and the statistics of an array, under upstream's name."""
    x = np.asarray(x).astype(np.float64)
    if shp:
        logger.info("shape %s", x.shape)
    if val:
        x = x.ravel()
        logger.info(
            "mean = %3.3f, min = %3.3f, max = %3.3f, median = %3.3f, std = %3.3f",
            x.mean(), x.min(), x.max(), np.median(x), x.std(),
        )


def mkdirs(paths: str | PathLike[str] | Sequence[str | PathLike[str]]) -> None:
    """Make a folder, or each of a list of folders, with their parents."""
    for path in [paths] if isinstance(paths, (str, PathLike)) else paths:
        mkdir(path)


def mkdir(path: str | PathLike[str]) -> None:
    """Make one folder with its parents, unless it is there."""
    Path(path).mkdir(parents=True, exist_ok=True)


def str2bool(value: object) -> bool:
    """`yes`, `true`, `t`, `y`, `1`, `on` and their opposites, for options of the form `--flag true`."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("yes", "true", "t", "y", "1", "on"):
        return True
    if text in ("no", "false", "f", "n", "0", "off"):
        return False
    raise ValueError(f"{value!r} is neither yes nor no")
