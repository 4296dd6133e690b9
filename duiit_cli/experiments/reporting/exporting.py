"""The report's tables and figures as files, for a paper: E/tables (CSV, LaTeX with booktabs), E/figures (SVG, PDF)."""
import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from duiit.util.files import file_name, write_csv, write_json, write_text
from duiit_cli.experiments.reporting.figures import Picture
from duiit_cli.experiments.reporting.page import Table

Exhibit = TypeVar("Exhibit", Table, Picture)
FIGURES, TABLES = "figures", "tables"
WRITTEN = "exhibits.json"       # what the last report wrote, so that the next can take away what it writes no more
# What LaTeX has to be told otherwise; one pass, so that nothing is replaced twice.
_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
          "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "±": r"$\pm$", "−": "$-$",
          "→": r"$\rightarrow$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "²": r"\textsuperscript{2}", "–": "--",
          "—": "---", "’": "'", "“": "``", "”": "''", "×": r"$\times$", "·": r"$\cdot$"}


def write_exhibits(folder: Path, exhibits: Sequence[Table | Picture]) -> list[str]:
    """Writes every Table and Picture; returns the files' names from `folder` on, tables first. What an earlier report
    wrote there and this one does not is removed; other files stay."""
    tables = _apart([e for e in exhibits if isinstance(e, Table)])
    pictures = _apart([e for e in exhibits if not isinstance(e, Table)])
    names = [f"{TABLES}/{name}" for table in tables for name in _write_table(folder / TABLES, table)]
    names += [f"{FIGURES}/{name}" for picture in pictures for name in picture.save(folder / FIGURES)]
    for name in _written(folder) - set(names):
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)
    write_json(folder / WRITTEN, names)
    return names


def _apart(exhibits: Iterable[Exhibit]) -> list[Exhibit]:
    """The same under names that stay apart as files, where large letters may be small ones too."""
    taken: set[str] = set()
    found = []
    for one in exhibits:
        name, count = file_name(one.name), 1
        while name.casefold() in taken:
            count += 1
            name = f"{file_name(one.name)}_{count}"
        taken.add(name.casefold())
        found.append(replace(one, name=name))
    return found


def _written(folder: Path) -> set[str]:
    """The files of the report before, as it named them; none where that is not known."""
    try:
        names = json.loads((folder / WRITTEN).read_text(encoding="utf-8"))
        return {n for n in names if re.fullmatch(rf"({TABLES}/[^/\\]+\.(csv|tex)|{FIGURES}/[^/\\]+\.(svg|pdf))", n)}
    except (OSError, ValueError, TypeError):
        return set()


def _write_table(folder: Path, table: Table) -> list[str]:
    rows = [[_text(cell) for cell in row] for row in table.rows]
    csv, tex = (f"{table.name}.{kind}" for kind in ("csv", "tex"))
    write_csv(folder / csv, rows, table.header)
    write_text(folder / tex, latex(table), durable=False)
    return [csv, tex]


def latex(table: Table) -> str:
    r"""A tabular with booktabs' rules, for \input into a table environment. Plain ASCII but for letters of titles."""
    lines = [f"% {' '.join((table.caption or table.name).split())}. Needs \\usepackage{{booktabs}}.",
             rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule", _line(table.header), r"\midrule",
             *(_line(row) for row in table.rows), r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[object]) -> str:
    return " & ".join(_cell(cell) for cell in cells) + r" \\"


def _cell(cell: object) -> str:
    text = escaped(_text(cell))
    return rf"\textbf{{{text}}}" if isinstance(cell, tuple) and "strong" in cell[1] else text


def escaped(text: object) -> str:
    """Text as LaTeX takes it, wherever it comes from."""
    return re.sub("|".join(map(re.escape, _LATEX)), lambda found: _LATEX[found[0]], " ".join(str(text).split()))


def _text(cell: object) -> object:
    return cell[0] if isinstance(cell, tuple) else cell
