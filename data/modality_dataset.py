"""One modality: its scans, labels and prepared slices. `mri`, `ct` and `pet` know how their data sets are distributed;
a folder of any other name is read by the base class here.

The data sets that serve batches (cross_modality, unaligned, labelled) are put together from these.
"""
import logging
from abc import abstractmethod
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from duiit.data import splits
from duiit.data.base_dataset import BaseDataset
from duiit.data.preparing import augmentation, cohort, transforms
from duiit.data.preparing.augmentation import Drawn
from duiit.data.preparing.cohort import Row
from duiit.data.preparing.keeping import keep_pixels
from duiit.data.readers.labels import find_labelled_scans
from duiit.data.readers.slice import Label, Scan, Slice
from duiit.util.errors import UserError

log = logging.getLogger(__name__)


class ModalityDataset(BaseDataset):
    """The slices of one modality as items {image, label, path}.

    image: float32 (channels, H, W) in [-1, 1], cropped and flipped when training. label: float (NaN where missing) or
    class number (-1 where missing). `rows` says what is known of each slice and may be narrowed with `keep`.
    """

    modality: str | None = None

    def __init__(self, opt: Namespace, root: str | Path | None = None, channels: int | None = None) -> None:
        super().__init__(opt)
        self.folder = Path(root or opt.dataroot)
        self.augment = getattr(opt, "augment", "none")          # declared by models that train a predictor alone
        augmentation.check(self.augment, channels or opt.input_nc)
        self.scans = self.find_scans(self.folder, opt)
        name = self.modality or self.folder.name
        self.cohort = cohort.prepare(self.scans, lambda s: self.prepare(s, opt), name, channels or opt.input_nc, opt)
        self.rows = [r for r in self.cohort.rows if opt.keep_empty or not r.empty]
        if not self.rows:
            raise UserError(f"{self.folder}: every slice is constant or almost empty; --keep_empty takes them "
                            "all the same")
        self.epoch = 0
        self.pixels: np.ndarray | torch.Tensor | None = None    # the cohort's, where they are kept in memory

    @classmethod
    def find_scans(cls, root: Path, opt: Namespace) -> list[Scan]:
        """Scans under `root` with their labels, in natural order. Raises UserError where there are none."""
        return find_labelled_scans(Path(root), opt)

    @classmethod
    def prepare(cls, s: Slice, opt: Namespace) -> Slice:
        """What one slice needs after reading, before its intensities are scaled."""
        return s

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def keep(self, rows: Iterable[Row]) -> Self:
        self.rows = list(rows)
        return self

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return collate([self.item(index, np.random.default_rng([self.opt.seed, self.epoch, index]))], single=True)

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """The slice at `index`; in training with the crop, flip and augmentation that `rng` draws, else whole.

        The image is as it is stored, and `Drawn`: `collate` makes floats of a whole batch at once, and augments it,
        which is quicker.
        """
        row = self.rows[index]
        image = self.cohort.stored(row) if self.pixels is None else cohort.pixels_of(row, self.pixels)
        drawn = Drawn(image)
        if trains(self.opt):
            choices = transforms.draw(image.shape, self.opt, rng)
            image = transforms.apply(image, choices, self.opt, round(transforms.BACKGROUND * cohort.STEP))
            drawn = Drawn(image, self.augment, augmentation.draw(self.augment, image.shape, rng))
        return {"image": drawn, "label": encode_label(row.label, self.opt), "path": f"{self.folder}/{row.file}"}


def trains(opt: Namespace) -> bool:
    """Whether images are served to learn from, rather than to be looked at whole."""
    return bool(opt.isTrain and opt.phase == "train")


def collate(items: Sequence[Mapping[str, Any]], device: str = "cpu", single: bool = False) -> dict[str, Any]:
    """Items as the data sets draw them -> a batch: images as float32 tensors (N, C, H, W) in [-1, 1], labels as tensors
    (N,), both on `device`, paths as lists. single: the one item without the batch dimension."""
    batch: dict[str, Any] = {}
    for key, first in items[0].items():
        values: Any = [item[key] for item in items]
        if isinstance(first, Drawn):
            stored = _on(device, _stacked([v.stored for v in values]))
            values = augmentation.augment(stored, first.kind, [v.choices for v in values])
        elif isinstance(first, torch.Tensor):
            values = _on(device, torch.stack(values))
        batch[key] = values[0] if single else values
    return batch


def _stacked(images: list[Any]) -> torch.Tensor:
    return torch.stack(images) if isinstance(images[0], torch.Tensor) else torch.from_numpy(np.stack(images))


def _on(device: str, batch: torch.Tensor) -> torch.Tensor:
    """There; a GPU takes it out of pinned memory, and nobody waits for that."""
    if device.startswith("cuda") and batch.device.type == "cpu":
        return batch.pin_memory().to(device, non_blocking=True)
    return batch.to(device)


class PreparedDataset(BaseDataset):
    """What the data sets that are put together from modalities have in common. A subclass fills `members` and `target`,
    `rows` and `parts` (all rows of the modalities that are split, and the part of each), and implements __len__,
    `narrow` and `_draw`."""

    prepared = True
    epoch = 0
    members: dict[str, ModalityDataset]
    target: str
    rows: Mapping[str, list[Row]]
    parts: splits.Parts

    def part_of(self, modality: str, part: str) -> list[Row]:
        """The rows of a modality that are in one part of the split."""
        return [r for r, p in zip(self.rows[modality], self.parts[modality], strict=True) if p == part]

    def target_part(self, part: str) -> list[Row]:
        """The target's rows of any part of the split."""
        return self.part_of(self.target, part)

    @abstractmethod
    def narrow(self, part: str) -> None:
        """From now on only the images of this part of the split are served."""

    @abstractmethod
    def _draw(self, index: int) -> dict[str, Any]:
        """One item, its images as they are stored."""

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def keep_pixels(self) -> None:
        """Brings what is trained on to where --cache says, if that is not the disk."""
        kept = keep_pixels([m.cohort for m in self.members.values()], self.opt.cache, self.opt.device)
        for member, pixels in zip(self.members.values(), kept, strict=True):
            member.pixels = pixels

    def collate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Items -> a batch, on the device that trains where that is a GPU."""
        return collate(items, self.opt.device if trains(self.opt) and self.opt.device.startswith("cuda") else "cpu")

    def __getitem__(self, index: int) -> dict[str, Any]:
        return collate([self._draw(index)], single=True)

    def __getitems__(self, indices: Iterable[int]) -> list[dict[str, Any]]:
        """A batch's items as they are drawn, for `collate`: what torch's loader asks for where it can."""
        return [self._draw(index) for index in indices]

    def held_out(self, part: str) -> torch.utils.data.DataLoader[dict[str, Any]]:
        """Loader of the target's slices of a part of the split, whole and in order."""
        return TargetImages(self.members[self.target], self.target_part(part)).loader()


class TargetImages(torch.utils.data.Dataset[dict[str, Any]]):
    """Slices of the target as items {B, B_label, B_paths, B_patients, B_scans}, whole and in order: for validation and
    testing."""

    def __init__(self, member: ModalityDataset, rows: Iterable[Row]) -> None:
        self.member, self.rows = member, list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row, member = self.rows[index], self.member
        return {"B": torch.from_numpy(member.cohort.image(row)), "B_label": encode_label(row.label, member.opt),
                "B_paths": str(member.folder / row.file), "B_patients": row.patient, "B_scans": row.scan}

    def loader(self) -> torch.utils.data.DataLoader[dict[str, Any]]:
        """Batches of opt.batch_size, or single images where sizes are mixed."""
        size = self.member.opt.batch_size if len({r.shape for r in self.rows}) <= 1 else 1
        return torch.utils.data.DataLoader(self, size)


def loader_of(modality: str) -> type[ModalityDataset]:
    """The ModalityDataset subclass for a folder of this name, large letters or small (`CT` is `ct`): the one in
    data/<modality>_dataset.py, or the generic."""
    modality = modality.lower()
    if modality.isidentifier() and find_spec(f"duiit.data.{modality}_dataset"):
        module = import_module(f"duiit.data.{modality}_dataset")
        for cls in vars(module).values():
            if isinstance(cls, type) and issubclass(cls, ModalityDataset) and cls.modality == modality:
                return cls
    return ModalityDataset


def check_batches(name: str | Path, rows: Sequence[Row], opt: Namespace) -> None:
    """UserError where there is nothing to train on, or where the images of one batch could differ in size."""
    if not rows:
        raise UserError(f"{name}: no image is left to train on; its patients are all held out (see "
                        "--val_fraction, --test_fraction, --source_test_fraction)")
    shapes = sorted({tuple(transforms.round_up(n, 4) for n in r.shape[-2:]) for r in rows})
    if opt.batch_size > 1 and "crop" not in opt.preprocess and len(shapes) > 1:
        sizes = " and ".join(f"{h}x{w}" for h, w in (shapes[0], shapes[-1]))
        raise UserError(f"{name}: --preprocess {opt.preprocess} leaves images of {sizes}, which do not go into one "
                        "batch: give --batch_size 1, or a --preprocess that crops")


def encode_label(label: Label, opt: Namespace) -> torch.Tensor:
    """float32 scalar tensor, NaN where missing; or the class number as int64, -1 where missing."""
    if opt.task == "classification":
        classes = opt.facts.need("classes")
        return torch.tensor(classes.index(label) if label in classes else -1)
    return torch.tensor(float("nan") if label is None else float(label), dtype=torch.float32)


def label_facts(rows: Iterable[Row], opt: Namespace) -> dict[str, Any]:
    """{name: value} of the Facts about the training labels: labels_known, and label_mean and label_std, or classes."""
    labels = [r.label for r in rows if r.label is not None]
    if opt.task == "classification":
        classes = tuple(sorted(set(labels)))
        if len(classes) == 1:
            raise UserError(f"every label is {classes[0]!r}: a classification needs at least two classes")
        return {"labels_known": len(labels), "classes": classes}
    mean, std = _mean_and_deviation(labels)
    return {"labels_known": len(labels), "label_mean": mean, "label_std": std}


def label_stats(rows: Iterable[Row], opt: Namespace) -> dict[str, Any]:
    """{known, mean, std} of one modality's labels, without the last two where labels are classes."""
    labels = [r.label for r in rows if r.label is not None]
    if opt.task == "classification":
        return {"known": len(labels)}
    mean, std = _mean_and_deviation(labels)
    return {"known": len(labels), "mean": mean, "std": std}


def _mean_and_deviation(labels: Sequence[Any]) -> tuple[float, float]:
    if not labels:
        return 0.0, 1.0
    return float(np.mean(labels)), float(np.std(labels)) or 1.0


def typical_range(rows: Sequence[Row]) -> tuple[float, float, str]:
    """(low, high, unit) of a scan in the middle of these rows' scans: how [-1, 1] goes back to their unit."""
    return float(np.median([r.low for r in rows])), float(np.median([r.high for r in rows])), rows[0].unit


def report_labels(name: str, rows: Sequence[Row]) -> None:
    """Logs how many training images of a modality carry a label."""
    known = sum(r.label is not None for r in rows)
    log.info("%s: %d images of %d patients to train on, %d without a label", name, len(rows),
             len({r.patient for r in rows}), len(rows) - known)
