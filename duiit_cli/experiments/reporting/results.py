"""Reads what `duiit experiment` left in its folder, into plain records. Nothing is computed here.

`Experiment` knows every cell (a method on a split) that is finished, and says of each other one whether it failed, is
broken or is still missing. A file that cannot be read costs its own cell, never the report.
"""
import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from duiit.util.errors import UserError
from duiit.util.files import text_of_cell

UNITS = ("by_image", "by_patient")
FLOOR = "predict_the_mean"
Errors = dict[str, dict[str, Any]]      # {one of UNITS: {metric: value}}
PRIMARY = {"regression": "mse", "classification": "balanced_accuracy"}
HIGHER_IS_BETTER = {"accuracy", "balanced_accuracy", "auroc", "r2", "pearson_r"}
LISTED = {"regression": ("mse", "rmse", "mae", "bias", "r2", "pearson_r"),
          "classification": ("balanced_accuracy", "accuracy", "auroc")}
ROLES = ("duiit", "cyclegan", "oracle", "pure")     # what a method may be compared for; "" for any other


@dataclass(frozen=True)
class Method:
    """A method of the plan, or the floor. table: whose source set it stands under; row: what it is called there.

    role: what it is compared for, one of ROLES, "floor", or "". recipe: its preset's name or file.
    """
    name: str
    title: str
    sources: tuple[str, ...] = ()
    table: str = ""
    row: str = ""
    translator: str | None = None
    role: str = ""
    recipe: str = ""


@dataclass(frozen=True)
class Cell:
    """A finished cell. errors and floor: {"by_image": {...}, "by_patient": {...}}, in label units."""
    method: str
    split: int
    folder: Path
    errors: Errors
    floor: Errors
    counts: dict[str, Any]
    record: dict[str, Any]                    # the whole of cell.json


@dataclass(frozen=True)
class Trouble:
    """A cell or translator without a result. kind: "failed" (the engine says so) or "broken" (a file is not whole)."""
    kind: str
    name: str
    split: int
    error: str
    log: str = ""
    translator: bool = False


class Broken(Exception):
    """A file that is there and cannot be used; its message is one line."""


class Experiment:
    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(folder)
        plan = _plan(self.folder / "experiment.json")
        self.created, self.version = plan.get("created"), plan.get("duiit_version")
        self.settings = plan["settings"]
        self.given = _table(plan, "given")          # {option: value} of the command line
        self.options = _table(plan, "options")      # {option: value}, resolved; {} of an older DUIIT
        self.presets = _table(plan, "presets")      # {name or file: its text}
        self.image_sizes = _table(plan, "image_sizes")      # {modality: {size as stored: scans}}
        self.task = self.settings.get("task", "regression")
        self.target = self.settings.get("target", "ct")
        self.methods = {m.name: m for m in (_method(r, i) for i, r in enumerate(plan["methods"]))}
        self.translators = {m.name: m for m in (_method(r, i) for i, r in enumerate(plan.get("translators") or []))}
        self.troubles: list[Trouble] = []
        self.cells: dict[tuple[str, int], Cell] = {}                    # {(method, split): it}
        self.qualities: dict[tuple[str, int], dict[str, Any]] = {}      # {(translator, split): its quality.json}
        # {("translators" or "starts", name, split): its done file}
        self.trainings: dict[tuple[str, str, int], dict[str, Any]] = {}
        self.splits = range(self._split_count())
        self._read_cells()
        self._read_translators()
        self._read_trainings()

    # -- what there is -----------------------------------------------------------------------------------------

    @cached_property
    def floor(self) -> Method:
        often = "Always the most frequent class" if self.task == "classification" else "Always the training mean"
        return Method(FLOOR, often, row=often, role="floor")

    @property
    def metric(self) -> str:
        """The metric that decides."""
        return PRIMARY[self.task]

    @cached_property
    def unit(self) -> str:
        """The unit that decides: what the splits are drawn by, unless no cell was scored so."""
        wanted = "by_image" if self.settings.get("split_by") == "image" else "by_patient"
        order = [wanted, *(unit for unit in UNITS if unit != wanted)]
        return next((u for u in order if self._scored(u)), wanted)

    @cached_property
    def units(self) -> list[str]:
        """The units that any cell was scored by, the deciding one first."""
        return [self.unit, *(u for u in UNITS if u != self.unit and self._scored(u))]

    def _scored(self, unit: str) -> bool:
        return any(cell.errors[unit].get(self.metric) is not None for cell in self.cells.values())

    def method(self, name: str) -> Method:
        return self.floor if name == FLOOR else self.methods[name]

    def named(self, role: str, sources: Iterable[str] | None = None) -> list[Method]:
        """The methods of a role, in the plan's order; those with just these sources, where they are given."""
        return [m for m in self.methods.values()
                if m.role == role and (sources is None or set(m.sources) == set(sources))]

    def values(self, name: str, unit: str, metric: str) -> dict[int, float]:
        """{split: value} of a method (or FLOOR) where it has one."""
        found = {}
        for split in self.splits:
            cell = self.cells.get((name, split))
            errors = self._floor_errors(split) if name == FLOOR else cell.errors if cell else {}
            value = errors.get(unit, {}).get(metric)
            if value is not None:
                found[split] = value
        return found

    def _floor_errors(self, split: int) -> Errors:
        """The floor is the split's, not a method's: taken from the first method that has it."""
        cells = [self.cells[name, split] for name in self.methods if (name, split) in self.cells]
        return next((cell.floor for cell in cells if any(cell.floor.values())), {})

    @cached_property
    def planned(self) -> list[tuple[str, int]]:
        return [(name, split) for name in self.methods for split in self.splits]

    @cached_property
    def missing(self) -> list[tuple[str, int]]:
        """(method, split) of the cells that were not run yet."""
        known = {(t.name, t.split) for t in self.troubles if not t.translator}
        return [place for place in self.planned if place not in self.cells and place not in known]

    # -- reading -----------------------------------------------------------------------------------------------

    def _split_count(self) -> int:
        """As planned; where the plan does not say, as many as there are folders for."""
        count = self.settings.get("splits")
        if isinstance(count, int) and not isinstance(count, bool) and count > 0:
            return count
        found = [p.name[6:] for p in self.folder.glob("cells/*/split_*") if p.name[6:].isdigit()]
        return max((int(k) for k in found), default=-1) + 1

    def _read_cells(self) -> None:
        for name, split in self.planned:
            folder = self.folder / "cells" / name / f"split_{split:02d}"
            record = self._record(folder, "cell.json", name, split)
            if record is None:
                continue
            try:
                self.cells[name, split] = _cell(record, folder, name, split, self.metric)
            except Broken as error:
                self._trouble("broken", name, split, f"{folder / 'cell.json'} {error}")

    def _read_translators(self) -> None:
        for name in self.translators:
            for split in self.splits:
                folder = self.folder / "translators" / name / f"split_{split:02d}"
                record = self._record(folder, "quality.json", name, split, translator=True)
                if record is None:
                    continue
                if not isinstance(record.get("sources"), dict):
                    self._trouble("broken", name, split, f"{folder / 'quality.json'} has no sources", translator=True)
                    continue
                self.qualities[name, split] = record

    def _read_trainings(self) -> None:
        """What cells wait for. Their failures are told by those of the cells; a file that is not whole only lacks."""
        for place, file in (("translators", "translator.json"), ("starts", "start.json")):
            for name in (self.translators if place == "translators" else self.methods):
                for split in self.splits:
                    with suppress(Broken):
                        record = _read(self.folder / place / name / f"split_{split:02d}" / file)
                        self.trainings |= {(place, name, split): record} if record else {}

    def _record(self, folder: Path, file: str, name: str, split: int,
                translator: bool = False) -> dict[str, Any] | None:
        """The JSON object of a finished cell or translator, or None; what failed or is broken goes to the troubles."""
        try:
            record = _read(folder / file)
            if record is None:
                failure = _read(folder / "failed.json")
                if failure is None and translator:
                    failure = _read(folder / "quality_failed.json")
                if failure is not None:
                    self._trouble("failed", name, split, _line(failure.get("error")),
                                  str(failure.get("log") or ""), translator)
            return record
        except Broken as error:
            self._trouble("broken", name, split, str(error), translator=translator)
            return None

    def _trouble(self, kind: str, name: str, split: int, error: str, log: str = "", translator: bool = False) -> None:
        """Files are named from the experiment's folder on: the report is read elsewhere too."""
        self.troubles.append(Trouble(kind, name, split, error.replace(f"{self.folder}/", ""), log, translator))


def predictions(cell: Cell, target: str) -> Any:
    """A cell's real target test images as a table with columns patient, file, slice, label, prediction.

    Raises Broken where the file is missing or not what it should be. Images without a label are left out.
    """
    import pandas as pd

    path = cell.folder / "results" / "predictions.csv"
    try:
        table = pd.read_csv(path, dtype={"patient": str, "file": str})
        for name in ("patient", "file"):
            table[name] = table[name].map(text_of_cell, na_action="ignore")
        table = table[(table["modality"] == target) & (table["image"] == target)]
        return table[["patient", "file", "slice", "label", "prediction"]].dropna(subset=["label", "prediction"])
    except (OSError, ValueError, KeyError) as error:
        raise Broken(f"{path}: {getattr(error, 'strerror', None) or _line(error)}") from None


def _plan(path: Path) -> dict[str, Any]:
    try:
        plan = _read(path)
    except Broken as error:
        raise UserError(f"{error}; it is what `duiit experiment` writes first: run it again") from None
    if plan is None:
        raise UserError(f"{path} is not there: give the --output folder of `duiit experiment`")
    if not isinstance(plan.get("settings"), dict) or not isinstance(plan.get("methods"), list):
        raise UserError(f"{path} has no settings or no methods: it is not what `duiit experiment` writes, run it again")
    if plan["settings"].get("task", "regression") not in PRIMARY:
        raise UserError(f"{path}: unknown task {plan['settings']['task']}; the tasks are {', '.join(PRIMARY)}")
    return plan


def _table(plan: Mapping[str, Any], key: str) -> dict[str, Any]:
    return plan[key] if isinstance(plan.get(key), dict) else {}


def _method(record: object, index: int) -> Method:
    name = record.get("name") if isinstance(record, dict) else None
    if not isinstance(record, dict) or not isinstance(name, str) or not name:
        raise UserError(f"experiment.json: method or translator {index + 1} has no name; run `duiit experiment` again")
    title = record.get("title") or name
    return Method(name, title, tuple(record.get("sources") or ()), record.get("table") or "",
                  record.get("row") or title, record.get("translator"), _role(record), str(record.get("recipe") or ""))


def _role(record: Mapping[str, Any]) -> str:
    """As the plan says. Older plans do not, and their methods are known by the names of our own presets."""
    if "role" in record:
        return record["role"] if record["role"] in ROLES else ""
    name = record["name"]
    if name == "pure_ct":
        return "pure"
    return next((role for role in ("duiit", "cyclegan", "oracle") if name.startswith(f"{role}_")), "")


def _cell(record: dict[str, Any], folder: Path, name: str, split: int, metric: str) -> Cell:
    predictor = record.get("predictor")
    if not isinstance(predictor, dict):
        raise Broken("has no predictor's errors")
    errors, floor = _errors(predictor), _errors(predictor.get(FLOOR))
    if all(errors[unit].get(metric) is None for unit in UNITS):
        raise Broken(f"has no {metric}, by image or by patient")
    for unit in UNITS:
        for key, value in {**errors[unit], **floor[unit]}.items():
            if value is not None and not _finite(value):
                raise Broken(f"{key} {unit.replace('_', ' ')} is {value}, not a finite number")
    if record.get("method", name) != name or record.get("split", split) != split:
        raise Broken(f"is of {record.get('method')}, split {record.get('split')}, not of the folder that it stands in")
    counts = record.get("counts")
    return Cell(name, split, folder, errors, floor, counts if isinstance(counts, dict) else {}, record)


def _errors(part: object) -> Errors:
    part = part if isinstance(part, dict) else {}
    return {unit: part[unit] if isinstance(part.get(unit), dict) else {} for unit in UNITS}


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _read(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, None where there is no such file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise Broken(f"{path} is not readable as JSON: {_line(error)}") from None
    if not isinstance(value, dict):
        raise Broken(f"{path} does not hold a JSON object")
    return value


def _line(error: object) -> str:
    """The first line of an error, whatever was given for one."""
    return (str(error or "no reason given").strip().splitlines() or ["no reason given"])[0]
