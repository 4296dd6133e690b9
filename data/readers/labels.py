"""Finds and reads the table that says how old (or of what class) each patient, scan or file is, and labels scans by it.

Knows the tables of the data sets it was made for (LGG MRI, ct-ich, Head-Neck-PET-CT) by what is odd in them, not by
their names: line-broken and two-row headers, footers, excluded sheets, ids padded here and not there.
"""
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

from duiit.data.readers import find_scans, header_age, stem_patient
from duiit.data.readers.age import ages_of
from duiit.data.readers.common import notice, stem_of
from duiit.data.readers.label_columns import Layout, age_unit, find_layout, key_of, looks_like_age
from duiit.data.readers.label_values import data_rows, labels_of, same_label, tell_choice
from duiit.data.readers.slice import Label, Scan
from duiit.data.readers.tables import Rows, read_sheets
from duiit.data.readers.walk import TABLE_ENDINGS, list_files
from duiit.util.errors import UserError
from duiit.util.file_index import FileIndex
from duiit.util.files import natural_key

log = logging.getLogger(__name__)
WRITTEN = ("file", "patient", "label")          # columns of the table that `duiit translate` writes

_KNOWN_NAMES = ("data.csv", "patient_demographics", "infoclinical", "participants.tsv")


@dataclass(frozen=True)
class Labels:
    """One table's labels, by file, by scan and by patient (ids as the table writes them), and file by file whose it is.

    column: the label's column. is_age: whether its name says that it holds ages in years.
    """
    path: Path
    column: str
    is_age: bool
    by_file: dict[str, Label] = field(default_factory=dict)
    by_scan: dict[str, Label] = field(default_factory=dict)
    by_patient: dict[str, Label] = field(default_factory=dict)
    file_patients: dict[str, str] = field(default_factory=dict)

    def attach(self, scans: list[Scan]) -> list[Scan]:
        """`scans` with their labels, from the file, else the scan, else the patient; None where the table has none.

        A patient column beside a file column overrides whose the files are, and splits scans that hold several's.
        """
        return [scan for scan, _ in self._resolve(scans)]

    def unmatched(self, scans: list[Scan]) -> list[str]:
        """The table's ids that belong to none of `scans`, in natural order."""
        used = {key for _, keys in self._resolve(scans) for key in keys}
        ids = {*self.by_file, *self.by_scan, *self.by_patient} - used
        return sorted(ids, key=natural_key)

    def _resolve(self, scans: list[Scan]) -> list[tuple[Scan, set[str]]]:
        """Every scan with its labels and the ids in the table that it answers to."""
        files, patients, names = _Ids(self.by_file), _Ids(self.by_patient), _Ids(self.by_scan)
        bare = Counter(path.name for scan in scans for path in scan.files)
        keys = {path: files.find(self._file_ids(path, scan, bare))
                for scan in scans for path in scan.files} if files else {}
        scans = [part for scan in scans for part in self._split_by_table(scan, keys)]
        scans = _with_table_patients(scans, patients) if patients else scans
        return [self._label(scan, keys, names, patients) for scan in scans]

    def _label(self, scan: Scan, keys: Mapping[Path, str | None], names: "_Ids",
               patients: "_Ids") -> tuple[Scan, set[str]]:
        own = {path: key for path in scan.files if (key := keys.get(path))}
        last = PurePosixPath(scan.name).name
        by_name = names.find([scan.name, f"{scan.patient}/{last}", f"{scan.patient}/{scan.name}", last])
        patient = patients.find([scan.patient])
        label = self.by_scan[by_name] if by_name else self.by_patient[patient] if patient else None
        file_labels = {path.relative_to(scan.root).as_posix(): self.by_file[key] for path, key in own.items()}
        if len(scan.files) == 1 and file_labels:
            label = next(iter(file_labels.values()))
        used = {key for key in (*own.values(), by_name, patient) if key}
        return replace(scan, label=label, file_labels=file_labels), used

    def _file_ids(self, path: Path, scan: Scan, bare: Counter[str]) -> list[str]:
        """How a table may write it: from the cohort's folder, from the table's, bare; with ending or without."""
        bases = [base for base in (scan.root, self.path.parent) if path.is_relative_to(base)]
        relative = [path.relative_to(base) for base in bases]
        if bare[path.name] == 1:
            relative.append(Path(path.name))
        return [name for one in relative for name in (one.as_posix(), (one.parent / stem_of(one)).as_posix())]

    def _split_by_table(self, scan: Scan, keys: Mapping[Path, str | None]) -> list[Scan]:
        owners = {path: self.file_patients.get(keys.get(path) or "", scan.patient) for path in scan.files}
        return _split(scan, owners)


class _Ids:
    """Finds a table's id for a name that is written otherwise: 49 for 049, TCGA_CS_4941 for TCGA_CS_4941_19960909."""

    def __init__(self, ids: Iterable[str]):
        self.exact = set(ids)
        folded = Counter(_unpadded(one) for one in self.exact)
        self.folded = {_unpadded(one): one for one in self.exact if folded[_unpadded(one)] == 1}

    def __bool__(self) -> bool:
        return bool(self.exact)

    def find(self, names: Iterable[str]) -> str | None:
        for name in names:
            undated = re.sub(r"_(19|20)\d{6}$", "", name)
            for one in (name, undated):
                if one in self.exact:
                    return one
                if _unpadded(one) in self.folded:
                    return self.folded[_unpadded(one)]
        return None


def _unpadded(name: str) -> str:
    match = re.fullmatch(r"0*(\d+)(\.0+)?", name)
    return match[1] if match else name


def _split(scan: Scan, owners: dict[Path, str]) -> list[Scan]:
    """One scan for each owner of its files; the scan's own name stays where there is one owner."""
    groups = defaultdict(list)
    for path in scan.files:
        groups[owners[path]].append(path)
    if len(groups) == 1:
        return [replace(scan, patient=next(iter(groups)))]
    return [replace(scan, name=f"{scan.name}/{owner}", patient=owner, files=tuple(files))
            for owner, files in groups.items()]


def _with_table_patients(scans: list[Scan], patients: _Ids) -> list[Scan]:
    """Where no scan's patient is in the table, the part of the path that is: the folder above or below, or the stem.

    So `images/sub-01.nii` or `all/patA_003.png` are matched by a table that lists sub-01 or patA. Decided for the
    whole cohort at once, as a number deep in one path may by chance be another patient's id.
    """
    if any(patients.find([scan.patient]) for scan in scans):
        return scans
    parts = {scan.name: PurePosixPath(scan.name).parts for scan in scans}
    hits = {depth: sum(bool(len(part) >= depth and patients.find([part[-depth]])) for part in parts.values())
            for depth in range(1, 6)}
    best = max(hits, key=lambda depth: (hits[depth], -depth))
    if hits[best]:
        return [replace(scan, patient=parts[scan.name][-best]) if len(parts[scan.name]) >= best else scan
                for scan in scans]
    owners = [{path: stem_patient(path) for path in scan.files} for scan in scans]
    if any(patients.find([owner]) for one in owners for owner in one.values()):
        return [part for scan, one in zip(scans, owners, strict=True) for part in _split(scan, one)]
    return scans


def _is_ours(root: Path) -> bool:
    """Whether `duiit translate` wrote the table of this folder."""
    try:
        with (root / "labels.csv").open(encoding="utf-8-sig") as file:
            return file.readline().strip() == ",".join(WRITTEN)
    except (OSError, UnicodeDecodeError):
        return False


def find_labelled_scans(root: Path, opt: object = None, *, modalities: tuple[str, ...] | None = None,
                        patient_regex: str | None = None, unit: str | None = None) -> list[Scan]:
    """The scans of one cohort with their labels, for a loader: DICOM of these `modalities`, expected in this `unit`.

    opt: `patient_regex` (over the one given here), `label_column`, `id_column`, `task`, where it has them.
    Ages come from the headers (PatientAge) where no table gives any. Raises UserError, for an empty folder too.
    """
    root = Path(root)
    with FileIndex.of_data(root, opt) as index:
        return _find_labelled(root, opt, modalities, patient_regex, unit, index)


def _find_labelled(root: Path, opt: object, modalities: tuple[str, ...] | None, patient_regex: str | None,
                   unit: str | None, index: FileIndex) -> list[Scan]:
    if _is_ours(root):          # the options speak of the tables of the data, not of this one
        opt = SimpleNamespace(task=getattr(opt, "task", None))
    asked = getattr(opt, "patient_regex", None)
    scans = find_scans(root, asked or patient_regex, modalities=modalities, index=index)
    paths = [path.relative_to(scan.root).as_posix() for scan in scans for path in scan.files]
    if asked and paths and not any(re.search(asked, path) for path in paths):
        raise UserError(f"--patient_regex {asked}: matches no file under {root}, such as {paths[0]}; correct it")
    if not scans:
        wanted = f" (of DICOM, only Modality {' or '.join(modalities)} counts)" if modalities else ""
        raise UserError(f"{root}: no images found{wanted}; put PNG, JPEG, TIFF, NumPy, NIfTI or DICOM files there")
    scans = [replace(scan, unit=unit) for scan in scans]
    return label_scans(scans, root, getattr(opt, "label_column", None), getattr(opt, "id_column", None),
                       getattr(opt, "task", None) or "regression", index)


@lru_cache(maxsize=64)
def _tell(message: str) -> None:
    """Once a process: a command may read the same table for several parts of its work."""
    log.info(message)


def label_scans(scans: list[Scan], root: Path, label_column: str | None = None, id_column: str | None = None,
                task: str = "regression", index: FileIndex | None = None) -> list[Scan]:
    """`scans` with the labels of the table under `root`; for regression on age, else with the headers' ages.

    index: what is known of files under `root`.
    """
    labels = read_labels(root, label_column, id_column, task)
    if labels:
        scans = labels.attach(scans)
        _tell(f"{labels.path}: labels from column '{labels.column}'")
    ages_wanted = labels.is_age if labels else not label_column or bool(age_unit(key_of(label_column)))
    if task != "regression" or not ages_wanted:
        return scans
    unlabelled = [scan for scan in scans if scan.label is None and not scan.file_labels]
    ages = dict(zip([scan.name for scan in unlabelled], ages_of([header_age(s, index) for s in unlabelled], root),
                    strict=True))
    return [replace(scan, label=ages[scan.name]) if scan.name in ages else scan for scan in scans]


def find_labels_file(root: Path, label_column: str | None = None, id_column: str | None = None,
                     task: str = "regression") -> Path | None:
    """The shallowest table of labels under `root`: `labels.csv|tsv|xlsx`, or another with an id and a label column.

    A file named `labels` is taken whatever is in it, so that its mistakes are told and not passed over.
    """
    root = Path(root)
    if root.is_file():
        root = root.parent
    tables = [path for path in list_files(root) if path.suffix.lower() in TABLE_ENDINGS]
    for path in sorted(tables, key=lambda path: (len(path.parts), _rank(path), natural_key(path))):
        if _rank(path) == 0 or _fits(path, label_column, id_column, task):
            rivals = [other for other in tables if other.parent == path.parent and _rank(other) == 0 and other != path]
            if rivals:
                others = ", ".join(other.name for other in rivals)
                notice(f"{path}: taken for the labels, not {others}; remove what is old")
            return path
    return None


def read_labels(root: Path, label_column: str | None = None, id_column: str | None = None,
                task: str = "regression") -> Labels | None:
    """The labels under the folder `root` (or in the table `root`); None where there is no table.

    task: with `regression` labels are numbers (ages of DICOM's form, such as 063Y, become years), with
    `classification` text. Empty cells are missing labels (None). Raises UserError, naming row and value, for a label
    that is not a number, for ids with two labels, and where the named column is not there.
    """
    root = Path(root)
    is_table = root.is_file() and root.suffix.lower() in TABLE_ENDINGS
    path = root if is_table else find_labels_file(root, label_column, id_column, task)
    return parse_table(path, label_column, id_column, task) if path else None


def parse_table(path: Path, label_column: str | None = None, id_column: str | None = None,
                task: str = "regression") -> Labels:
    """The labels in one CSV, TSV or Excel file, all its sheets but those named Excluded. Raises UserError."""
    layouts = {name: (rows, layout) for name, rows in read_sheets(path).items() if name.casefold() != "excluded"
               and (layout := find_layout(rows, label_column, id_column, task))}
    if not layouts:
        raise UserError(_no_column(path, label_column, id_column))
    first, chosen = next((name, layout) for name, (_, layout) in layouts.items())
    labels = Labels(path, chosen.label_name, chosen.age_unit is not None)
    for name, (rows, layout) in layouts.items():
        if not same_label(chosen, layout):
            raise UserError(f"{path}: sheet '{first}' has labels in column '{chosen.label_name}', sheet '{name}' in "
                            f"'{layout.label_name}'; remove one sheet, or name the column with --label_column")
        tell_choice(path, layout)
        _collect(labels, rows, layout, task)
    return labels


def _collect(labels: Labels, rows: Rows, layout: Layout, task: str) -> None:
    """Fill `labels` from one sheet's rows below the header."""
    role = next(role for role in ("file", "scan", "patient") if role in layout.ids)
    target = {"file": labels.by_file, "scan": labels.by_scan, "patient": labels.by_patient}[role]
    data = data_rows(rows, layout, layout.ids[role], labels.path)
    for (number, row), label in zip(data, labels_of(data, layout, task, labels.path), strict=True):
        name = row[layout.ids[role]]
        patient = row[layout.ids["patient"]] if "patient" in layout.ids else ""
        if role == "file":
            name = name.replace("\\", "/").removeprefix("./")
            if patient:
                labels.file_patients[name] = patient
        elif role == "scan" and patient:
            name = name if name.startswith(f"{patient}/") else f"{patient}/{name}"  # scan names may recur per patient
        if name in target and target[name] not in (None, label) and label is not None:
            raise UserError(f"{labels.path}: row {number}: {role} '{name}' has two labels, {target[name]} and {label}; "
                            "keep one, or give labels by scan or file")
        target[name] = label if label is not None else target.get(name)


def _rank(path: Path) -> int:
    name = path.name.casefold()
    return 0 if path.stem.casefold() == "labels" else 1 if name.startswith(_KNOWN_NAMES) else 2


def _fits(path: Path, label_column: str | None, id_column: str | None, task: str) -> bool:
    try:
        sheets = read_sheets(path)
    except UserError as error:
        notice(f"{error} (no labels looked for in it)")
        return False
    if any(find_layout(rows, label_column, id_column, task) for rows in sheets.values()):
        return True
    if task == "regression" and not label_column:
        _tell_other_ages(path, sheets, id_column)
    return False


def _tell_other_ages(path: Path, sheets: dict[str, Rows], id_column: str | None) -> None:
    """A table that would count but that its column's name says of an age more than is known here."""
    for rows in sheets.values():
        for cell in (cell for row in rows[:10] for cell in row if looks_like_age(key_of(cell))):
            if find_layout(rows, cell, id_column, "regression"):
                notice(f"{path}: column '{cell}' is not taken for the patients' ages; name it with --label_column if "
                       "it is")


def _no_column(path: Path, label_column: str | None, id_column: str | None) -> str:
    header = next((rows[0] for rows in read_sheets(path).values() if rows), [])
    names = ", ".join(cell for cell in header if cell)[:160] or "nothing"
    wanted = " and ".join(f"'{name}'" for name in (id_column, label_column) if name)
    if wanted:
        return f"{path}: has no column {wanted} (it has: {names}); correct --label_column or --id_column"
    return f"{path}: needs a column patient, scan or file and a column label or age (it has: {names}); " \
           "rename them or give --id_column and --label_column"
