"""Running trained networks over scans and prepared slices: what test, translate and predict share."""
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn import Module

from duiit.data.modality_dataset import loader_of
from duiit.data.preparing import transforms
from duiit.data.preparing.cohort import prepared_scan
from duiit.data.preparing.intensity import Intensity, fixed_windows
from duiit.data.readers.slice import Scan, Slice
from duiit.data.unaligned_dataset import SIDES
from duiit.models import create_model, networks
from duiit.util.errors import UserError

T = TypeVar("T")


def load_model(opt: Namespace, needs: str | None) -> Any:
    """The run's model, ready to use: weights loaded, in eval mode. needs: "translator", "predictor" or None."""
    model = create_model(opt)
    if needs:
        refuse_without(model, needs, opt)
    model.setup(opt)
    model.eval()
    return model


def refuse_without(model: Any, needs: str, opt: Namespace) -> None:
    """Raises UserError where the run's model has no "translator" or "predictor"."""
    if not hasattr(model, needs):
        raise UserError(f"--name {opt.name}: a run of --model {opt.model} has no {needs}")


def target_intensity(opt: Namespace) -> Intensity:
    """How the target's [-1, 1] goes back to its unit: the CT window that was trained on, or the median range of the
    training scans."""
    return Intensity(*opt.facts.need("target_range"))


def own_scans(opt: Namespace, modality: str) -> list[Scan]:
    """The labelled scans of one modality in the run's own data, under --dataroot. Raises UserError."""
    root = Path(opt.dataroot)
    if opt.dataset_mode == "unaligned":
        return SIDES[modality].find_scans(root, opt)
    return loader_of(modality).find_scans(root / modality, opt)


@dataclass
class PreparedScan:
    """One scan as the networks take it: its slices, their images (C, H, W) in [-1, 1], which are empty, its range."""
    scan: Scan
    slices: list[Slice]
    images: list[np.ndarray]
    empty: list[bool]
    intensity: Intensity


def read(scan: Scan, modality: str, channels: int, opt: Namespace) -> PreparedScan:
    """Reads and prepares one scan just as training does, without the crop and the flip."""
    loader = loader_of(modality)
    done, intensity = prepared_scan(scan, lambda s: loader.prepare(s, opt), fixed_windows(opt), channels, opt)
    slices, images, empty = (list(column) for column in zip(*done, strict=True))
    return PreparedScan(scan, slices, images, empty, intensity)


def in_batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`size` items at a time: what is made of them need not be held together."""
    return (items[first:first + size] for first in range(0, len(items), size))


@torch.no_grad()
def translate(net: Module, images: Sequence[np.ndarray], opt: Namespace, device: torch.device) -> list[np.ndarray]:
    """Images (C, H, W) in [-1, 1] of any one size -> translated ones of the same size, in batches.

    Each is padded with background to a size that the generator takes and cropped back, so that anatomy keeps the scale
    it had in training (a resize to --crop_size would change it by load_size / crop_size).
    """
    step = networks.size_multiple(opt.netG)
    done = []
    for first in range(0, len(images), opt.batch_size):
        batch = images[first:first + opt.batch_size]
        height, width = batch[0].shape[-2:]
        padded = [transforms.pad_to(i, *(transforms.round_up(max(n, 2 * step), step) for n in (height, width)))
                  for i in batch]
        output = net(torch.from_numpy(np.stack(padded)).to(device)).float().cpu().numpy()     # (N, C, H', W')
        done += [transforms.crop_back(o, height, width) for o in output]
    return done


@torch.no_grad()
def predict(net: Module, images: Sequence[np.ndarray], opt: Namespace, device: torch.device) -> np.ndarray:
    """Images (C, H, W) in [-1, 1] -> (N,) labels, or (N, K) class probabilities, as float64."""
    if not images:
        return np.zeros((0, len(opt.facts.classes))) if opt.task == "classification" else np.zeros(0)
    answers = []
    for first in range(0, len(images), opt.batch_size):
        batch = torch.from_numpy(np.stack(images[first:first + opt.batch_size])).to(device)
        output = net(batch)
        answers.append((output.softmax(1) if opt.task == "classification" else output).double().cpu().numpy())
    return np.concatenate(answers)
