"""Source and target images side by side, unpaired, with their labels: what `cycle_gan` and `duiit` train on.

`--dataroot` holds one folder a modality. The target is `--target`, every other folder is a source unless `--sources`
names some. With one source an item is {A, A_label, A_paths, B, B_label, B_paths}; with several, each source has keys of
its own, such as A_mri, A_mri_label, A_mri_paths.
"""
import logging
from argparse import Namespace
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from duiit.data import splits
from duiit.data.modality_dataset import (
    ModalityDataset,
    PreparedDataset,
    check_batches,
    label_facts,
    label_stats,
    loader_of,
    report_labels,
    typical_range,
)
from duiit.data.preparing.cohort import Row
from duiit.util.errors import UserError
from duiit.util.facts import Facts

log = logging.getLogger(__name__)
NOT_MODALITIES = ("truth",)              # scoring material that the phantom puts beside the modalities


class CrossModalityDataset(PreparedDataset):
    def __init__(self, opt: Namespace) -> None:
        super().__init__(opt)
        self.target, self.sources = self.find_modalities(opt)
        opt.target, opt.sources = self.target, ",".join(self.sources)
        self.members = {m: self.load(m, opt) for m in (self.target, *self.sources)}
        self.rows = {m: d.rows for m, d in self.members.items()}
        self.parts = self.split(opt, self.rows)
        if opt.isTrain and opt.phase == "train":
            opt.facts = self._facts(opt)
        self.narrow(opt.phase)
        self.keys = self.item_keys()

    # -- what there is -----------------------------------------------------------------------------------------

    @staticmethod
    def find_modalities(opt: Namespace) -> tuple[str, list[str]]:
        """(target, [source, …]): folder names under --dataroot. Raises UserError."""
        root = Path(opt.dataroot)
        if opt.direction == "BtoA":
            raise UserError("--direction BtoA: here the folders' roles have names; say --target and --sources instead")
        names = modality_folders(root)
        if opt.target not in names:
            raise no_target(opt, names)
        wanted = [s.strip() for s in opt.sources.split(",")] if opt.sources else [n for n in names if n != opt.target]
        missing = [s for s in wanted if s not in names]
        if missing or opt.target in wanted:
            wrong = f"{missing[0]} is not a folder of {root}" if missing else f"{opt.target} is the target"
            raise UserError(f"--sources {opt.sources}: {wrong}; there are {', '.join(names)}")
        if not wanted:
            raise UserError(f"{root}: no source modality beside {opt.target}; put its images in a folder such as mri")
        return opt.target, wanted

    def load(self, modality: str, opt: Namespace) -> ModalityDataset:
        channels = opt.output_nc if modality == self.target else opt.input_nc
        return loader_of(modality)(opt, Path(opt.dataroot) / modality, channels)

    def split(self, opt: Namespace, rows: Mapping[str, list[Row]]) -> splits.Parts:
        """{modality: [part of each row]}."""
        return splits.of_run(opt, rows)

    def _facts(self, opt: Namespace) -> Facts:
        """Checks the training images; what the model and later commands must know of them."""
        rows = {m: self.part_of(m, "train") for m in self.members}
        for m, d in self.members.items():
            check_batches(f"{d.folder}" if m == d.folder.name else f"{d.folder} {m}", rows[m], opt)
        facts = Facts(**label_facts([r for rs in rows.values() for r in rs], opt),
                      label_stats={m: label_stats(members, opt) for m, members in rows.items()},
                      target_range=typical_range(rows[self.target]))
        for modality, members in rows.items():
            report_labels(modality, members)
        return facts

    def narrow(self, part: str) -> None:
        for modality, member in self.members.items():
            member.keep(self.part_of(modality, part))

    # -- serving -----------------------------------------------------------------------------------------------

    def item_keys(self) -> dict[str, str]:
        """{modality: its key in an item}."""
        several = len(self.sources) > 1
        return {self.target: "B", **{s: f"A_{s}" if several else "A" for s in self.sources}}

    def __len__(self) -> int:
        """Images of the largest modality: in an epoch each is seen about once, those of the others more often."""
        return max(len(d) for d in self.members.values())

    def _draw(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.opt.seed, self.epoch, index])
        item = {}
        for number, source in enumerate(self.sources):
            member = self.members[source]
            chosen = index % len(member) if number == 0 else self._other(index, member, rng)
            item.update(_keyed(self.keys[source], member.item(chosen, rng)))
        target = self.members[self.target]
        item.update(_keyed(self.keys[self.target], target.item(self._other(index, target, rng), rng)))
        return item

    def _other(self, index: int, member: ModalityDataset, rng: np.random.Generator) -> int:
        """Unpaired: the partner is drawn anew at each visit, unless the order is to be kept."""
        return index % len(member) if self.opt.serial_batches else int(rng.integers(len(member)))


def _keyed(key: str, item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item["image"], f"{key}_label": item["label"], f"{key}_paths": item["path"]}


def no_target(opt: Namespace, names: Sequence[str]) -> UserError:
    """The error for a --dataroot among whose folders `names` the target is not."""
    root = Path(opt.dataroot)
    above = f"; give the folder above it: --dataroot {root.parent}" if root.name == opt.target else ""
    return UserError(f"--target {opt.target}: {root} has no such folder; it holds {', '.join(names) or 'none'}{above}")


def modality_folders(root: str | PathLike[str]) -> list[str]:
    """Names of the folders that hold a modality each. Raises UserError where `root` is missing."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"--dataroot {root}: no such folder")
    return sorted(p.name for p in root.iterdir()
                  if p.is_dir() and p.name not in NOT_MODALITIES and not p.name.startswith("."))
