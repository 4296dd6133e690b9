"""The table that `duiit evaluate` prints."""
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from duiit.util.problems import counted

_FIDELITY = (("by_image", "label fidelity, by image", "images"),
             ("by_patient", "label fidelity, by patient", "patients"),
             ("training_mean_by_patient", "  always the training mean", "patients"))


def show(report: Mapping[str, Any]) -> None:
    """Prints the figures of a report: metric, value, and what it rests on."""
    table = Table("metric", "value", "of")
    for row in (*_distances(report), *_paired(report), *_labels(report)):
        table.add_row(*row)
    for metric in report["left_out"]:
        table.add_row(metric, "-", "left out, as said above")
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
    console.print(table)


def _distances(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for metric, found in report["distribution"].items():
        n = f"{found['n_real']} real, {counted(found['n_fake'], 'fake image')}"
        if "features" in found:
            more = f"; {found['features']} features" + (", too few images" if found["biased"] else "")
        elif "subsets" in found:
            more = f"; {counted(found['subsets'], 'subset')} of {found['subset_size']}"
        else:
            more = f"; {counted(found['splits'], 'split')}; real images have {_short(found['real'])}"
        yield metric, _with_deviation(found["value"], found.get("sd")), n + more


def _paired(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    found = report.get("paired", {})
    for name, error in found.items():
        if name not in ("n", "mask"):
            n = f"{counted(error['n'], 'patient')}, {counted(found['n']['images'], 'image')}"
            yield name, _with_deviation(error["mean"], error["sd"]), f"{n}; {found['mask']}"


def _labels(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    found = report.get("label_fidelity", {})
    for key, title, unit in _FIDELITY:
        errors = found.get(key)
        if errors:
            text = ", ".join(f"{k} {_short(v)}" for k, v in errors.items() if k not in ("n", "bias", "mse")
                             and v is not None)
            yield title, text, f"{errors['n']} {unit}"


def _with_deviation(value: float | None, deviation: float | None) -> str:
    return _short(value) + (f" ± {_short(deviation)}" if deviation is not None else "")


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
