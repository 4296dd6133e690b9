"""What every data set is: upstream's contract, which plug-in files rely on, with its PIL transforms.

The project's own data sets work on arrays of any depth (data/preparing/transforms.py); `get_params` and
`get_transform` here
serve data sets that were written for the toolkit and open their images with PIL.
"""
import random
from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from duiit.data.preparing.transforms import loading_size, round_up
from duiit.util.errors import UserError

if TYPE_CHECKING:           # torchvision takes as long as torch: only who asks for its transforms waits for it
    from PIL.Image import Image
    from torchvision.transforms import v2


class BaseDataset(torch.utils.data.Dataset[dict[str, Any]], ABC):
    """A subclass implements __init__(opt), __len__ and __getitem__(index) -> dict of tensors in [-1, 1] and paths."""

    # True for data sets that serve from prepared cohorts. Their items are ready sooner than a worker process could hand
    # them over, so the loader uses none; and it lets `collate` make the batch.
    prepared = False
    collate: Callable[..., Any] | None = None

    def __init__(self, opt: Namespace) -> None:
        self.opt = opt
        self.root = opt.dataroot

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        return parser

    @abstractmethod
    def __len__(self) -> int:
        """Images in an epoch."""

    @abstractmethod
    def __getitem__(self, index: int) -> dict[str, Any]:
        """One item: a dict."""


def get_params(opt: Namespace, size: tuple[int, int]) -> dict[str, Any]:
    """Random crop position and flip for an image of `size` (width, height): {"crop_pos": (x, y), "flip": bool}."""
    height, width = loading_size(size[1], size[0], opt)
    x = random.randint(0, max(0, width - opt.crop_size))
    y = random.randint(0, max(0, height - opt.crop_size))
    return {"crop_pos": (x, y), "flip": random.random() > 0.5}


def get_transform(opt: Namespace, params: Mapping[str, Any] | None = None, grayscale: bool = False,
                  method: "v2.InterpolationMode | None" = None, convert: bool = True) -> "v2.Compose":
    """PIL image -> tensor (C, H, W) in [-1, 1] (or still PIL with convert=False), as --preprocess and --no_flip say.

    Without `params`, the crop and the flip are drawn here. method: of resizing, bicubic unless said otherwise.
    """
    from torchvision.transforms import v2

    if getattr(opt, "spacing", None) is not None:
        raise UserError(f"--spacing {opt.spacing:g}: a data set of images without geometry, such as this plug-in's, "
                        "cannot be brought to a spacing; leave it out")
    steps = [v2.Grayscale(1)] if grayscale else []
    # Nowhere a lambda: a loader process may have to unpickle the steps.
    steps.append(v2.Lambda(partial(_resized, opt=opt, method=method or v2.InterpolationMode.BICUBIC)))
    if "crop" in opt.preprocess:
        steps.append(v2.RandomCrop(opt.crop_size) if params is None else
                     v2.Lambda(partial(_cropped, left_top=params["crop_pos"], size=opt.crop_size)))
    if opt.preprocess == "none":
        steps.append(v2.Lambda(_to_multiples))
    if not opt.no_flip:
        steps.append(v2.RandomHorizontalFlip(0.5 if params is None else float(params["flip"])))
    if convert:
        half = [0.5] if grayscale else [0.5] * 3
        steps += [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(half, half)]
    return v2.Compose(steps)


def _resized(image: "Image", opt: Namespace, method: "v2.InterpolationMode") -> "Image":
    from torchvision.transforms.v2.functional import resize

    height, width = loading_size(image.height, image.width, opt)
    return image if (width, height) == image.size else resize(image, [height, width], method)


def _cropped(image: "Image", left_top: tuple[int, int], size: int) -> "Image":
    left, top = left_top
    return image.crop((left, top, left + size, top + size))


def _to_multiples(image: "Image") -> "Image":
    width, height = image.size
    return image.resize((round_up(width, 4), round_up(height, 4)))
