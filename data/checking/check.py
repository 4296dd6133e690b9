"""What lies in a data folder, and what is wrong with it: every file is read once, nothing is changed.

A problem has a level (error: training would fail or be wrong; warning: it would run, but look first), the file or
folder, the reason and the remedy. What is wrong with one modality is found here; people on both sides of a split in
data/checking/leaks.py; the reading itself is data/checking/scan_survey.py.
"""
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from duiit.data import splits
from duiit.data.checking.fingerprint import VERSION, summarise
from duiit.data.checking.judging import judge
from duiit.data.checking.leaks import find_leaks
from duiit.data.checking.scan_survey import survey, warnings_kept
from duiit.data.cross_modality_dataset import modality_folders
from duiit.data.modality_dataset import loader_of
from duiit.data.preparing.intensity import ct_window
from duiit.data.readers import natural_key
from duiit.data.readers.labels import read_labels
from duiit.data.unaligned_dataset import SideA, SideB
from duiit.util.errors import UserError
from duiit.util.problems import Problem, counted, listed
from duiit.util.progress import track


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
    sizes: dict = field(default_factory=dict)
    spacings: dict = field(default_factory=dict)
    units: dict = field(default_factory=dict)
    intensity_range: list = field(default_factory=list)     # lowest 0.5th and highest 99.5th percentile of a scan
    labels: dict = field(default_factory=dict)
    split: dict = field(default_factory=dict)
    patients_by_part: dict = field(default_factory=dict)
    shared_patients: list = field(default_factory=list)     # who is in another modality too, and is one person there
    fingerprint: dict = field(default_factory=dict)


def check_folder(opt):
    """Checks every modality of opt.dataroot: ([Modality, …], [Problem, …]), errors first."""
    ct_window(opt.ct_window)
    names = modality_folders(opt.dataroot)
    if not names:
        raise UserError(f"--dataroot {opt.dataroot}: holds no folder; put each modality's images in one, such as ct")
    by_folder = {"trainA", "trainB"} <= set(names)
    if by_folder:
        checks = [ModalityCheck("B", SideB, opt.dataroot, opt), ModalityCheck("A", SideA, opt.dataroot, opt)]
    else:
        checks = [ModalityCheck(n, loader_of(n), Path(opt.dataroot) / n, opt) for n in _wanted(names, opt)]
    parts = _parts_by_folder(checks) if by_folder else _draw(checks, opt)
    _count_parts(checks, parts, by_folder or opt.split_by == "patient")
    people = {key: {part for _, part in images} for key, images in parts.items()}
    problems = [p for check in checks for p in check.problems]
    problems += [*_roles(checks, names, opt), *_unmatched(checks), *find_leaks(checks, people)]
    problems += _on_both_sides(checks, people) if by_folder else _nobody_to_train_on(checks)
    return [check.report for check in checks], sorted(problems, key=lambda p: p.level)


def _wanted(names, opt):
    """The target and the sources that are there; which are not is said by _roles."""
    sources = [s.strip() for s in opt.sources.split(",")] if opt.sources else names
    return dict.fromkeys(n for n in (opt.target, *sources) if n in names)


class ModalityCheck:
    """Reads one modality's folder and says what it found."""

    def __init__(self, name, loader, folder, opt):
        self.name, self.loader, self.folder, self.opt = name, loader, Path(folder), opt
        self.report, self.problems, self.found, self.labels, self.unmatched = Modality(name), [], [], None, []
        self.scans = self._scans()
        if self.scans:
            self._read()
            self._describe()
            self.unmatched = self.labels.unmatched(self.scans) if self.labels else []
            judge(self)

    def add(self, level, where, reason, remedy):
        self.problems.append(Problem(level, str(where), reason, remedy))

    def _scans(self):
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

    def _read(self):
        results, kept = survey(self.scans, self.loader, self.opt), {}
        for scan, result in zip(self.scans, track(results, f"checking {self.name}", len(self.scans), "scans"),
                                strict=True):
            if isinstance(result, UserError):
                where, reason, remedy = _told(str(result), scan.files[0])
                self.add("error", where, reason, remedy or "mend the file, or take it out of the folder")
            else:
                self.found.append(result)
                kept |= dict.fromkeys(result.notices)
        self._warn(kept)

    def _warn(self, messages):
        for message in dict.fromkeys(messages):
            where, reason, remedy = _told(message, self.folder)
            self.add("warning", where, reason, remedy or "look whether that is meant")

    def _describe(self):
        r, found, facts = self.report, self.found, [f.facts for f in self.found if f.facts]
        slices = [s for f in found for s in f.slices]
        r.patients, r.scans = len({s.patient for s in self.scans}), len(self.scans)
        r.slices, r.empty_slices = len(slices), sum(s.empty for s in slices)
        r.sizes = dict(sum((f.sizes for f in found), Counter()).most_common())
        r.spacings = dict(Counter(f.spacing for f in found if f.spacing).most_common())
        r.units = dict(Counter(f.unit for f in found).most_common())
        r.labels = _label_summary([s.label for s in slices], self.opt.task)
        if facts:
            r.intensity_range = [min(f.low for f in facts), max(f.high for f in facts)]
            r.fingerprint = summarise(facts)


def _told(message, place):
    """(where, reason, remedy) of a message in the house's form `where: reason; remedy`."""
    where, colon, rest = message.partition(": ")
    if not colon or not where.startswith((str(place), str(Path(place).parent))):
        where, rest = str(place), message
    reason, _, remedy = rest.partition("; ")
    return where, reason, remedy


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


# -- the split ---------------------------------------------------------------------------------------------------

def _draw(checks, opt):
    """{(modality, patient): [(image, part), …]} as training would draw it, of the slices it would take."""
    rows = {c.name: [s for f in c.found for s in f.slices if opt.keep_empty or not s.empty] for c in checks}
    rows = {modality: members for modality, members in rows.items() if members}
    parts, drawn = splits.assign(rows, opt), defaultdict(list)
    for modality, members in rows.items():
        for s, part in zip(members, parts[modality], strict=True):
            drawn[modality, s.patient].append(((s.file, s.index), part))
    return drawn


def _parts_by_folder(checks):
    """The same for trainA, testA, …, where the folder says it."""
    drawn = defaultdict(list)
    for check in checks:
        for s in (s for f in check.found for s in f.slices):
            drawn[check.name, s.patient].append(((s.file, s.index), s.file.split("/")[0][:-1]))
    return drawn


def _count_parts(checks, parts, by_patient):
    names = {c.name: {p for m, p in parts if m == c.name} for c in checks}
    for check in checks:
        report, members = check.report, {part: [] for part in splits.PARTS}
        for patient in sorted(names[check.name], key=natural_key):
            drawn = [part for _, part in parts[check.name, patient]]
            for part in dict.fromkeys(drawn) if by_patient else drawn:
                members[part].append(patient)
        report.split = {part: len(found) for part, found in members.items()}
        report.patients_by_part = {part: list(dict.fromkeys(found)) for part, found in members.items()}
        others = {p for name, found in names.items() if name != check.name for p in found}
        report.shared_patients = sorted(names[check.name] & others, key=natural_key)


def _nobody_to_train_on(checks):
    for check in checks:
        if check.report.split and sum(check.report.split.values()) and not check.report.split["train"]:
            yield Problem("error", str(check.folder), "the split leaves nobody to train on",
                          "lower --val_fraction, --test_fraction or --source_test_fraction")


def _on_both_sides(checks, people):
    for check in checks:
        both = [p for (modality, p), parts in people.items() if modality == check.name and len(parts) > 1]
        if both:
            yield Problem(
                "warning", str(check.folder), f"{len(both)} patients of {check.name} are in more than one of train, "
                f"val and test: {listed(sorted(both, key=natural_key))}",
                "move each to one side, or give a labels.csv with their patient ids if they are different people")


# -- the modalities together -------------------------------------------------------------------------------------

def _roles(checks, folders, opt):
    """What is missing for training: a target, a source, labels, patients to hold out."""
    root, names = str(opt.dataroot), [c.name for c in checks]
    by_folder = names == ["B", "A"]
    for source in (s.strip() for s in (opt.sources or "").split(",") if opt.sources and not by_folder):
        if source not in folders:
            yield Problem("error", root, f"no folder of the source modality {source}",
                          f"correct --sources; there are {listed(folders)}")
    if opt.target not in names and not by_folder:
        yield Problem("error", root, f"no folder of the target modality {opt.target}",
                      "add it, or name another with --target")
    elif len(names) == 1:
        yield Problem("warning", root, f"only {opt.target} is here", "a translator needs a source modality too")
    yield from _labels_together(checks, root, opt)
    for check in checks:
        if check.name == opt.target and 0 < check.report.patients < 3:
            yield Problem("warning", str(check.folder), f"only {counted(check.report.patients, 'patient')}",
                          "none can be held out for validation and testing; three are needed")


def _labels_together(checks, root, opt):
    if checks and not any(c.report.labels.get("count") for c in checks):
        yield Problem("error", root, "no image has a label", "add a labels.csv with the columns patient,label")
    classes = {name for c in checks for name in c.report.labels.get("classes", ())}
    if opt.task == "classification" and len(classes) == 1:
        yield Problem("error", root, f"every label is {classes.pop()}", "a classification needs at least two classes")


def _unmatched(checks):
    """Entries of a labels table without an image: in none of the modalities that share the table."""
    missing = defaultdict(list)
    for check in checks:
        if check.labels is not None and check.report.labels.get("count"):
            missing[check.labels.path].append(check.unmatched)
    for path, (first, *others) in missing.items():
        ids = [i for i in first if all(i in other for other in others)]
        if ids:
            yield Problem("warning", str(path), f"{len(ids)} entries have no image: {listed(ids)}",
                          "add their images, or check how ids and folders are spelled")


# -- for programs ------------------------------------------------------------------------------------------------

def as_json(modalities, problems):
    levels = Counter(p.level for p in problems)
    return {"errors": levels["error"], "warnings": levels["warning"],
            "modalities": [{k: v for k, v in asdict(m).items() if k != "fingerprint"} for m in modalities],
            "problems": [asdict(p) for p in problems]}


def as_fingerprint(modalities, opt):
    """What `dataset_fingerprint.json` says: the folder's scans in numbers, without a name of a patient."""
    named = ("patients_by_part", "shared_patients", "name")
    settings = {name: getattr(opt, name) for name in ("ct_window", "mri_channel", "slices", "keep_empty")}
    return {"version": VERSION, "settings": settings,
            "modalities": {m.name: {k: v for k, v in asdict(m).items() if k not in named} for m in modalities}}
