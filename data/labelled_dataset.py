"""Labelled target images for the predictor: the target modality's own, plus what is used for training only: `--extra`
folders of images with labels (translated ones, say), and `--raw` source modalities as they are, untranslated.

An item is {B, B_label, B_paths}: B, because the predictor reads the target domain.
"""
import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from duiit.data import splits
from duiit.data.cross_modality_dataset import modality_folders, no_target
from duiit.data.modality_dataset import (
    ModalityDataset,
    PreparedDataset,
    check_batches,
    label_facts,
    loader_of,
    report_labels,
    typical_range,
)
from duiit.data.preparing.cohort import Row
from duiit.util.errors import UserError
from duiit.util.facts import Facts

log = logging.getLogger(__name__)


class LabelledDataset(PreparedDataset):
    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        if is_train:
            parser.add_argument("--extra", action="append", metavar="DIR",
                                help="folder of labelled images to train on as well (may be given several times)")
            parser.add_argument("--raw", metavar="SOURCES",
                                help="source modalities, with commas, to train on as well, untranslated")
            parser.add_argument("--no_target", action="store_true",
                                help="train on the --extra folders and --raw sources alone; the target is still "
                                     "validated and tested on")
        return parser

    def __init__(self, opt: Namespace) -> None:
        super().__init__(opt)
        names = modality_folders(opt.dataroot)
        if opt.target not in names:
            raise no_target(opt, names)
        self.target = opt.target
        self.sources: list[str] = []
        training = opt.isTrain and opt.phase == "train"
        raw = raw_sources(opt, names) if training else []       # before anything is read, which may take long
        if training:
            _check_others(opt, raw)
        self.members = {opt.target: loader_of(opt.target)(opt, Path(opt.dataroot) / opt.target, opt.output_nc)}
        main = self.members[opt.target]
        self.rows = {opt.target: main.rows}
        self.parts = splits.of_run(opt, self.rows)
        held_out = {r.patient for part in ("val", "test") for r in self.target_part(part)}
        self.narrow(opt.phase)
        if training:
            own = main.rows
            self._add_others(opt, main, raw, held_out)
            rows = [r for m in self.members.values() for r in m.rows]
            check_batches(main.folder, rows, opt)
            # Images of other folders have ranges of their own.
            opt.facts = Facts(**label_facts(rows, opt), target_range=typical_range(own or rows))
            for name, member in self.members.items():
                report_labels(name, member.rows)
            self._flatten()
        if training and not self.flat:
            raise UserError(f"{main.folder}: no training image has a label, and no --extra folder or --raw source "
                            "brings any; add a labels.csv")

    def _add_others(self, opt: Namespace, main: ModalityDataset, raw: Iterable[str], held_out: Container[str]) -> None:
        if opt.no_target:
            main.keep([])
        for source in raw:
            folder = Path(opt.dataroot) / source
            member = loader_of(source)(opt, folder, opt.output_nc)
            self.members[f"--raw {source}"] = member.keep(_without(member.rows, held_out, folder))
        for folder in opt.extra or ():
            member = loader_of(opt.target)(opt, folder, opt.output_nc)
            self.members[f"--extra {folder}"] = member.keep(_without(member.rows, held_out, folder))

    def narrow(self, part: str) -> None:
        self.members[self.target].keep(self.target_part(part))
        self._flatten()

    def _flatten(self) -> None:
        training = self.opt.isTrain and self.opt.phase == "train"
        self.flat = [(m, i) for m in self.members.values() for i, row in enumerate(m.rows)
                     if row.label is not None or not training]

    def __len__(self) -> int:
        return len(self.flat)

    def _draw(self, index: int) -> dict[str, Any]:
        member, i = self.flat[index]
        item = member.item(i, np.random.default_rng([self.opt.seed, self.epoch, index]))
        return {"B": item["image"], "B_label": item["label"], "B_paths": item["path"]}


def _check_others(opt: Namespace, raw: Sequence[str]) -> None:
    if opt.no_target and not opt.extra and not raw:
        raise UserError("--no_target: there is nothing to train on; name a folder with --extra, or a source with --raw")
    for folder in opt.extra or ():
        if not Path(folder).is_dir():
            raise UserError(f"--extra {folder}: no such folder")


def raw_sources(opt: Namespace, names: Sequence[str]) -> list[str]:
    """The modalities that --raw names, of those in `names`. Raises UserError."""
    wanted = list(dict.fromkeys(s.strip() for s in opt.raw.split(","))) if opt.raw else []
    there = ", ".join(n for n in names if n != opt.target) or "none"
    for source in wanted:
        if source == opt.target:
            raise UserError(f"--raw {opt.raw}: {source} is the target; its own images are trained on already, and the "
                            f"sources there are {there}")
        if source not in names:
            raise UserError(f"--raw {opt.raw}: {source or 'an empty name'} is not a folder of {opt.dataroot}; the "
                            f"sources there are {there}")
    return wanted


def _without(rows: Sequence[Row], held_out: Container[str], folder: str | Path) -> list[Row]:
    """A person who is held out of the target must not come back through an extra folder or another modality."""
    kept = [r for r in rows if r.patient not in held_out]
    if len(kept) < len(rows):
        log.warning("%s: left out %d images of patients who are held out for validation or testing",
                    folder, len(rows) - len(kept))
    return kept
