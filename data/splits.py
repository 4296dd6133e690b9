"""Who trains, who validates, who tests. Drawn once a run from `--split_seed` and written to `<run>/split.csv`.

By patient, the unit drawn is a patient's identity across all modalities: somebody with both an MRI and a CT falls on
the same side in both. By image (`--split_by image`), it is the single image, as in the paper's protocol, where one
patient's slices can stand on both sides.
"""
import csv
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Protocol

import numpy as np

from duiit.util.errors import UserError
from duiit.util.files import text_of_cell, write_csv

NAME = "split.csv"
PARTS = ("train", "val", "test")
Parts = Mapping[str, Sequence[str | None]]       # {modality: [part of each row, None where split.csv does not say]}
COLUMNS = ("modality", "patient", "file", "slice", "split")


class Unit(Protocol):
    """What is known of one image: a row of a cohort, or what a check has found."""
    @property
    def patient(self) -> str: ...
    @property
    def scan(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def index(self) -> int: ...


def sizes(n: int, val_fraction: float, test_fraction: float) -> tuple[int, int, int]:
    """(train, val, test) numbers of n units; a part that is wanted gets at least one once there are three, and one is
    always left to train on."""
    val, test = (int(round(n * f)) for f in (val_fraction, test_fraction))
    if n >= 3:
        val, test = max(val, int(val_fraction > 0)), max(test, int(test_fraction > 0))
    else:
        val = test = 0
    while n - val - test < 1:               # rounding up both: the larger part gives one back
        val, test = (val - 1, test) if val >= test else (val, test - 1)
    return n - val - test, val, test


def draw(units: Mapping[str, Iterable[str]], seed: int,
         fractions: Mapping[str, tuple[float, float]]) -> dict[tuple[str, str], str]:
    """units: {modality: [identity, …]}; fractions: {modality: (val, test)} -> {(modality, identity): part}.

    Modalities are drawn in turn, the first one (the target) first; an identity that was drawn before keeps its part.
    """
    parts: dict[str, str] = {}
    for modality, members in units.items():
        members = sorted(set(members))
        order = [members[i] for i in np.random.default_rng(seed).permutation(len(members))]
        wanted = dict(zip(PARTS, sizes(len(order), *fractions[modality]), strict=True))
        known = {m: parts[m] for m in order if m in parts}
        for part in known.values():
            wanted[part] -= 1
        for member in order:
            if member not in known:
                part = next((p for p in ("test", "val") if wanted[p] > 0), "train")
                wanted[part] -= 1
                parts[member] = part
    return {(modality, member): parts[member] for modality, members in units.items() for member in members}


def identity(row: Unit, split_by: str) -> str:
    """What of a row is drawn: its patient, or the image itself."""
    return row.patient if split_by == "patient" else f"{row.scan}#{row.file}#{row.index}"


def assign(rows_by_modality: Mapping[str, Sequence[Unit]], opt: Namespace) -> dict[str, list[str]]:
    """{modality: [row, …]} -> {modality: [part of each row]}, drawn from opt.split_seed.

    The target is split by --val_fraction and --test_fraction. Nothing is predicted for sources, so of them only
    --source_test_fraction is held out, to look at.
    """
    units = {m: [_unit(m, r, opt) for r in rows] for m, rows in rows_by_modality.items()}
    fractions = {m: (opt.val_fraction, opt.test_fraction) if m == opt.target else (0.0, opt.source_test_fraction)
                 for m in units}
    parts = draw(units, opt.split_seed, fractions)
    return {m: [parts[m, _unit(m, r, opt)] for r in rows] for m, rows in rows_by_modality.items()}


def _unit(modality: str, row: Unit, opt: Namespace) -> str:
    unit = identity(row, opt.split_by)
    return unit if opt.split_by == "patient" else f"{modality}/{unit}"


def of_run(opt: Namespace, rows: Mapping[str, Sequence[Unit]]) -> Parts:
    """{modality: [part of each row]}: drawn and written when a run begins, from then on as the run's split.csv says.

    Raises UserError where a trained run has lost its split.csv: another draw could test on what was trained on.
    """
    run = Path(opt.checkpoints_dir) / opt.name
    begins = opt.isTrain and not (opt.continue_train and (run / NAME).is_file())
    if not begins:
        return read(run, rows, opt.split_by)
    parts = assign(rows, opt)
    write(run, rows, parts, opt.split_by)
    return parts


def write(folder: str | PathLike[str], rows_by_modality: Mapping[str, Sequence[Unit]], parts: Parts,
          split_by: str) -> None:
    """Writes split.csv: one line a patient, or one line an image under `--split_by image`."""
    lines = []
    for modality, rows in rows_by_modality.items():
        for row, part in zip(rows, parts[modality], strict=True):
            lines.append((modality, row.patient, *_where(row, split_by), part))
    write_csv(Path(folder) / NAME, dict.fromkeys(lines), COLUMNS)


def read(folder: str | PathLike[str], rows_by_modality: Mapping[str, Sequence[Unit]], split_by: str) -> Parts:
    """The parts of the rows as split.csv says. Images and patients it does not name belong to no part (None)."""
    known = _table(folder)
    return {m: [known.get((m, r.patient, *_where(r, split_by))) for r in rows] for m, rows in rows_by_modality.items()}


def patients_parts(folder: str | PathLike[str], modality: str) -> dict[str, set[str]]:
    """{patient of the modality: {parts that hold images of theirs}}, as split.csv says."""
    parts: dict[str, set[str]] = {}
    for (of, patient, *_), part in _table(folder).items():
        if of == modality:
            parts.setdefault(patient, set()).add(part)
    return parts


def _table(folder: str | PathLike[str]) -> dict[tuple[str, ...], str]:
    """{(modality, patient, file, slice): part}: what split.csv holds. Raises UserError."""
    path = Path(folder) / NAME
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:          # a spreadsheet may have saved it again
            header, *lines = [[text_of_cell(c) for c in line] for line in csv.reader(file) if line] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); restore it or start a new run") from None
    if tuple(header) != COLUMNS or any(len(line) != len(COLUMNS) for line in lines):
        raise UserError(f"{path}: its columns are not {', '.join(COLUMNS)}; restore it or start a new run")
    known = {tuple(where): part for *where, part in lines}
    wrong = next((part for part in known.values() if part not in PARTS), None)
    if wrong is not None:
        raise UserError(f"{path}: split {wrong!r} is none of {', '.join(PARTS)}; restore it or start a new run")
    return known


def _where(row: Unit, split_by: str) -> tuple[str, str]:
    """Which of a patient's images a line of split.csv is about: all of them, or one."""
    return ("", "") if split_by == "patient" else (row.file, str(row.index))
