"""Data sets: from folders of medical images to batches. `--dataset_mode foo_bar` is `FooBarDataset` in
`data/foo_bar_dataset.py`."""
import random
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from inspect import isabstract
from pathlib import Path

import numpy as np
import torch

from util.errors import UserError


def find_dataset_using_name(name):
    """The BaseDataset subclass behind `--dataset_mode name`. Raises UserError that lists what exists."""
    from data.base_dataset import BaseDataset

    wanted = name.replace("_", "") + "dataset"
    if not name.isidentifier() or find_spec(f"data.{name}_dataset") is None:
        raise UserError(f"--dataset_mode {name}: no such data set; there are {', '.join(dataset_names())}")
    module = import_module(f"data.{name}_dataset")
    for member, cls in vars(module).items():
        if member.lower() == wanted and isinstance(cls, type) and issubclass(cls, BaseDataset) and not isabstract(cls):
            return cls
    raise UserError(f"--dataset_mode {name}: {module.__file__} holds no BaseDataset whose lower-case name is {wanted}")


def dataset_names():
    """Data sets that `--dataset_mode` takes: those that serve pairs or labelled images, not single modalities."""
    names = sorted(p.stem.removesuffix("_dataset") for p in Path(__file__).parent.glob("*_dataset.py"))
    return [n for n in names if n not in ("base", "modality", "mri", "ct", "pet")]


def get_option_setter(name):
    """The static method by which the data set of that name declares its options. Raises UserError."""
    return find_dataset_using_name(name).modify_commandline_options


def create_dataset(opt):
    """The data set that opt.dataset_mode names, behind a loader that yields batches (dicts)."""
    return CustomDatasetDataLoader(find_dataset_using_name(opt.dataset_mode)(opt), opt)


class EpochSampler(torch.utils.data.Sampler):
    """The order of one epoch, drawn from (seed, epoch) alone, so that a stopped run can go on in the middle of it.

    length: images in an epoch; where it is not `size`, the data set is gone through as often as that takes.
    """

    def __init__(self, size, shuffle, seed, length=None):
        self.size, self.shuffle, self.seed, self.length = size, shuffle, seed, length or size
        self.epoch, self.skip = 0, 0

    def __len__(self):
        return self.length - self.skip

    def __iter__(self):
        rng = np.random.default_rng([self.seed, self.epoch])
        rounds = -(-self.length // self.size) if self.size else 0
        order = [rng.permutation(self.size) if self.shuffle else np.arange(self.size) for _ in range(rounds)]
        return iter(np.concatenate(order)[self.skip:self.length].tolist() if order else [])


def _seed_worker(seed, sampler, worker):
    """For data sets that draw from the global generators (those written for the toolkit do)."""
    drawn = int(np.random.SeedSequence([seed, sampler.epoch, worker]).generate_state(1)[0])
    random.seed(drawn)
    np.random.seed(drawn)               # noqa: NPY002
    torch.manual_seed(drawn)


class CustomDatasetDataLoader:
    """Batches of a data set. len() counts images, as upstream's does."""

    def __init__(self, dataset, opt):
        self.dataset, self.opt = dataset, opt
        size = int(min(len(dataset), opt.max_dataset_size))
        length = opt.steps_per_epoch * opt.batch_size if opt.isTrain else 0
        self.sampler = EpochSampler(size, opt.isTrain and not opt.serial_batches, opt.seed, length)
        # A last batch of one image breaks BatchNorm; the images it leaves out come up in another epoch.
        drop_last = opt.isTrain and size >= opt.batch_size
        decodes = size > opt.batch_size and not getattr(dataset, "prepared", False)
        workers = min(opt.num_threads, torch.multiprocessing.cpu_count()) if decodes else 0
        self.loader = torch.utils.data.DataLoader(
            dataset, opt.batch_size, sampler=self.sampler, num_workers=workers, drop_last=drop_last,
            collate_fn=getattr(dataset, "collate", None), worker_init_fn=partial(_seed_worker, opt.seed, self.sampler), pin_memory=str(opt.device).startswith("cuda"),
            generator=torch.Generator().manual_seed(opt.seed))

    def set_epoch(self, epoch, skip_batches=0):
        """Selects the epoch to serve next, from its first batch or after `skip_batches`."""
        self.sampler.epoch = epoch
        self.sampler.skip = skip_batches * self.opt.batch_size
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    @property
    def batches(self):
        """Batches in a whole epoch."""
        images, batch = self.sampler.length, self.opt.batch_size
        return images // batch if self.loader.drop_last else -(-images // batch)

    def load_data(self):
        return self

    def __len__(self):
        return self.sampler.size

    def __iter__(self):
        return iter(self.loader)
