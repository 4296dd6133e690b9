"""Reads CSV, TSV and Excel tables into rows of text, whatever program and country wrote them."""
import csv
import io
import re
from pathlib import Path

from duiit.data.readers.common import reading

Rows = list[list[str]]


def read_sheets(path: Path) -> dict[str, Rows]:
    """The sheets of a table by name (one nameless sheet for CSV and TSV), each as rows of stripped text.

    Handles byte-order marks, CRLF, `;` and tab for commas, and line breaks in quoted cells. Numbers of Excel cells
    come as people see them (49, not 49.0). Raises UserError.
    """
    with reading(path, "a table"):
        if path.suffix.lower() == ".xlsx":
            return _read_excel(path)
        text = _decode(path.read_bytes())
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, path))
        return {"": [[_clean(cell) for cell in row] for row in rows]}


def _read_excel(path: Path) -> dict[str, Rows]:
    import pandas  # half a second: only for those who have such a table
    sheets = pandas.read_excel(path, sheet_name=None, header=None, dtype=object, engine="openpyxl")
    return {str(name): [[_cell(value) for value in row] for row in sheet.itertuples(index=False, name=None)]
            for name, sheet in sheets.items()}


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return _clean(str(value))


def _clean(cell: str) -> str:
    return " ".join(cell.split())


def _decode(raw: bytes) -> str:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):  # Excel's "Unicode text"
        return raw.decode("utf-16")
    if b"\x00" in raw[:4096]:
        raise ValueError("it holds binary data")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def _delimiter(text: str, path: Path) -> str:
    """The commonest of tab, semicolon and comma in the header line, once quoted names are out of the way."""
    bare = re.sub(r'"[^"]*"', "", text[:20_000]).lstrip("\r\n")
    header = bare.splitlines()[0] if bare else ""
    return max("\t;,", key=lambda mark: (header.count(mark), mark == ("\t" if path.suffix.lower() == ".tsv" else ",")))
