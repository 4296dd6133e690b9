"""The experiment's tables as files: for programs (results.csv, summary.csv, comparisons.csv) and people (summary.md).

In all of them a difference is the method's value minus the other's, and what has no value is empty.
"""
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from duiit.util.files import write_csv, write_text
from duiit_cli.experiments.reporting import formatting
from duiit_cli.experiments.reporting.comparison import Comparison, against_others, baseline, compare, summaries
from duiit_cli.experiments.reporting.results import FLOOR, LISTED, Cell, Experiment, Method
from duiit_cli.experiments.reporting.verdict import Verdict


def write_result_files(experiment: Experiment, verdicts: Sequence[Verdict]) -> None:
    folder = experiment.folder
    write_csv(folder / "results.csv", result_rows(experiment), _result_header(experiment))
    rows = summary_rows(experiment)
    write_csv(folder / "summary.csv", rows, list(rows[0]) if rows else ["method"])
    write_csv(folder / "comparisons.csv", comparison_rows(experiment), _COMPARED)
    write_text(folder / "summary.md", summary_text(experiment, verdicts))


# -- results.csv: a row a cell and unit --------------------------------------------------------------------------

_PARTS = ("train", "val", "test")
_KINDS = ("images", "patients")


def _result_header(experiment: Experiment) -> list[str]:
    counts = [f"{part}_{kind}" for part in _PARTS for kind in _KINDS]
    return ["method", "title", "split", "unit", "seed", "split_seed", "n", *LISTED[experiment.task], *counts,
            "extra_images", "seconds", "finished", "device"]


def result_rows(experiment: Experiment) -> list[dict[str, Any]]:
    rows = []
    for split in experiment.splits:
        cells = [experiment.cells[name, split] for name in experiment.methods if (name, split) in experiment.cells]
        floor = next((cell for cell in cells if any(cell.floor.values())), None)
        if floor is not None:
            about = {"method": FLOOR, "title": experiment.floor.title, "split": split,
                     "split_seed": floor.record.get("split_seed"), **_counted(floor), "extra_images": 0}
            rows += [{**about, "unit": _unit(u), **floor.floor[u]} for u in experiment.units if floor.floor[u]]
        for cell in cells:
            about = {"method": cell.method, "title": experiment.methods[cell.method].title, "split": split,
                     **{k: cell.record.get(k) for k in ("seed", "split_seed", "seconds", "finished", "device")},
                     **_counted(cell), "extra_images": cell.counts.get("extra_images")}
            rows += [{**about, "unit": _unit(u), **cell.errors[u]} for u in experiment.units if cell.errors[u]]
    return rows


def _counted(cell: Cell) -> dict[str, Any]:
    parts: dict[str, Any] = {part: cell.counts.get(part) for part in _PARTS}
    return {f"{part}_{kind}": found.get(kind) if isinstance(found, dict) else None
            for part, found in parts.items() for kind in _KINDS}


def _unit(unit: str) -> str:
    return unit.removeprefix("by_")


# -- summary.csv: a row a method and unit ------------------------------------------------------------------------

def summary_rows(experiment: Experiment) -> list[dict[str, Any]]:
    pure = baseline(experiment)
    rows = []
    for unit in experiment.units:
        for name, found in summaries(experiment, unit).items():
            row = {"method": name, "title": experiment.method(name).title, "unit": _unit(unit),
                   "splits": found[experiment.metric]["n"]}
            for metric, values in found.items():
                row |= {f"{metric}_mean": values["mean"], f"{metric}_sd": values["sd"]}
            compared = compare(experiment, name, pure.name, unit) if pure is not None and name != pure.name else None
            rows.append(row | _difference(compared))
    return rows


def _difference(found: Comparison | None) -> dict[str, Any]:
    if found is None:
        return dict.fromkeys(("baseline", "metric", "pairs", "difference", "low", "high", "p_corrected", "p_paired"))
    test = found.corrected
    return {"baseline": found.other, "metric": found.metric, "pairs": test.n, "difference": test.difference,
            "low": test.low, "high": test.high, "p_corrected": test.p, "p_paired": found.paired.p}


# -- comparisons.csv: a row a DUIIT method, other method and unit ------------------------------------------------

_COMPARED = ["method", "other", "unit", "metric", "pairs", "mean", "other_mean", "difference", "low", "high",
             "test_train_ratio", "p_paired", "p_corrected", "p_corrected_holm"]


def comparison_rows(experiment: Experiment) -> list[list[Any]]:
    return [[c.method, c.other, _unit(unit), c.metric, c.corrected.n, c.mean, c.other_mean, c.corrected.difference,
             c.corrected.low, c.corrected.high, c.ratio, c.paired.p, c.corrected.p, c.holm]
            for unit in experiment.units for method in experiment.named("duiit")
            for c in against_others(experiment, method.name, unit)]


# -- summary.md --------------------------------------------------------------------------------------------------

def summary_text(experiment: Experiment, verdicts: Sequence[Verdict]) -> str:
    """The verdicts, then a table a unit."""
    parts = ["# Summary of the experiment", *(f"- {v.line}" for v in verdicts)]
    blocks = ["\n".join([parts[0], "", *parts[1:]]) if verdicts else parts[0]]
    pure = baseline(experiment)
    for unit in experiment.units:
        metrics = LISTED[experiment.task]
        header = ["method", "splits", *(formatting.SHORT[m] for m in metrics)]
        if pure is not None:
            short = formatting.SHORT[experiment.metric]
            header += [f"{short} − that of {pure.title} (95 % CI)", "p, corrected", "p, paired"]
        rows = [_summary_line(experiment, name, found, unit, metrics, pure)
                for name, found in summaries(experiment, unit).items() if found[experiment.metric]["n"]]
        if rows:
            blocks += [f"## {formatting.per(unit).capitalize()} (mean ± standard deviation over the splits)",
                       _markdown(header, rows)]
    if len(blocks) == 1 and not experiment.cells:
        blocks.append("No cell is finished yet.")
    return "\n\n".join(blocks) + "\n"


def _summary_line(experiment: Experiment, name: str, found: Mapping[str, dict[str, Any]], unit: str,
                  metrics: Sequence[str], pure: Method | None) -> list[Any]:
    line = [experiment.method(name).title, found[experiment.metric]["n"]]
    line += [formatting.mean_sd(found[m], m) for m in metrics]
    if pure is None:
        return line
    if name == pure.name:
        return [*line, formatting.DASH, formatting.DASH, formatting.DASH]
    return [*line, *difference_cells(compare(experiment, name, pure.name, unit))]


def difference_cells(found: Comparison) -> list[str]:
    """The difference with its interval and both p-values, as text."""
    test = found.corrected
    if test.difference is None:
        return [formatting.DASH] * 3
    text = formatting.number(test.difference, found.metric, sign=True)
    if test.low is not None:
        text += f" ({formatting.interval(test.low, test.high, found.metric, sign=True)})"
    return [text, formatting.p_value(test.p), formatting.p_value(found.paired.p)]


def _markdown(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
