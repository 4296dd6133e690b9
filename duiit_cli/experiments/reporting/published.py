"""Figures that were published for the same methods on other data, read from a TOML file to stand beside ours. Those of
the paper are in published.toml, beside this file.

    source = "Yang and Xie 2020, arXiv 2010.03468"          # shown in the report

    [methods.pure_ct]                                       # a method or a translator of the experiment
    mse = [mean, sd]                                        # or one number

    [methods.duiit_mri]
    mse = [mean, sd]
    fid = 12.3
    inception_score = [mean, sd]
    p_values = { pure_ct = 0.01, cyclegan_mri = 0.04 }      # of this method against another

They are never mixed with ours: other patients, other sizes, another protocol.
"""
import math
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict

from duiit.options.parsing import nearest
from duiit.util.errors import UserError
from duiit_cli.experiments.reporting.results import FLOOR, Experiment

FIGURES = ("mse", "rmse", "mae", "r2", "pearson_r", "accuracy", "balanced_accuracy", "auroc", "fid", "inception_score",
           "kid", "psnr", "ssim")


BUILT_IN = Path(__file__).with_name("published.toml")
LEFT_OUT = "none"           # --published none


class MeanSd(TypedDict):
    mean: float
    sd: float | None


@dataclass(frozen=True)
class Published:
    """figures: {method: {figure: (mean, sd or None)}}; p_values: {method: {other: p}}."""
    source: str = ""
    figures: dict[str, dict[str, tuple[float, float | None]]] = field(default_factory=dict)
    p_values: dict[str, dict[str, float]] = field(default_factory=dict)

    def figure(self, method: str, name: str) -> MeanSd | None:
        """{mean, sd} as util.statistics.summary gives them, or None."""
        found = self.figures.get(method, {}).get(name)
        return None if found is None else {"mean": found[0], "sd": found[1]}


def published_for(experiment: Experiment, asked: str | None, names: Iterable[str]) -> Published:
    """What is to stand beside an experiment. asked: a file, LEFT_OUT, or None for the paper's figures where some of the
    experiment's methods are the paper's, which predict an age from CTs."""
    if asked == LEFT_OUT:
        return Published()
    if asked:
        return read_published(asked, names)
    paper = read_published(BUILT_IN, names)
    alike = (experiment.task, experiment.target.lower()) == ("regression", "ct") and any(
        m.role != "pure" and m.name in paper.figures for m in experiment.methods.values())
    return paper if alike else Published()


def read_published(path: str | PathLike[str], names: Iterable[str]) -> Published:
    """names: the methods and translators that the file may speak of. Raises UserError for anything it may not."""
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--published {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"--published {path} is not readable as TOML: {error}") from None
    _check_keys(f"--published {path}", content, ("source", "methods"))
    source, methods = content.get("source", ""), content.get("methods", {})
    if not isinstance(source, str) or not isinstance(methods, dict):
        raise UserError(f"--published {path}: source must be text and methods a table, as in [methods.pure_ct]")
    known, figures, p_values = [FLOOR, *names], {}, {}
    for name, values in methods.items():
        where = f"--published {path}: [methods.{name}]"
        if name not in known or not isinstance(values, dict):
            raise UserError(f"{where} is no method{nearest(name, known)}; there are {', '.join(known)}")
        _check_keys(where, values, (*FIGURES, "p_values"))
        figures[name] = {key: _figure(f"{where} {key}", values[key]) for key in values if key != "p_values"}
        p_values[name] = _p_values(f"{where} p_values", values.get("p_values", {}), known)
    return Published(source, figures, p_values)


def _check_keys(where: str, values: Iterable[str], known: Sequence[str]) -> None:
    for key in values:
        if key not in known:
            raise UserError(f"{where}: unknown key {key}{nearest(key, known)}; it may have {', '.join(known)}")


def _figure(where: str, value: Any) -> tuple[float, float | None]:
    pair = value if isinstance(value, list) else [value]
    if len(pair) not in (1, 2) or not all(_is_number(v) for v in pair) or (len(pair) == 2 and pair[1] < 0):
        raise UserError(f"{where} = {value}: give a number, or [mean, standard deviation]")
    return float(pair[0]), float(pair[1]) if len(pair) == 2 else None


def _p_values(where: str, values: object, known: Sequence[str]) -> dict[str, float]:
    if not isinstance(values, dict):
        raise UserError(f"{where} = {values}: give a table, as in {{ pure_ct = 0.01 }}")
    for other, p in values.items():
        if other not in known:
            raise UserError(f"{where}: {other} is no method{nearest(other, known)}")
        if not _is_number(p) or not 0 <= p <= 1:
            raise UserError(f"{where}: {other} = {p}: a p-value lies between 0 and 1")
    return {other: float(p) for other, p in values.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
