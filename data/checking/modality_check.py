"""One modality as a check finds it: its folder's scans, read once, and what there is to say of them."""
import re
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from duiit.data.checking.fingerprint import summarise
from duiit.data.checking.scan_survey import Found, survey, warnings_kept
from duiit.data.modality_dataset import ModalityDataset
from duiit.data.preparing.intensity import fixed_windows, scale_in_words
from duiit.data.readers.labels import Labels, read_labels
from duiit.data.readers.slice import Label, Scan
from duiit.util.errors import UserError
from duiit.util.problems import Problem
from duiit.util.progress import track

MANY = 5                # so many remarks that differ in their numbers alone are one line


@dataclass
class Modality:
    """One modality's table row. sizes: {"HxW": slices}; spacings in mm (row, column, slice): {text: scans}.

    split: patients by part of the split that would be drawn (images, under --split_by image), and who they are.
    """
    name: str
    patients: int = 0
    scans: int = 0
    slices: int = 0
    empty_slices: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    spacings: dict[str, int] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    scaling: dict[str, int] = field(default_factory=dict)       # what becomes [-1, 1]: {text: scans}
    intensity_range: list[float] = field(default_factory=list)   # lowest 0.5th, highest 99.5th percentile of a scan
    labels: dict[str, Any] = field(default_factory=dict)
    split: dict[str, int] = field(default_factory=dict)
    patients_by_part: dict[str, list[str]] = field(default_factory=dict)
    shared_patients: list[str] = field(default_factory=list)   # who is in another modality too, as one person
    fingerprint: dict[str, Any] = field(default_factory=dict)


class ModalityCheck:
    """Reads one modality's folder and says what it found."""

    def __init__(self, name: str, loader: type[ModalityDataset], folder: str | PathLike[str], opt: Namespace) -> None:
        self.name, self.loader, self.folder, self.opt = name, loader, Path(folder), opt
        self.report = Modality(name)
        self.labels: Labels | None = None
        self.problems: list[Problem] = []
        self.found: list[Found] = []
        self.unmatched: list[str] = []
        self.scans = self._scans()
        if self.scans:
            self._read()
            self._describe()
            self.unmatched = self.labels.unmatched(self.scans) if self.labels else []

    def add(self, level: str, where: str | PathLike[str], reason: str, remedy: str) -> None:
        self.problems.append(Problem(level, str(where), reason, remedy))

    def _scans(self) -> list[Scan]:
        try:
            with warnings_kept() as kept:
                scans = self.loader.find_scans(self.folder, self.opt)
                self.labels = read_labels(self.folder, self.opt.label_column, self.opt.id_column, self.opt.task)
        except UserError as error:
            where, reason, remedy = _told(str(error), self.folder)
            self.add("error", where, reason, remedy or "mend it, or leave the folder out with --sources")
            return []
        self._warn(kept)
        return scans

    def _read(self) -> None:
        results = survey(self.scans, self.loader, self.opt)
        kept: dict[str, None] = {}
        for scan, result in zip(self.scans, track(results, f"checking {self.name}", len(self.scans), "scans"),
                                strict=True):
            if isinstance(result, UserError):
                where, reason, remedy = _told(str(result), scan.files[0])
                self.add("error", where, reason, remedy or "mend the file, or take it out of the folder")
            else:
                self.found.append(result)
                kept |= dict.fromkeys(result.notices)
        self._warn(kept)

    def _warn(self, messages: Iterable[str]) -> None:
        alike: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for message in dict.fromkeys(messages):
            where, reason, remedy = _told(message, self.folder)
            key = re.sub(r"\d+(\.\d+)?", "#", reason), remedy or "look whether that is meant"
            alike.setdefault(key, []).append((where, reason))
        for (_, remedy), told in alike.items():
            if len(told) < MANY:
                for where, reason in told:
                    self.add("warning", where, reason, remedy)
            else:               # one line, of the one whose last number is the largest
                where, reason = max(told, key=lambda one: _last_number(one[1]))
                self.add("warning", where, f"{reason} (the worst; {len(told) - 1} others alike)", remedy)

    def _describe(self) -> None:
        r, found, facts = self.report, self.found, [f.facts for f in self.found if f.facts]
        slices = [s for f in found for s in f.slices]
        r.patients, r.scans = len({s.patient for s in self.scans}), len(self.scans)
        r.slices, r.empty_slices = len(slices), sum(s.empty for s in slices)
        r.sizes = dict(sum((f.sizes for f in found), Counter()).most_common())
        r.spacings = dict(Counter(f.spacing for f in found if f.spacing).most_common())
        r.units = dict(Counter(f.unit for f in found).most_common())
        windows = fixed_windows(self.opt)
        r.scaling = dict(Counter(scale_in_words(f.unit, windows) for f in found).most_common())
        r.labels = _label_summary([s.label for s in slices], self.opt.task)
        if facts:
            r.intensity_range = [min(f.low for f in facts), max(f.high for f in facts)]
            r.fingerprint = summarise(facts)


def _last_number(text: str) -> float:
    return float((re.findall(r"\d+(?:\.\d+)?", text) or ["0"])[-1])


def _told(message: str, place: Path) -> tuple[str, str, str]:
    """(where, reason, remedy) of a message in the form `where: reason; remedy`."""
    where, colon, rest = message.partition(": ")
    if not colon or not where.startswith((str(place), str(Path(place).parent))):
        where, rest = str(place), message
    reason, _, remedy = rest.partition("; ")
    return where, reason, remedy


def _label_summary(labels: Sequence[Label], task: str) -> dict[str, Any]:
    """Counts by image; mean, range and a histogram of ten bins, or the classes."""
    known = [x for x in labels if x is not None]
    summary: dict[str, Any] = {"count": len(known), "missing": len(labels) - len(known)}
    if task == "classification":
        return {**summary, "classes": dict(Counter(known).most_common())}
    numbers = [x for x in known if not isinstance(x, str)]
    if numbers:
        counts, edges = np.histogram(numbers, bins=10)
        summary |= {"mean": float(np.mean(numbers)), "sd": float(np.std(numbers)), "min": min(numbers),
                    "max": max(numbers),
                    "histogram": {"counts": counts.tolist(), "edges": edges.tolist()}}
    return summary
