"""The table that `duiit evaluate` prints."""
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from duiit.util.problems import counted
from duiit_cli.evaluation.scan_errors import TERMS, in_words


def show(report: Mapping[str, Any]) -> None:
    """Prints the figures of a report: metric, value, and what it rests on."""
    table = Table("metric", "value", "of", title=_terms(report.get("paired")))
    for row in (*_distances(report), *_paired(report), *_labels(report)):
        table.add_row(*row)
    for metric in report["left_out"]:
        table.add_row(metric, "-", "left out, as said above")
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
    console.print(table)


def _terms(paired: Mapping[str, Any] | None) -> str | None:
    return f"against the truth: {in_words(paired)}" if paired else None


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
        if name not in TERMS:
            n = f"{counted(error['n'], 'patient')}, {counted(found['n']['images'], 'image')}"
            yield name, _with_deviation(error["mean"], error["sd"]), f"{n}; {found['mask']}"


def _labels(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    found = report.get("label_fidelity", {})
    mean = found.get("predict_the_mean", {})
    for title, errors, unit in (("label fidelity, by image", found.get("by_image"), "images"),
                                ("label fidelity, by patient", found.get("by_patient"), "patients"),
                                ("  always the training mean", mean.get("by_patient"), "patients")):
        if errors:
            text = ", ".join(f"{k} {_short(v)}" for k, v in errors.items() if k not in ("n", "bias", "mse")
                             and v is not None)
            yield title, text, f"{errors['n']} {unit}"


def _with_deviation(value: float | None, deviation: float | None) -> str:
    return _short(value) + (f" ± {_short(deviation)}" if deviation is not None else "")


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
