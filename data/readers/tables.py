"""Reads CSV, TSV and Excel tables into rows of text, whatever program and country wrote them."""
import csv
import io
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from duiit.data.readers.common import reading
from duiit.util.errors import UserError
from duiit.util.files import text_of_cell

if TYPE_CHECKING:
    from openpyxl import Workbook

Rows = list[list[str]]
MAX_BYTES = 256 << 20           # of an Excel table, unpacked; a million rows of ids and ages have 100 MB


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
        return {"": [[text_of_cell(_clean(cell)) for cell in row] for row in rows]}


def _read_excel(path: Path) -> dict[str, Rows]:
    """Cells that are merged downwards have their value in every row; sideways it stays in the first column."""
    from openpyxl import load_workbook  # late: only for those who have such a table
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
            raise UserError(f"{path}: unpacks to more than {MAX_BYTES >> 20} MB, which is no table of labels; save "
                            "what is needed of it as CSV")
    book = load_workbook(path, data_only=True)
    sheets = {}
    for sheet in book.worksheets:
        rows = [[_cell(value) for value in row] for row in sheet.iter_rows(values_only=True)]
        for merged in sheet.merged_cells.ranges:
            left, top, _, bottom = merged.bounds                                # from 1
            for row in rows[top:bottom]:
                row[left - 1] = rows[top - 1][left - 1]
        sheets[sheet.title] = rows
    _refuse_uncomputed(path, book)
    return sheets


def _refuse_uncomputed(path: Path, book: "Workbook") -> None:
    """Formulas whose values a program did not save look like empty cells (a text that is empty has its own type)."""
    from openpyxl import load_workbook
    for sheet in load_workbook(path).worksheets:
        for cell in (cell for row in sheet.iter_rows() for cell in row if cell.data_type == "f"):
            value = book[sheet.title][cell.coordinate]
            if value.value is None and value.data_type != "str":
                raise UserError(f"{path}: sheet '{sheet.title}', cell {cell.coordinate}: the value of its formula is "
                                "not saved; open the table in Excel or LibreOffice and save it anew")


def _cell(value: object) -> str:
    """As people see it: 49 for 49.0."""
    if value is None:
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
