"""What lies in a data folder, and what is wrong with it: every file is read once, nothing is changed.

A problem has a level (error: training would fail or be wrong; warning: it would run, but look first), the file or
folder, the reason and the remedy. Each modality is read in data/checking/modality_check.py (scan by scan in
data/checking/scan_survey.py) and judged in data/checking/modality_problems.py; people on both sides of a split are
found in data/checking/leaks.py.
"""
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from duiit.data import splits
from duiit.data.checking.fingerprint import VERSION
from duiit.data.checking.leaks import find_leaks
from duiit.data.checking.modality_check import Modality, ModalityCheck
from duiit.data.checking.modality_problems import EVEN, find_problems, pixel_sizes
from duiit.data.cross_modality_dataset import modality_folders
from duiit.data.modality_dataset import loader_of
from duiit.data.readers import natural_key
from duiit.data.unaligned_dataset import SideA, SideB
from duiit.util.errors import UserError
from duiit.util.problems import Problem, counted, listed

Drawn = Mapping[tuple[str, str], Sequence[tuple[tuple[str, int], str]]]    # {(modality, patient): [(image, part), …]}


def check_folder(opt: Namespace) -> tuple[list[Modality], list[Problem]]:
    """Checks every modality of opt.dataroot: ([Modality, …], [Problem, …]), errors first."""
    names = modality_folders(opt.dataroot)
    if not names:
        raise UserError(f"--dataroot {opt.dataroot}: holds no folder; put each modality's images in one, such as ct")
    by_folder = {"trainA", "trainB"} <= set(names)
    if by_folder:
        checks = [ModalityCheck("B", SideB, opt.dataroot, opt), ModalityCheck("A", SideA, opt.dataroot, opt)]
    else:
        checks = [ModalityCheck(n, loader_of(n), Path(opt.dataroot) / n, opt) for n in _wanted(names, opt)]
    for check in checks:
        if check.scans:
            find_problems(check)
    parts = _parts_by_folder(checks) if by_folder else _draw(checks, opt)
    _count_parts(checks, parts, by_folder or opt.split_by == "patient")
    people = {key: {part for _, part in images} for key, images in parts.items()}
    problems = [p for check in checks for p in check.problems]
    problems += [*_roles(checks, names, opt), *_unmatched(checks), *find_leaks(checks, people)]
    problems += _on_both_sides(checks, people) if by_folder else _nobody_to_train_on(checks)
    return [check.report for check in checks], sorted(problems, key=lambda p: p.level)


def _wanted(names: Sequence[str], opt: Namespace) -> dict[str, None]:
    """The target and the sources that are there; which are not is said by _roles."""
    sources = [s.strip() for s in opt.sources.split(",")] if opt.sources else names
    return dict.fromkeys(n for n in (opt.target, *sources) if n in names)


# -- the split ---------------------------------------------------------------------------------------------------

def _draw(checks: Sequence[ModalityCheck], opt: Namespace) -> Drawn:
    """{(modality, patient): [(image, part), …]} as training would draw it, of the slices it would take."""
    rows = {c.name: [s for f in c.found for s in f.slices if opt.keep_empty or not s.empty] for c in checks}
    rows = {modality: members for modality, members in rows.items() if members}
    parts = splits.assign(rows, opt)
    drawn: defaultdict[tuple[str, str], list[tuple[tuple[str, int], str]]] = defaultdict(list)
    for modality, members in rows.items():
        for s, part in zip(members, parts[modality], strict=True):
            drawn[modality, s.patient].append(((s.file, s.index), part))
    return drawn


def _parts_by_folder(checks: Iterable[ModalityCheck]) -> Drawn:
    """The same for trainA, testA, …, where the folder says it."""
    drawn: defaultdict[tuple[str, str], list[tuple[tuple[str, int], str]]] = defaultdict(list)
    for check in checks:
        for s in (s for f in check.found for s in f.slices):
            drawn[check.name, s.patient].append(((s.file, s.index), s.file.split("/")[0][:-1]))
    return drawn


def _count_parts(checks: Sequence[ModalityCheck], parts: Drawn, by_patient: bool) -> None:
    names = {c.name: {p for m, p in parts if m == c.name} for c in checks}
    for check in checks:
        report = check.report
        members: dict[str, list[str]] = {part: [] for part in splits.PARTS}
        for patient in sorted(names[check.name], key=natural_key):
            drawn = [part for _, part in parts[check.name, patient]]
            for part in dict.fromkeys(drawn) if by_patient else drawn:
                members[part].append(patient)
        report.split = {part: len(found) for part, found in members.items()}
        report.patients_by_part = {part: list(dict.fromkeys(found)) for part, found in members.items()}
        others = {p for name, found in names.items() if name != check.name for p in found}
        report.shared_patients = sorted(names[check.name] & others, key=natural_key)


def _nobody_to_train_on(checks: Iterable[ModalityCheck]) -> Iterator[Problem]:
    for check in checks:
        if check.report.split and sum(check.report.split.values()) and not check.report.split["train"]:
            yield Problem("error", str(check.folder), "the split leaves nobody to train on",
                          "lower --val_fraction, --test_fraction or --source_test_fraction")


def _on_both_sides(checks: Iterable[ModalityCheck], people: Mapping[tuple[str, str], set[str]]) -> Iterator[Problem]:
    for check in checks:
        both = sorted((p for (modality, p), parts in people.items() if modality == check.name and len(parts) > 1),
                      key=natural_key)
        if both:
            yield Problem(
                "warning", str(check.folder), f"{len(both)} patients of {check.name} are in more than one of train, "
                f"val and test: {listed(both)}",
                "move each to one side, or give a labels.csv with their patient ids if they are different people")


# -- the modalities together -------------------------------------------------------------------------------------

def _roles(checks: Sequence[ModalityCheck], folders: Sequence[str], opt: Namespace) -> Iterator[Problem]:
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
    yield from _scales_together(checks, root, opt)
    for check in checks:
        if check.name == opt.target and 0 < check.report.patients < 3:
            yield Problem("warning", str(check.folder), f"only {counted(check.report.patients, 'patient')}",
                          "none can be held out for validation and testing; three are needed")


def _scales_together(checks: Sequence[ModalityCheck], root: str, opt: Namespace) -> Iterator[Problem]:
    """Modalities whose typical fields of view, brought to one size, would show anatomy at different scales."""
    known = {c.name: sorted(pixel_sizes(c).values()) for c in checks if pixel_sizes(c)}
    fields = {name: median(row * height for row, _, height, _ in sizes) for name, sizes in known.items()}
    if opt.spacing is not None or len(fields) < 2:
        return
    small, large = (choose(fields, key=lambda name: fields[name]) for choose in (min, max))
    if fields[large] > EVEN * fields[small]:
        pixels = {name: median(row for row, *_ in sizes) for name, sizes in known.items()}
        yield Problem("warning", root, f"{large} has fields of view of {fields[large]:.0f} mm and pixels of "
                      f"{pixels[large]:.3g} mm, {small} of {fields[small]:.0f} mm and {pixels[small]:.3g} mm, in the "
                      f"median: resized, anatomy of {large} is {fields[large] / fields[small]:.2f} times smaller",
                      "--spacing brings both to one scale")


def _labels_together(checks: Sequence[ModalityCheck], root: str, opt: Namespace) -> Iterator[Problem]:
    if checks and not any(c.report.labels.get("count") for c in checks):
        yield Problem("error", root, "no image has a label", "add a labels.csv with the columns patient,label")
    classes = {name for c in checks for name in c.report.labels.get("classes", ())}
    if opt.task == "classification" and len(classes) == 1:
        yield Problem("error", root, f"every label is {classes.pop()}", "a classification needs at least two classes")


def _unmatched(checks: Iterable[ModalityCheck]) -> Iterator[Problem]:
    """Entries of a labels table without an image: in none of the modalities that share the table."""
    missing: defaultdict[Path, list[list[str]]] = defaultdict(list)
    for check in checks:
        if check.labels is not None and check.report.labels.get("count"):
            missing[check.labels.path].append(check.unmatched)
    for path, (first, *others) in missing.items():
        ids = [i for i in first if all(i in other for other in others)]
        if ids:
            yield Problem("warning", str(path), f"{len(ids)} entries have no image: {listed(ids)}",
                          "add their images, or check how ids and folders are spelled")


# -- for programs ------------------------------------------------------------------------------------------------

def as_json(modalities: Iterable[Modality], problems: Iterable[Problem]) -> dict[str, Any]:
    levels = Counter(p.level for p in problems)
    return {"errors": levels["error"], "warnings": levels["warning"],
            "modalities": [{k: v for k, v in asdict(m).items() if k != "fingerprint"} for m in modalities],
            "problems": [asdict(p) for p in problems]}


def as_fingerprint(modalities: Iterable[Modality], opt: Namespace) -> dict[str, Any]:
    """What `dataset_fingerprint.json` says: the folder's scans in numbers, without a name of a patient."""
    named = ("patients_by_part", "shared_patients", "name")
    settings = {name: getattr(opt, name) for name in ("ct_window", "pet_window", "mri_channel", "slices", "keep_empty")}
    return {"version": VERSION, "settings": settings,
            "modalities": {m.name: {k: v for k, v in asdict(m).items() if k not in named} for m in modalities}}
