"""Finds and reads the table that says how old (or of what class) each patient, scan or file is, and labels scans by it.

Knows the tables of the data sets it was made for (LGG MRI, ct-ich, Head-Neck-PET-CT) by what is odd in them, not by
their names: line-broken and two-row headers, footers, excluded sheets, ids padded here and not there.
"""
import logging
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

from duiit.data.readers import find_scans, header_age, parse_age, stem_patient
from duiit.data.readers.common import notice, stem_of
from duiit.data.readers.slice import Label, Scan
from duiit.data.readers.tables import Rows, read_sheets
from duiit.data.readers.walk import TABLE_ENDINGS, list_files
from duiit.util.errors import UserError
from duiit.util.files import natural_key

log = logging.getLogger(__name__)
WRITTEN = ("file", "patient", "label")          # columns of the table that `duiit translate` writes

# Column names, as _key() writes them, in order of preference.
_ID_COLUMNS = {
    "file": ("file", "filename", "file name", "filepath", "file path", "path", "image"),
    "scan": ("scan", "scan id", "series", "volume"),
    "patient": ("patient", "patient id", "patientid", "patient #", "patient number", "patientnumber", "patient no",
                "tcia patient id", "subject", "subject id", "participant id", "participant", "case", "case id", "id"),
}
_LABEL_COLUMNS = {"regression": ("label", "age"),
                  "classification": ("label", "class", "target", "category", "diagnosis")}
_EMPTY = {"", "nan", "na", "n/a", "#n/a"}
_NO_NUMBER = _EMPTY | {"none", "null", "-", "--", ".", "?", "unknown", "missing", "nd"}  # a class may be called "none"
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
    if _is_ours(root):          # the options speak of the tables of the data, not of this one
        opt = SimpleNamespace(task=getattr(opt, "task", None))
    asked = getattr(opt, "patient_regex", None)
    scans = find_scans(root, asked or patient_regex, modalities=modalities)
    paths = [path.relative_to(scan.root).as_posix() for scan in scans for path in scan.files]
    if asked and paths and not any(re.search(asked, path) for path in paths):
        raise UserError(f"--patient_regex {asked}: matches no file under {root}, such as {paths[0]}; correct it")
    if not scans:
        wanted = f" (of DICOM, only Modality {' or '.join(modalities)} counts)" if modalities else ""
        raise UserError(f"{root}: no images found{wanted}; put PNG, JPEG, TIFF, NumPy, NIfTI or DICOM files there")
    scans = [replace(scan, unit=unit) for scan in scans]
    return label_scans(scans, root, getattr(opt, "label_column", None), getattr(opt, "id_column", None),
                       getattr(opt, "task", None) or "regression")


@lru_cache(maxsize=64)
def _tell(message: str) -> None:
    """Once a process: a command may read the same table for several parts of its work."""
    log.info(message)


def label_scans(scans: list[Scan], root: Path, label_column: str | None = None, id_column: str | None = None,
                task: str = "regression") -> list[Scan]:
    """`scans` with the labels of the table under `root`; for regression on age, else with the headers' ages."""
    labels = read_labels(root, label_column, id_column, task)
    if labels:
        scans = labels.attach(scans)
        _tell(f"{labels.path}: labels from column '{labels.column}'")
    ages_wanted = labels.is_age if labels else not label_column or _is_age(_key(label_column))
    if task != "regression" or not ages_wanted:
        return scans
    return [scan if scan.label is not None or scan.file_labels else replace(scan, label=header_age(scan))
            for scan in scans]


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
    layouts = [(rows, layout) for name, rows in read_sheets(path).items() if name.casefold() != "excluded"
               and (layout := _layout(rows, label_column, id_column, task))]
    if not layouts:
        raise UserError(_no_column(path, label_column, id_column))
    labels = Labels(path, layouts[0][1].label_name, _is_age(_key(layouts[0][1].label_name)))
    for rows, layout in layouts:
        _collect(labels, rows, layout, task)
    return labels


@dataclass(frozen=True)
class _Layout:
    """Where in a sheet the header and the columns are; `ids` maps file, scan, patient to column numbers."""
    header: int
    label: int
    label_name: str
    ids: dict[str, int]
    width: int


def _layout(rows: Rows, label_column: str | None, id_column: str | None, task: str) -> _Layout | None:
    """The first of the top rows that names an id and a label (there may be titles above the header)."""
    for number, row in enumerate(rows[:10]):
        keys = [_key(cell) for cell in row]
        label = _label_index(keys, label_column, task)
        ids = _id_indices(keys, id_column)
        if label is not None and any(index != label for index in ids.values()):
            return _Layout(number, label, row[label], ids, sum(bool(key) for key in keys))
    return None


def _label_index(keys: list[str], label_column: str | None, task: str) -> int | None:
    if label_column:
        return keys.index(_key(label_column)) if _key(label_column) in keys else None
    exact = next((keys.index(name) for name in _LABEL_COLUMNS[task] if name in keys), None)
    if exact is None and task == "regression":
        return next((i for i, key in enumerate(keys) if _is_age(key)), None)
    return exact


def _id_indices(keys: list[str], id_column: str | None) -> dict[str, int]:
    if id_column:
        wanted = _key(id_column)
        role = next((role for role, names in _ID_COLUMNS.items() if wanted in names), "patient")
        return {role: keys.index(wanted)} if wanted in keys else {}
    found = {role: next((keys.index(name) for name in names if name in keys), None)
             for role, names in _ID_COLUMNS.items()}
    return {role: index for role, index in found.items() if index is not None}


def _collect(labels: Labels, rows: Rows, layout: _Layout, task: str) -> None:
    """Fill `labels` from one sheet's rows below the header."""
    role = next(role for role in ("file", "scan", "patient") if role in layout.ids)
    target = {"file": labels.by_file, "scan": labels.by_scan, "patient": labels.by_patient}[role]
    for number, row in _data_rows(rows, layout, layout.ids[role]):
        name, text = row[layout.ids[role]], row[layout.label]
        patient = row[layout.ids["patient"]] if "patient" in layout.ids else ""
        if role == "file":
            name = name.replace("\\", "/").removeprefix("./")
            if patient:
                labels.file_patients[name] = patient
        elif role == "scan" and patient:
            name = name if name.startswith(f"{patient}/") else f"{patient}/{name}"  # scan names may recur per patient
        label = _parse(text, labels, number, task)
        if name in target and target[name] not in (None, label) and label is not None:
            raise UserError(f"{labels.path}: row {number}: {role} '{name}' has two labels, {target[name]} and {label}; "
                            "keep one, or give labels by scan or file")
        target[name] = label if label is not None else target.get(name)


def _data_rows(rows: Rows, layout: _Layout, index: int) -> list[tuple[int, list[str]]]:
    """The rows that describe somebody, with their numbers in the file, from 1; without blank rows, second header rows
    (no id, or text among numbers) and footnotes (one filled cell in a wide table, or text among `HN-...` ids).
    """
    longest = max(map(len, rows))
    filled = [(number, row + [""] * (longest - len(row))) for number, row in enumerate(rows, start=1)]
    data = [(number, row) for number, row in filled[layout.header + 1:] if row[index]]
    if layout.width > 2:
        data = [(number, row) for number, row in data if sum(bool(cell) for cell in row) > 1]
    coded = [bool(re.fullmatch(r"HN-[A-Za-z]+-\d+", row[index])) for _, row in data]
    if any(coded):
        return [item for item, keep in zip(data, coded, strict=True) if keep]
    numeric = [bool(re.fullmatch(r"\d+(\.0+)?", row[index])) for _, row in data]
    if data and not numeric[0] and sum(numeric) == len(data) - 1 > 0 and not re.search(r"\d", data[0][1][layout.label]):
        data = data[1:]
    return data


def _parse(text: str, labels: Labels, number: int, task: str) -> Label:
    if text.casefold() in (_EMPTY if task == "classification" else _NO_NUMBER):
        return None
    if task == "classification":
        return text
    if labels.is_age and re.fullmatch(r"\d+[YMWD]", text, re.IGNORECASE):
        return parse_age(text)
    try:
        value = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{labels.path}: row {number}: {labels.column} '{text}' is not a number; correct it or leave "
                        "it empty (classes need --task classification)")
    return value


def _key(name: str) -> str:
    """A column's name without case, punctuation and line breaks: `Age\\n(years)` -> `age years`."""
    return re.sub(r"[^a-z0-9#]+", " ", name.casefold()).strip()


def _is_age(key: str) -> bool:
    return bool(re.fullmatch(r"(patient )?age( .*)?|patientage", key))


def _rank(path: Path) -> int:
    name = path.name.casefold()
    return 0 if path.stem.casefold() == "labels" else 1 if name.startswith(_KNOWN_NAMES) else 2


def _fits(path: Path, label_column: str | None, id_column: str | None, task: str) -> bool:
    try:
        return any(_layout(rows, label_column, id_column, task) for rows in read_sheets(path).values())
    except UserError as error:
        notice(f"{error} (no labels looked for in it)")
        return False


def _no_column(path: Path, label_column: str | None, id_column: str | None) -> str:
    header = next((rows[0] for rows in read_sheets(path).values() if rows), [])
    names = ", ".join(cell for cell in header if cell)[:160] or "nothing"
    wanted = " and ".join(f"'{name}'" for name in (id_column, label_column) if name)
    if wanted:
        return f"{path}: has no column {wanted} (it has: {names}); correct --label_column or --id_column"
    return f"{path}: needs a column patient, scan or file and a column label or age (it has: {names}); " \
           "rename them or give --id_column and --label_column"
