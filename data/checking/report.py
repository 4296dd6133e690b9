"""What `duiit data check` prints and writes: a table of the modalities, the problems, the data's fingerprint."""
import logging
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from duiit.data.checking.check import as_fingerprint, as_json, check_folder
from duiit.data.checking.fingerprint import NAME
from duiit.data.checking.modality_check import Modality
from duiit.util.errors import UserError
from duiit.util.files import write_json
from duiit.util.logs import printable
from duiit.util.problems import counted

log = logging.getLogger(__name__)


def check(opt: Namespace) -> int:
    """Exit status 0 clean or with warnings, 2 with errors (with --strict, with warnings too)."""
    modalities, problems = check_folder(opt)
    # In a file or a pipe there is no width to fit into: better a wide table than squeezed columns.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
    console.print(_table(modalities, opt))
    for p in problems:
        colour = "red" if p.level == "error" else "yellow"
        console.print(f"[{colour}]{p.level}[/]: ", end="")
        console.print(printable(f"{p.where}: {p.reason}; {p.remedy}"), markup=False)
    errors = sum(p.level == "error" for p in problems)
    click.echo(f"{counted(errors, 'error')}, {counted(len(problems) - errors, 'warning')}")
    if opt.json:
        write_json(opt.json, as_json(modalities, problems))
    _write_fingerprint(as_fingerprint(modalities, opt), opt)
    return 2 if errors or (opt.strict and problems) else 0


def _write_fingerprint(fingerprint: Mapping[str, Any], opt: Namespace) -> None:
    """To --fingerprint; else into the data folder, which may be closed to writing without that being a mistake."""
    path = Path(opt.fingerprint or Path(opt.dataroot) / NAME)
    try:
        write_json(path, fingerprint)
    except UserError as error:
        if opt.fingerprint:
            raise
        log.info("no fingerprint is kept: %s, or name a file by --fingerprint", error)
        return
    log.info("fingerprint written to %s", path)


def _table(modalities: Sequence[Modality], opt: Namespace) -> Table:
    table = Table("")
    for m in modalities:
        table.add_column(escape(printable(m.name)), overflow="fold")
    unit = "images" if opt.split_by == "image" else "patients"
    for title, text in (
        ("patients", lambda m: m.patients), ("  in others too", lambda m: len(m.shared_patients) or ""),
        ("scans", lambda m: m.scans), ("slices", lambda m: m.slices), ("  almost empty", lambda m: m.empty_slices),
        ("sizes", lambda m: _counts(m.sizes)), ("spacing (mm)", lambda m: _counts(m.spacings)),
        ("unit", lambda m: _counts(m.units)), ("  scaled from", lambda m: _counts(m.scaling)),
        ("range (0.5-99.5 %)", lambda m: " to ".join(f"{n:.4g}" for n in m.intensity_range)),
        ("labelled slices", lambda m: m.labels.get("count", 0)), ("  missing", lambda m: m.labels.get("missing", 0)),
        ("  labels", _labels), ("  histogram", _histogram),
        (f"train/val/test {unit}", lambda m: "/".join(map(str, m.split.values()))),
    ):
        cells = [escape(printable(str(text(m)))) for m in modalities]
        if any(cells):
            table.add_row(title, *cells)
    return table


def _counts(counts: Mapping[str, int], most: int = 2) -> str:
    """256x256 where all are; else 256x256 (40), 512x512 (3) and 1 more."""
    names = [f"{name} ({n})" if len(counts) > 1 else name for name, n in counts.items()]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _labels(m: Modality) -> str:
    labels = m.labels
    if "classes" in labels:
        return ", ".join(f"{name}: {n}" for name, n in labels["classes"].items())
    if "mean" not in labels:
        return ""
    return f"{labels['mean']:.1f} ± {labels['sd']:.1f}, {labels['min']:g} to {labels['max']:g}"


def _histogram(m: Modality) -> str:
    counts = m.labels.get("histogram", {}).get("counts", [])
    bars = " ▁▂▃▄▅▆▇█"
    return "".join(bars[-(-n * 8 // max(counts))] if n else bars[0] for n in counts)
