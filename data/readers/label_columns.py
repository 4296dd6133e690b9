"""Which columns of a table say whose a label is and what it is: names in any script, units in the name of an age.
"""
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from duiit.data.readers.age import PER_YEAR
from duiit.data.readers.tables import Rows

# Column names, as key_of() writes them, in order of preference.
_IDS = {
    "file": ("file", "filename", "file name", "filepath", "file path", "path", "image"),
    "scan": ("scan", "scan id", "series", "volume"),
    "patient": ("patient", "patient id", "patientid", "patient #", "patient number", "patientnumber", "patient no",
                "tcia patient id", "subject", "subject id", "participant id", "participant", "case", "case id", "id"),
}
_LABELS = {"regression": ("label",), "classification": ("label", "class", "target", "category", "diagnosis")}
_UNIT_COLUMNS = ("age unit", "age units", "unit of age", "patient age unit", "patient age units")
_UNIT_WORDS = {"Y": ("year", "years", "yr", "yrs", "y", "yo"), "M": ("month", "months", "mo", "mos", "mth", "mths"),
               "W": ("week", "weeks", "wk", "wks"), "D": ("day", "days")}
_UNIT_OF = {word: unit for unit, words in _UNIT_WORDS.items() for word in words}
# What an age may be taken at and still be the patient's in the image. An age of onset or a group of ages is another.
_OCCASIONS = {"at", "in", "the", "of", "time", "scan", "scanning", "image", "imaging", "mri", "mr", "ct", "pet", "exam",
              "examination", "acquisition", "study", "visit", "session", "baseline", "entry", "enrolment", "enrollment",
              "inclusion", "diagnosis", "dx", "initial", "pathologic", "pathological", "histologic", "surgery",
              "presentation", "admission", "test", "assessment", "patient", "subject"}


@dataclass(frozen=True)
class Layout:
    """Where in a sheet the header and the columns are; `ids` maps file, scan, patient to column numbers.

    age_unit: Y, M, W or D where the label is an age, else None. unit_column: where each row tells its own.
    rivals: other columns that could be meant. width: how many columns have names; length: how many the header has.
    """
    header: int
    label: int
    label_name: str
    ids: dict[str, int]
    width: int
    length: int
    age_unit: str | None = None
    unit_column: int | None = None
    rivals: tuple[str, ...] = ()


def find_layout(rows: Rows, label_column: str | None, id_column: str | None, task: str) -> Layout | None:
    """The first of the top rows that names an id and a label (there may be titles above the header)."""
    for number, row in enumerate(rows[:10]):
        keys = [key_of(cell) for cell in row]
        ids = _id_columns(row, keys, id_column)
        labels = _label_columns(row, keys, label_column, task)
        if labels and any(index != labels[0] for index in ids.values()):
            unit = age_unit(keys[labels[0]]) if task == "regression" else None
            unit_column = next((i for i, key in enumerate(keys) if key in _UNIT_COLUMNS), None) if unit else None
            rivals = tuple(_described(row, i) for i in [*labels[1:], *_id_rivals(row, keys, id_column)])
            return Layout(number, labels[0], row[labels[0]], ids, sum(map(bool, row)), len(row), unit, unit_column,
                          rivals)
    return None


def key_of(name: str) -> str:
    """A column's name without case, punctuation and line breaks: `Age\\n(years)` -> `age years`. Letters of every
    script stay, with their marks."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    kept = (c if c == "#" or unicodedata.category(c)[0] in "LMN" else " " for c in unicodedata.normalize("NFC", folded))
    return " ".join("".join(kept).split())


def age_unit(key: str) -> str | None:
    """The unit of the ages in a column of this name, as in DICOM's Age String; None where it holds no ages."""
    match = re.fullmatch(r"(?:(?:patient|subject|participant) ?s? )?(?:age|patientage)((?: \w+)*)", key)
    if not match:
        return None
    words = match[1].split()
    units = [_UNIT_OF[word] for word in words if word in _UNIT_OF]
    if len(units) > 1 or not _OCCASIONS.issuperset(word for word in words if word not in _UNIT_OF):
        return None
    return units[0] if units else "Y"


def looks_like_age(key: str) -> bool:
    return bool(re.match(r"((patient|subject|participant) ?s? )?(age|patientage)( |$)", key))


def unit_of(word: str) -> str | None:
    """Y, M, W or D from how a cell writes a unit of time."""
    key = key_of(word)
    return key.upper() if key.upper() in PER_YEAR else _UNIT_OF.get(key)


def _label_columns(row: list[str], keys: list[str], asked: str | None, task: str) -> list[int]:
    """The columns that the label may be in, the one to take first."""
    if asked:
        return _named(row, keys, asked)
    exact = [i for name in _LABELS[task] for i, key in enumerate(keys) if key == name]
    if exact or task != "regression":
        return exact
    ages = [i for i, key in enumerate(keys) if age_unit(key)]
    return sorted(ages, key=lambda i: (keys[i] != "age", age_unit(keys[i]) != "Y"))


def _named(row: list[str], keys: list[str], asked: str) -> list[int]:
    """Columns called `asked`, to the letter where there is one, else but for case and punctuation."""
    literal = " ".join(unicodedata.normalize("NFC", asked).split())
    exact = [i for i, cell in enumerate(row) if unicodedata.normalize("NFC", cell) == literal]
    wanted = key_of(asked)
    return exact or [i for i, key in enumerate(keys) if key and key == wanted]


def _id_columns(row: list[str], keys: list[str], asked: str | None) -> dict[str, int]:
    if asked:
        role = next((role for role, names in _IDS.items() if key_of(asked) in names), "patient")
        return {role: found[0]} if (found := _named(row, keys, asked)) else {}
    found = {role: next((keys.index(name) for name in names if name in keys), None) for role, names in _IDS.items()}
    return {role: index for role, index in found.items() if index is not None}


def _id_rivals(row: list[str], keys: list[str], asked: str | None) -> Iterable[int]:
    """Columns of the same name as the id's."""
    chosen = _id_columns(row, keys, asked)
    return [i for i, key in enumerate(keys) for index in chosen.values()
            if i != index and key and key == keys[index] and not (asked and row[i] != row[index])]


def _described(row: list[str], index: int) -> str:
    again = row.count(row[index]) > 1
    return f"'{row[index]}' in column {index + 1}" if again else f"'{row[index]}'"
