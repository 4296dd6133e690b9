"""The report's tables and figures as files, for a paper: E/tables (CSV, LaTeX with booktabs), E/figures (SVG, PDF)."""
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from duiit.util.files import file_name, write_csv, write_text
from duiit_cli.experiments.reporting.figures import Picture
from duiit_cli.experiments.reporting.page import Table

FIGURES, TABLES = "figures", "tables"
# What LaTeX has to be told otherwise; one pass, so that nothing is replaced twice.
_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
          "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "±": r"$\pm$", "−": "$-$",
          "→": r"$\rightarrow$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "²": r"\textsuperscript{2}", "–": "--",
          "—": "---", "’": "'", "“": "``", "”": "''", "×": r"$\times$", "·": r"$\cdot$"}


def write_exhibits(folder: Path, exhibits: Sequence[Table | Picture]) -> list[str]:
    """Writes every Table and Picture; returns the files' names from `folder` on, tables first."""
    tables = [name for e in exhibits if isinstance(e, Table) for name in _write_table(folder / TABLES, e)]
    figures = [name for e in exhibits if not isinstance(e, Table) for name in e.save(folder / FIGURES)]
    return [f"{TABLES}/{n}" for n in tables] + [f"{FIGURES}/{n}" for n in figures]


def _write_table(folder: Path, table: Table) -> list[str]:
    rows = [[_text(cell) for cell in row] for row in table.rows]
    csv, tex = (f"{file_name(table.name)}.{kind}" for kind in ("csv", "tex"))
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
