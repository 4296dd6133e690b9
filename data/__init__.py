"""Data sets: from folders of medical images to batches. `--dataset_mode foo_bar` is `FooBarDataset` in
`data/foo_bar_dataset.py`, here or in the `--plugins` folder."""
import argparse
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from duiit.util import distributed, plugins
from duiit.util.errors import UserError

if TYPE_CHECKING:
    from duiit.data.base_dataset import BaseDataset

plugins.extend(__name__)


def find_dataset_using_name(name: str) -> "type[BaseDataset]":
    """The BaseDataset subclass behind `--dataset_mode name`. Raises UserError that lists what exists."""
    from duiit.data.base_dataset import BaseDataset

    refusal = "--dataset_mode", f"no such data set; there are {', '.join(dataset_names())}"
    return plugins.find_class(__name__, name, "dataset", BaseDataset, refusal)


def dataset_names() -> list[str]:
    """Data sets that `--dataset_mode` takes: those that serve pairs or labelled images, not single modalities."""
    return [n for n in plugins.names(__name__, "dataset") if n not in ("base", "modality", "mri", "ct", "pet")]


def get_option_setter(name: str) -> Callable[[argparse.ArgumentParser, bool], argparse.ArgumentParser]:
    """The static method by which the data set of that name declares its options. Raises UserError."""
    return find_dataset_using_name(name).modify_commandline_options


def create_dataset(opt: argparse.Namespace) -> "CustomDatasetDataLoader":
    """The data set that opt.dataset_mode names, behind a loader that yields batches (dicts)."""
    return CustomDatasetDataLoader(find_dataset_using_name(opt.dataset_mode)(opt), opt)


class EpochSampler(torch.utils.data.Sampler[int]):
    """The order of one epoch, drawn from (seed, epoch) alone, so that a stopped run can go on in the middle of it.

    length: images in an epoch; where it is not `size`, the data set is gone through as often as that takes.
    share: (batch, rank, ranks) where several processes divide each batch of so many images among them.
    """

    def __init__(self, size: int, shuffle: bool, seed: int, length: int | None = None,
                 share: tuple[int, int, int] | None = None) -> None:
        self.size, self.shuffle, self.seed, self.length, self.share = size, shuffle, seed, length or size, share
        self.epoch, self.skip = 0, 0

    def __len__(self) -> int:
        return (self.length - self.skip) // (self.share[2] if self.share else 1)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        rounds = -(-self.length // self.size) if self.size else 0
        order = [rng.permutation(self.size) if self.shuffle else np.arange(self.size) for _ in range(rounds)]
        order = np.concatenate(order)[self.skip:self.length] if order else np.arange(0)
        return iter((self._mine(order, self.share) if self.share else order).tolist())

    @staticmethod
    def _mine(order: np.ndarray, share: tuple[int, int, int]) -> np.ndarray:
        batch, rank, ranks = share
        return order[:len(order) // batch * batch].reshape(-1, ranks, batch // ranks)[:, rank].reshape(-1)


class _SeededItems(torch.utils.data.Dataset[dict[str, Any]]):
    """What loader processes serve: each item is drawn under global generators that are seeded by (seed, epoch, index).

    Data sets written for the toolkit draw from those. Served without loader processes, they draw from this process's
    own, which a training state holds.
    """

    def __init__(self, dataset: "BaseDataset", seed: int, sampler: EpochSampler) -> None:
        self.dataset, self.seed, self.sampler = dataset, seed, sampler

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        drawn = int(np.random.SeedSequence([self.seed, self.sampler.epoch, index]).generate_state(1)[0])
        random.seed(drawn)
        np.random.seed(drawn)               # noqa: NPY002
        torch.manual_seed(drawn)
        return self.dataset[index]


class CustomDatasetDataLoader:
    """Batches of a data set. len() counts images, as upstream's does.

    In training by several processes each serves its share of every batch: --batch_size is that of all together.
    """

    def __init__(self, dataset: Any, opt: argparse.Namespace) -> None:
        self.dataset, self.opt = dataset, opt
        size = int(min(len(dataset), opt.max_dataset_size))
        length = opt.steps_per_epoch * opt.batch_size if opt.isTrain else 0
        ranks = distributed.ranks() if opt.isTrain else 1
        share = (opt.batch_size, distributed.rank(), ranks) if ranks > 1 else None
        self.sampler = EpochSampler(size, opt.isTrain and not opt.serial_batches, opt.seed, length, share)
        if share:
            _check_share(opt.batch_size, ranks, self.sampler.length)
        # A last batch of one image breaks BatchNorm; the images it leaves out come up in another epoch.
        drop_last = opt.isTrain and size >= opt.batch_size
        prepared = getattr(dataset, "prepared", False)
        if prepared and opt.isTrain:
            dataset.keep_pixels()
        decodes = size > opt.batch_size and not prepared
        workers = min(opt.num_threads, torch.multiprocessing.cpu_count()) if decodes else 0
        served = _SeededItems(dataset, opt.seed, self.sampler) if workers else dataset
        self.loader = torch.utils.data.DataLoader(
            served, opt.batch_size // ranks, sampler=self.sampler, num_workers=workers, drop_last=drop_last,
            collate_fn=getattr(dataset, "collate", None),
            pin_memory=not prepared and str(opt.device).startswith("cuda"),     # prepared batches are there already
            generator=torch.Generator().manual_seed(opt.seed))
        if opt.isTrain:
            opt.facts = replace(opt.facts, batches_in_epoch=self.batches)

    def set_epoch(self, epoch: int, skip_batches: int = 0) -> None:
        """Selects the epoch to serve next, from its first batch or after `skip_batches`."""
        self.sampler.epoch = epoch
        self.sampler.skip = skip_batches * self.opt.batch_size
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    @property
    def batches(self) -> int:
        """Batches in a whole epoch."""
        images, batch = self.sampler.length, self.opt.batch_size
        return images // batch if self.loader.drop_last else -(-images // batch)

    def load_data(self) -> Self:
        return self

    def __len__(self) -> int:
        return self.sampler.size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.loader)


def _check_share(batch: int, ranks: int, images: int) -> None:
    if batch % ranks:
        raise UserError(f"--batch_size {batch} cannot be divided among {ranks} processes: give a multiple of {ranks}")
    if images < batch:
        raise UserError(f"--batch_size {batch}: there are {images} images to train on, and {ranks} processes need "
                        "whole batches; give a smaller one, or train in one process")
