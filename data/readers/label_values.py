"""From the cells of a table to labels: numbers, ages in years, classes. What could mean two things is refused."""
import math
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from duiit.data.readers.age import PER_YEAR, parse_age, tell_fillers, without_fillers
from duiit.data.readers.common import notice
from duiit.data.readers.label_columns import Layout, key_of, unit_of
from duiit.data.readers.slice import Label
from duiit.data.readers.tables import Rows
from duiit.util.errors import UserError

Numbered = Sequence[tuple[int, list[str]]]      # rows with their numbers in the file, from 1

_EMPTY = {"", "nan", "na", "n/a", "#n/a"}
_NO_NUMBER = _EMPTY | {"none", "null", "-", "--", ".", "?", "unknown", "missing", "nd"}  # a class may be called "none"
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_AGE_STRING = re.compile(r"[0-9]+[YMWD]", re.IGNORECASE)
_THOUSANDS = r"[+-]?[1-9][0-9]{0,2}%s[0-9]{3}"
ADULT = 18.0


def data_rows(rows: Rows, layout: Layout, index: int, path: Path) -> list[tuple[int, list[str]]]:
    """The rows that describe somebody, with their numbers in the file, from 1; without blank rows, second header rows
    (no id, the header's own, or text among numbers) and footnotes (one filled cell in a wide table, or text among
    `HN-...` ids). Raises UserError for rows with more cells than the header has: a decimal comma may have cut one.
    """
    longest = max(map(len, rows))
    filled = [(number, row + [""] * (longest - len(row))) for number, row in enumerate(rows, start=1)]
    data = [(number, row) for number, row in filled[layout.header + 1:] if row[index]]
    if layout.width > 2:
        data = [(number, row) for number, row in data if sum(bool(cell) for cell in row) > 1]
    header = rows[layout.header][index]
    data = [(number, row) for number, row in data
            if row[index] != header or re.search(r"\d", row[layout.label])]
    data = _without_notes(data, index, layout.label)
    for number, row in data:
        if any(row[layout.length:]):
            raise UserError(f"{path}: row {number}: has more cells than the header has names (a decimal comma?); put "
                            "numbers with commas into quotes, or separate the cells by semicolons")
    return data


def _without_notes(data: list[tuple[int, list[str]]], index: int, label: int) -> list[tuple[int, list[str]]]:
    coded = [bool(re.fullmatch(r"HN-[A-Za-z]+-\d+", row[index])) for _, row in data]
    if any(coded):
        return [item for item, keep in zip(data, coded, strict=True) if keep]
    numeric = [bool(re.fullmatch(r"\d+(\.0+)?", row[index])) for _, row in data]
    if data and not numeric[0] and sum(numeric) == len(data) - 1 > 0 and not re.search(r"\d", data[0][1][label]):
        data = data[1:]
    return data


def labels_of(data: Numbered, layout: Layout, task: str, path: Path) -> list[Label]:
    """The label in each of these rows, None where it is missing; ages in years. Raises UserError."""
    texts = [row[layout.label] for _, row in data]
    if task == "classification":
        return [None if text.casefold() in _EMPTY else text for text in texts]
    commas = any(_is_decimal_comma(text) for text in texts)
    values: list[float | None] = []
    for (number, row), text in zip(data, texts, strict=True):
        where = f"{path}: row {number}: {layout.label_name} '{text}'"
        if text.casefold() in _NO_NUMBER:
            values.append(None)
        elif layout.age_unit and _AGE_STRING.fullmatch(text):
            values.append(parse_age(text))
        else:
            values.append(_number(text, commas, where) / _per_year(row, layout, where))
    return list(_judged(values, texts, path) if layout.age_unit else values)


def _judged(ages: list[float | None], texts: list[str], path: Path) -> list[float | None]:
    """Without the fillers among Age Strings. An age that is the number 0 is kept, and told where it looks like one."""
    written = [bool(_AGE_STRING.fullmatch(text)) for text in texts]
    judged = [new if string else age for new, age, string in zip(without_fillers(ages), ages, written, strict=True)]
    tell_fillers([text for text, age, string in zip(texts, judged, written, strict=True) if string and age is None],
                 len(texts), path)
    zeros, known = sum(age == 0 for age in judged), [age for age in judged if age]
    if zeros and known and median(known) >= ADULT:
        notice(f"{path}: {zeros} of {len(texts)} ages are 0 and most others adults'; leave the cells empty if 0 stands "
               "for a missing age")
    return judged


def _per_year(row: list[str], layout: Layout, where: str) -> float:
    """What a number in this row has to be divided by to be in years; 1 for what is not an age."""
    if layout.unit_column is None:
        return PER_YEAR[layout.age_unit] if layout.age_unit else 1.0
    unit = unit_of(row[layout.unit_column])
    if unit is None:
        raise UserError(f"{where} is of the unit '{row[layout.unit_column]}'; write years, months, weeks or days")
    return PER_YEAR[unit]


def _is_decimal_comma(text: str) -> bool:
    """Whether it is a number with a comma that cannot stand for thousands: 0,5 or 63,25 or 0,123."""
    return bool(re.fullmatch(r"[+-]?[0-9]*,[0-9]+", text)) and not re.fullmatch(_THOUSANDS % ",", text)


def _number(text: str, commas: bool, where: str) -> float:
    """commas: whether numbers of this column are known to have decimal commas."""
    unclear = re.fullmatch(_THOUSANDS % ("[.]" if commas else ","), text)
    if unclear:
        plain = text.replace(",", "").replace(".", "")
        point = text.replace(",", ".")
        raise UserError(f"{where} may mean {plain} or {point}; write it without marks of thousands, and with a point "
                        "before decimals")
    if commas or _is_decimal_comma(text):
        text = text.replace(",", ".") if text.count(",") == 1 and "." not in text else text
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise UserError(f"{where} is not a number; correct it or leave it empty (classes need --task classification)")
    return value


def tell_choice(path: Path, layout: Layout) -> None:
    """Says what was taken for the label where that is not plain."""
    if layout.rivals:
        notice(f"{path}: labels are taken from column '{layout.label_name}', not from {' or '.join(layout.rivals)}; "
               "name another with --label_column, or remove what is not meant")
    unit = {"M": "months", "W": "weeks", "D": "days"}.get(layout.age_unit or "")
    if unit and layout.unit_column is None:
        notice(f"{path}: ages in {unit} (column '{layout.label_name}') are brought to years; nothing to do if it "
               f"holds {unit}")


def same_label(one: Layout, other: Layout) -> bool:
    """Whether the labels of two sheets mean the same."""
    if one.age_unit or other.age_unit:
        return bool(one.age_unit) == bool(other.age_unit)
    return key_of(one.label_name) == key_of(other.label_name)
