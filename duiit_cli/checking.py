"""What `duiit data check` prints: a table of the modalities, and the problems."""
import click
from rich.console import Console
from rich.table import Table

from data.check import as_json, check_folder
from util.files import write_json


def check(opt):
    """Exit status 0 clean or with warnings, 2 with errors (with --strict, with warnings too)."""
    modalities, problems = check_folder(opt)
    console = Console(highlight=False, soft_wrap=True)
    console.print(_table(modalities))
    for p in problems:
        colour = "red" if p.level == "error" else "yellow"
        console.print(f"[{colour}]{p.level}[/]: ", end="")
        console.print(f"{p.where}: {p.reason}; {p.remedy}", markup=False)
    errors = sum(p.level == "error" for p in problems)
    click.echo(f"{_number(errors, 'error')}, {_number(len(problems) - errors, 'warning')}")
    if opt.json:
        write_json(opt.json, as_json(modalities, problems))
    return 2 if errors or (opt.strict and problems) else 0


def _number(n, what):
    return f"{n} {what}" + ("" if n == 1 else "s")


def _table(modalities):
    table = Table("", *[m.name for m in modalities])
    for title, text in (
        ("patients", lambda m: m.patients), ("scans", lambda m: m.scans), ("slices", lambda m: m.slices),
        ("  almost empty", lambda m: m.empty_slices), ("sizes", lambda m: _counted(m.sizes)),
        ("spacing (mm)", lambda m: _counted(m.spacings)), ("unit", lambda m: _counted(m.units)),
        ("range (0.5-99.5 %)", lambda m: " to ".join(f"{n:.4g}" for n in m.intensity_range)),
        ("labelled slices", lambda m: m.labels.get("count", 0)), ("  missing", lambda m: m.labels.get("missing", 0)),
        ("  labels", _labels), ("  histogram", _histogram),
        ("train/val/test patients", lambda m: "/".join(map(str, m.split.values()))),
    ):
        table.add_row(title, *[str(text(m)) for m in modalities])
    return table


def _counted(counts, most=2):
    names = list(counts)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _labels(m):
    labels = m.labels
    if "classes" in labels:
        return ", ".join(f"{name}: {n}" for name, n in labels["classes"].items())
    if "mean" not in labels:
        return ""
    return f"{labels['mean']:.1f} ± {labels['sd']:.1f}, {labels['min']:g} to {labels['max']:g}"


def _histogram(m):
    counts = m.labels.get("histogram", {}).get("counts", [])
    bars = " ▁▂▃▄▅▆▇█"
    return "".join(bars[-(-n * 8 // max(counts))] if n else bars[0] for n in counts)
