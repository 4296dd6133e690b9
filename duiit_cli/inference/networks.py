"""Running trained networks over scans and prepared slices: what test, translate and predict share."""
import itertools
import math
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

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
R = TypeVar("R")
Images = Sequence[np.ndarray]           # each (C, H, W)
# Of the images that go through a network together on a CPU (16 of 64x64, one of 256x256). More leave its caches, and an
# image takes a tenth to a fifth longer (docs/performance.md).
CPU_PIXELS = 2**16


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

    @property
    def weight(self) -> int:
        """Bytes that its slices took as they were read."""
        return sum(4 * math.prod(s.image.shape) for s in self.slices)


def read(scan: Scan, modality: str, channels: int, opt: Namespace) -> PreparedScan:
    """Reads and prepares one scan just as training does, without the crop and the flip."""
    loader = loader_of(modality)
    done, intensity = prepared_scan(scan, lambda s: loader.prepare(s, opt), fixed_windows(opt), channels, opt)
    slices, images, empty = (list(column) for column in zip(*done, strict=True))
    return PreparedScan(scan, slices, images, empty, intensity)


def in_batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`size` items at a time: what is made of them need not be held together."""
    return (items[first:first + size] for first in range(0, len(items), size))


class Batches(Generic[T, R]):
    """Images of one scan after another through a network, in batches that go on from scan to scan: short scans leave
    none half empty. A batch ends where the next image has another size.

    In which batch an image is may change the last bits of what is made of it (transposed convolutions sum up in another
    order), by some 1e-6 of [-1, 1].
    """

    def __init__(self, run: Callable[[Images], Sequence[R]], size: int) -> None:
        """run: a batch of images (C, H, W) of one size -> what is made of each. size: images a batch."""
        self.run, self.size = run, size
        self._batch: list[np.ndarray] = []
        self._open: deque[tuple[T, int, list[R]]] = deque()      # (scan, its images, what is made of the first ones)

    def add(self, scan: T, images: Iterable[np.ndarray]) -> Iterator[tuple[T, list[R]]]:
        """Takes the images of a scan; yields (scan, what is made of each) of those that are done now, in order."""
        left = deque(images)
        self._open.append((scan, len(left), []))
        while left:
            image = left.popleft()                  # let go as soon as its batch is done
            if self._batch and self._batch[0].shape != image.shape:
                self._run()
            self._batch.append(image)
            if len(self._batch) == self.size:
                self._run()
        return self._done()

    def flush(self) -> Iterator[tuple[T, list[R]]]:
        """The scans that are not done yet, with the last batch as full as it is."""
        if self._batch:
            self._run()
        return self._done()

    def _run(self) -> None:
        results = iter(self.run(self._batch))
        self._batch = []
        for _, count, made in self._open:
            made += itertools.islice(results, count - len(made))

    def _done(self) -> Iterator[tuple[T, list[R]]]:
        while self._open and self._open[0][1] == len(self._open[0][2]):
            scan, _, made = self._open.popleft()
            yield scan, made


def translating(net: Module, opt: Namespace, device: torch.device) -> Callable[[Images], list[np.ndarray]]:
    """What `Batches` runs to translate: images (C, H, W) in [-1, 1] -> translated ones of the same size.

    Each is padded with background to a size that the generator takes and cropped back, so that anatomy keeps the scale
    it had in training (a resize to --crop_size would change it by load_size / crop_size).
    """
    step = networks.size_multiple(opt.netG)

    @torch.inference_mode()
    def run(batch: Images) -> list[np.ndarray]:
        height, width = batch[0].shape[-2:]
        padded = [transforms.pad_to(i, *(transforms.round_up(max(n, 2 * step), step) for n in (height, width)))
                  for i in batch]
        outputs = (net(some).float().cpu().numpy() for some in _on_device(padded, device))     # (N, C, H', W')
        return [transforms.crop_back(o, height, width) for output in outputs for o in output]

    return run


def asking(net: Module, opt: Namespace, device: torch.device) -> Callable[[Images], list[np.ndarray]]:
    """What `Batches` runs to predict: images (C, H, W) in [-1, 1] -> of each a label, or (K,) class probabilities, as
    float64."""
    @torch.inference_mode()
    def run(batch: Images) -> list[np.ndarray]:
        outputs = (net(some) for some in _on_device(batch, device))
        return [answer for output in outputs for answer in
                (output.softmax(1) if opt.task == "classification" else output).double().cpu().numpy()]

    return run


def _on_device(batch: Images, device: torch.device) -> Iterator[torch.Tensor]:
    """The batch (N, C, H, W), on a CPU in as small parts as it is quickest with."""
    several = max(1, CPU_PIXELS // math.prod(batch[0].shape[-2:])) if torch.device(device).type == "cpu" else len(batch)
    return (torch.from_numpy(np.stack(some)).to(device) for some in in_batches(batch, several))


def translate(net: Module, images: Iterable[np.ndarray], opt: Namespace, device: torch.device) -> list[np.ndarray]:
    """Images (C, H, W) in [-1, 1] -> translated ones of the same size, in batches."""
    return _of_all(translating(net, opt, device), images, opt.batch_size)


def predict(net: Module, images: Iterable[np.ndarray], opt: Namespace, device: torch.device) -> np.ndarray:
    """Images (C, H, W) in [-1, 1], of one size or several -> (N,) labels, or (N, K) class probabilities, as float64."""
    return as_answers(_of_all(asking(net, opt, device), images, opt.batch_size), opt)


def as_answers(made: Sequence[np.ndarray], opt: Namespace) -> np.ndarray:
    """What `asking` made of each image, in one array: (N,) labels, or (N, K) class probabilities."""
    shape = (0, len(opt.facts.classes)) if opt.task == "classification" else 0
    return np.stack(made) if made else np.zeros(shape)


def _of_all(run: Callable[[Images], Sequence[R]], images: Iterable[np.ndarray], size: int) -> list[R]:
    batches = Batches[None, R](run, size)
    return [made for _, some in [*batches.add(None, images), *batches.flush()] for made in some]
