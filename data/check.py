"""What lies in a data folder, and what is wrong with it: every file is read once, nothing is changed.

A problem has a level (error: training would fail or be wrong; warning: it would run, but look first), the file or
folder, the reason and the remedy.
"""
import hashlib
import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from data import readers, splits
from data.cohort import READERS
from data.cross_modality_dataset import modality_folders
from data.intensity import ct_window
from data.labels import read_labels
from data.modality_dataset import loader_of
from data.slice import HU
from data.unaligned_dataset import SideA, SideB
from util.errors import UserError
from util.progress import track

AGE_LIMIT = 120.0
MANY = 5                # so many names are listed, the rest counted


@dataclass(frozen=True)
class Problem:
    level: str
    where: str
    reason: str
    remedy: str


@dataclass
class Modality:
    """One modality's table row. sizes: {"HxW": slices}; spacings in mm (row, column, slice): {text: scans}."""
    name: str
    patients: int = 0
    scans: int = 0
    slices: int = 0
    empty_slices: int = 0
    sizes: dict = field(default_factory=dict)
    spacings: dict = field(default_factory=dict)
    units: dict = field(default_factory=dict)
    intensity_range: list = field(default_factory=list)     # lowest 0.5th and highest 99.5th percentile of a scan
    labels: dict = field(default_factory=dict)
    split: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What reading one scan told."""
    patient: str
    shapes: list
    empty: list
    unit: str
    low: float
    high: float
    minimum: float
    spacing: str
    digests: list
    labels: list


def check_folder(opt):
    """Checks every modality of opt.dataroot: ([Modality, …], [Problem, …])."""
    ct_window(opt.ct_window)
    names = modality_folders(opt.dataroot)
    if not names:
        raise UserError(f"--dataroot {opt.dataroot}: holds no folder; put each modality's images in one, such as ct")
    if {"trainA", "trainB"} <= set(names):
        checks = [ModalityCheck("B", SideB, opt.dataroot, opt), ModalityCheck("A", SideA, opt.dataroot, opt)]
        _split_by_folder(checks)
    else:
        wanted = [s.strip() for s in opt.sources.split(",")] if opt.sources else names
        names = [n for n in (opt.target, *wanted) if n in names]
        checks = [ModalityCheck(n, loader_of(n), Path(opt.dataroot) / n, opt) for n in dict.fromkeys(names)]
        _split(checks, opt)
    problems = [p for check in checks for p in check.problems] + _across(checks, opt)
    return [check.report for check in checks], sorted(problems, key=lambda p: p.level)


class ModalityCheck:
    """Reads one modality's folder and says what it found."""

    def __init__(self, name, loader, folder, opt):
        self.name, self.loader, self.folder, self.opt = name, loader, Path(folder), opt
        self.report, self.problems, self.found, self.labels, self.unmatched = Modality(name), [], [], None, []
        try:
            self.scans = loader.find_scans(self.folder, opt)
        except UserError as error:
            self.scans = []
            self.add("error", self.folder, str(error), "mend it, or leave the folder out with --sources")
            return
        self.labels = _labels_of(self.folder, opt)
        self._read()
        self._describe()
        self._judge()

    def add(self, level, where, reason, remedy):
        self.problems.append(Problem(level, str(where), reason, remedy))

    def _read(self):
        with ThreadPoolExecutor(min(READERS, os.cpu_count())) as pool:
            results = pool.map(lambda scan: _read_one(scan, self.loader, self.opt), self.scans)
            for scan, result in zip(self.scans, track(results, f"checking {self.name}", len(self.scans)), strict=True):
                if isinstance(result, UserError):
                    self.add("error", scan.files[0], str(result).removeprefix(f"{scan.files[0]}: "),
                             "mend the file, or take it out of the folder")
                else:
                    self.found.append(result)

    def _describe(self):
        r, found = self.report, self.found
        r.patients, r.scans = len({s.patient for s in self.scans}), len(self.scans)
        r.slices, r.empty_slices = sum(len(f.shapes) for f in found), sum(sum(f.empty) for f in found)
        r.sizes = dict(Counter("x".join(map(str, s)) for f in found for s in f.shapes).most_common())
        r.spacings = dict(Counter(f.spacing for f in found if f.spacing).most_common())
        r.units = dict(Counter(f.unit for f in found))
        if found:
            r.intensity_range = [min(f.low for f in found), max(f.high for f in found)]
        r.labels = _label_summary([label for f in found for label in f.labels], self.opt.task)

    def _judge(self):
        r, add = self.report, self.add
        if r.empty_slices:
            add("warning", self.folder, f"{r.empty_slices} of {r.slices} slices are constant or almost empty",
                "they are left out of training; --keep_empty takes them all the same")
        if len(r.sizes) > 1:
            add("warning", self.folder, f"mixed image sizes: {_listed(r.sizes)}",
                "all are brought to --load_size; look whether the scale differs too")
        if r.labels.get("missing") and r.labels.get("count"):
            without = sorted({f.patient for f in self.found if None in f.labels}, key=readers.natural_key)
            add("warning", self.folder, f"no label for {len(without)} patients: {_listed(without)}",
                "their images train the translator and are left out of the predictor's loss")
        if not r.labels.get("count"):
            add("warning", self.folder, "no labels at all", "add a labels.csv (patient,label), or train without them")
        self._judge_labels()
        self._judge_units()

    def _judge_labels(self):
        if self.labels is None:
            return
        self.unmatched = self.labels.unmatched(self.scans)
        low, high = self.report.labels.get("min"), self.report.labels.get("max")
        if self.labels.is_age and low is not None and (low < 0 or high > AGE_LIMIT):
            self.add("error", self.labels.path, f"ages from {low:g} to {high:g} years cannot be",
                     f"correct those below 0 or above {AGE_LIMIT:g}")

    def _judge_units(self):
        lowest = min((f.minimum for f in self.found), default=0)
        if self.name == "mri" and lowest < -500:
            self.add("warning", self.folder, f"values down to {lowest:g} look like Hounsfield units",
                     "check that these are MRIs and not CTs")
        if self.name == "ct" and self.found and HU not in self.report.units:
            self.add("warning", self.folder, f"no image is in Hounsfield units ({_listed(self.report.units)})",
                     "8-bit images are taken as already windowed by --ct_window; give DICOM or NIfTI for HU")


def _read_one(scan, loader, opt):
    """Found, or the UserError that reading raised."""
    try:
        slices = [loader.prepare(s, opt) for s in readers.select_slices(readers.read_scan(scan), opt.slices)]
    except UserError as error:
        return error
    values = np.concatenate([s.image.ravel() for s in slices])
    low, high = np.percentile(values, (0.5, 99.5))
    geometry = slices[0].geometry
    spacing = "x".join(f"{n:.3g}" for n in geometry.spacing) if geometry is not None else ""
    return Found(scan.patient, [s.image.shape for s in slices],
                 [not readers.has_signal(s.image, s.unit) for s in slices], slices[0].unit,
                 float(low), float(high), float(values.min()), spacing,
                 [hashlib.blake2b(s.image.tobytes(), digest_size=16).digest() for s in slices],
                 [s.label for s in slices])


def _labels_of(folder, opt):
    try:
        return read_labels(folder, opt.label_column, opt.id_column, opt.task)
    except UserError:
        return None             # said already, by finding the scans


def _label_summary(labels, task):
    """Counts by image; mean, range and a histogram of ten bins, or the classes."""
    known = [x for x in labels if x is not None]
    summary = {"count": len(known), "missing": len(labels) - len(known)}
    if task == "classification":
        return {**summary, "classes": dict(Counter(known).most_common())}
    if known:
        counts, edges = np.histogram(known, bins=10)
        summary |= {"mean": float(np.mean(known)), "sd": float(np.std(known)), "min": min(known), "max": max(known),
                    "histogram": {"counts": counts.tolist(), "edges": edges.tolist()}}
    return summary


def _across(checks, opt):
    """What only shows when the modalities are seen together."""
    root, problems = str(opt.dataroot), []
    names = [c.name for c in checks]
    if opt.target not in names and names != ["B", "A"]:
        problems.append(Problem("error", root, f"no folder of the target modality {opt.target}",
                                "add it, or name another with --target"))
    elif len(names) == 1:
        problems.append(Problem("warning", root, f"only {opt.target} is here",
                                "a translator needs a source modality too"))
    if checks and not any(c.report.labels.get("count") for c in checks):
        problems.append(Problem("error", root, "no image has a label",
                                "add a labels.csv with the columns patient,label"))
    for check in checks:
        if check.name == opt.target and 0 < check.report.patients < 3:
            problems.append(Problem("warning", str(check.folder), f"only {check.report.patients} patients",
                                    "none can be held out for validation and testing; three are needed"))
        problems += _twins(check)
    return problems + _unmatched(checks)


def _unmatched(checks):
    """Entries of a labels table without an image: in none of the modalities that share the table."""
    missing = defaultdict(list)
    for check in checks:
        if check.labels is not None:
            missing[check.labels.path].append(check.unmatched)
    problems = []
    for path, (first, *others) in missing.items():
        ids = [i for i in first if all(i in other for other in others)]
        if ids:
            problems.append(Problem("warning", str(path), f"{len(ids)} entries have no image: {_listed(ids)}",
                                    "add their images, or check how ids and folders are spelled"))
    return problems


def _split_by_folder(checks):
    """For trainA, testA, …: counts patients by folder, and says who is in more than one of them."""
    for check in checks:
        members = {(s.name.split("/")[0][:-1], s.patient) for s in check.scans}
        check.report.split = {part: sum(p == part for p, _ in members) for part in splits.PARTS}
        seen = Counter(patient for _, patient in members)
        both = sorted((patient for patient, folders in seen.items() if folders > 1), key=readers.natural_key)
        if both:
            check.add("warning", check.folder, f"{len(both)} patients of {check.name} are in more than one of train, "
                      f"val and test: {_listed(both)}",
                      "move each to one side, or give a labels.csv with their patient ids if they are different people")


def _twins(check):
    """The same pixels under two patients' names: they could stand on both sides of a split."""
    owners = defaultdict(set)
    for f in check.found:
        for digest, empty in zip(f.digests, f.empty, strict=True):
            if not empty:
                owners[digest].add(f.patient)
    pairs = sorted({tuple(sorted(o, key=readers.natural_key)) for o in owners.values() if len(o) > 1})
    return [Problem("error", str(check.folder), f"the same images under the patients {_listed(pair)}",
                    "keep one, or give both the same patient id, or they can stand on both sides of the split")
            for pair in pairs]


def _split(checks, opt):
    """Adds to each report how many patients the split would give to training, validation and testing."""
    units = {c.name: sorted({s.patient for s in c.scans}) for c in checks if c.scans}
    fractions = {m: (opt.val_fraction, opt.test_fraction) if m == opt.target else (0.0, opt.source_test_fraction)
                 for m in units}
    parts = splits.draw(units, opt.split_seed, fractions)
    for check in checks:
        counts = Counter(part for (modality, _), part in parts.items() if modality == check.name)
        check.report.split = {part: counts[part] for part in splits.PARTS}


def _listed(names):
    names = list(names)
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return ", ".join(str(n) for n in names[:MANY]) + more


def as_json(modalities, problems):
    return {"modalities": [asdict(m) for m in modalities], "problems": [asdict(p) for p in problems]}
