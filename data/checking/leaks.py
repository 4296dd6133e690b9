"""Ways in which one person can stand on both sides of a split: the same pixels, the same PatientID, or the same name
spelled in two ways, under patients that are taken for different people.

Works on what a check has found (objects with name, folder and found) and says where the drawn split would put them.
"""
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from duiit.data.checking.modality_check import ModalityCheck
from duiit.data.readers import natural_key
from duiit.data.readers.finding import NOBODY
from duiit.util.problems import Problem, counted, listed

Member = tuple[str, str]                    # (modality, patient)
Parts = Mapping[Member, Collection[str]]    # the parts of the split that each would stand in
ONE_ID = "give both the same patient id (--patient_regex, or a patient column in labels.csv), or keep one"


def find_leaks(checks: Sequence[ModalityCheck], parts: Parts) -> list[Problem]:
    """Problems, of all modalities together. parts: {(modality, patient): {part, …}} as the split would be drawn."""
    return [*_same_pixels(checks, parts), *_same_patient_id(checks, parts), *_same_name(checks, parts)]


def _same_pixels(checks: Sequence[ModalityCheck], parts: Parts) -> Iterator[Problem]:
    """Patients who share an image that shows something. A patient is (modality, name): a name means one person."""
    owners: defaultdict[bytes, dict[Member, Path]] = defaultdict(dict)
    for check in checks:
        for s in (s for f in check.found for s in f.slices if not s.empty):
            owners[s.digest].setdefault((check.name, s.patient), check.folder / s.file)
    groups: defaultdict[tuple[Member, ...], list[list[Path]]] = defaultdict(list)
    for held in owners.values():
        if len(held) > 1:
            groups[tuple(sorted(held, key=_order))].append(list(held.values()))
    for members, files in groups.items():
        yield _pixel_problem(checks, parts, members, files)


def _pixel_problem(checks: Sequence[ModalityCheck], parts: Parts, members: Sequence[Member],
                   files: Sequence[Sequence[Path]]) -> Problem:
    names, modalities = {p for _, p in members}, {m for m, _ in members}
    example = " and ".join(str(_below(checks, path)) for path in files[0][:2])
    same = f"{counted(len(files), 'image')} alike (such as {example})"
    if len(names) == 1:
        return Problem("warning", _folder(checks, members), f"patient {names.pop()} has {same} in "
                       f"{' and '.join(sorted(modalities))}", "take them out where they do not belong")
    return Problem("error", _folder(checks, members), f"the same images under the patients {_people(members)}: {same}"
                   + _where(members, parts), f"{ONE_ID}, or they can stand on both sides of the split")


def _same_patient_id(checks: Sequence[ModalityCheck], parts: Parts) -> Iterator[Problem]:
    """One DICOM PatientID (0010,0020) under several patients' names, unless it is what everybody was given."""
    owners: defaultdict[str, set[Member]] = defaultdict(set)
    for check in checks:
        for f in check.found:
            if not NOBODY.fullmatch(f.patient_id):
                owners[f.patient_id].add((check.name, f.patient))
    everybody = {member for held in owners.values() for member in held}
    for patient_id, held in owners.items():
        if len({p for _, p in held}) > 1 and held != everybody:
            members = sorted(held, key=_order)
            yield Problem("error", _folder(checks, members), f"the DICOM PatientID of {_people(members)} is the same "
                          f"({patient_id})" + _where(members, parts), ONE_ID)


def _same_name(checks: Sequence[ModalityCheck], parts: Parts) -> Iterator[Problem]:
    """Names that differ only in case, padding zeros or separators: 049 and 49, sub-01 and SUB_1."""
    spelled: defaultdict[str, set[Member]] = defaultdict(set)
    for check in checks:
        for f in check.found:
            spelled[_plain(f.patient)].add((check.name, f.patient))
    for held in spelled.values():
        if len({p for _, p in held}) > 1:
            members = sorted(held, key=_order)
            yield Problem("warning", _folder(checks, members), f"patients {_people(members)} may be one person under "
                          "two names" + _where(members, parts), f"if so, {ONE_ID}; if not, nothing is to be done")


def _plain(name: str) -> str:
    name = re.sub(r"[\s_\-.]+", "-", name.strip()).casefold()
    return re.sub(r"(?<!\d)0+(?=\d)", "", name)


def _order(member: Member) -> tuple[Any, str]:
    modality, patient = member
    return natural_key(patient), modality


def _people(members: Sequence[Member]) -> str:
    """The names, each with its modality where there are several."""
    several = len({m for m, _ in members}) > 1
    return listed(f"{p} ({m})" if several else p for m, p in members)


def _where(members: Sequence[Member], parts: Parts) -> str:
    """Where the split would put them, if that is on different sides."""
    sides = {part for member in members for part in parts.get(member, ())}
    order = [part for part in ("train", "val", "test") if part in sides]
    return f", which the split would put into {' and '.join(order)}" if len(order) > 1 else ""


def _folder(checks: Sequence[ModalityCheck], members: Sequence[Member]) -> str:
    folders = list(dict.fromkeys(str(c.folder) for m, _ in members for c in checks if c.name == m))
    return folders[0] if len(folders) == 1 else str(Path(folders[0]).parent)


def _below(checks: Sequence[ModalityCheck], path: Path) -> Path:
    folder = next(c.folder for c in checks if path.is_relative_to(c.folder))
    return path.relative_to(folder.parent if len(checks) > 1 else folder)
