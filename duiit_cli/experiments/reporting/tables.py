"""The report's tables of errors and p-values, in the layout of the paper's Tables 2 to 4, 6 and 7."""
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from duiit_cli.experiments.reporting import formatting, page
from duiit_cli.experiments.reporting.comparison import (
    FEWEST_SPLITS,
    PAPER,
    SIGNIFICANT,
    Comparison,
    Summaries,
    baseline,
    compare,
    summaries,
)
from duiit_cli.experiments.reporting.result_files import difference_cells
from duiit_cli.experiments.reporting.results import FLOOR, HIGHER_IS_BETTER, LISTED, Cell, Experiment, Method


def source_sets(experiment: Experiment) -> dict[str, list[Method]]:
    """{heading: [method, …]} as the plan groups them. The baseline stands in each; alone, in a table of its own."""
    tables: dict[str, list[Method]] = {}
    for method in experiment.methods.values():
        if method.role != "pure":
            tables.setdefault(method.table or "Other methods", []).append(method)
    pures = experiment.named("pure")
    if not tables and pures:
        tables[pures[0].table or experiment.target.upper()] = []
    borrowing_first = sorted(tables.items(), key=lambda item: not any(m.sources for m in item[1]))
    return {_heading(name, methods, experiment.target): [*pures, *methods] for name, methods in borrowing_first}


def _heading(name: str, methods: Sequence[Method], target: str) -> str:
    return f"{name} → {target.upper()}" if any(m.sources for m in methods) else name[:1].upper() + name[1:]


def error_table(experiment: Experiment, methods: Sequence[Method], name: str = "", caption: str = "") -> page.Element:
    """A row a method: the deciding metric by both units, the others by the deciding unit, and the distance to PURE."""
    found = {unit: summaries(experiment, unit) for unit in experiment.units}
    pure = baseline(experiment)
    rows, kinds = [], []
    best = _best(experiment, [m.name for m in methods], found[experiment.unit])
    methods = [experiment.floor, *methods]
    for method in methods:
        row = _error_row(experiment, method, found, pure)
        if method.name in best:
            row[2] = (row[2], "strong")
        rows.append(row)
        kinds.append("aside" if method.role in ("floor", "oracle") else "")
    return page.grid(_error_header(experiment, pure), rows, kinds, name=name, caption=caption)


def _error_header(experiment: Experiment, pure: Method | None) -> list[str]:
    settings, unit = experiment.settings, experiment.unit
    header = ["method", "splits", *(_named(experiment.metric, settings, u) for u in experiment.units)]
    header += [_named(m, settings, unit) for m in _others(experiment)]
    if pure:
        header += [f"{formatting.SHORT[experiment.metric]} minus that of {pure.title} (95 % CI)", "p, corrected",
                   "p, paired"]
    return header


def _error_row(experiment: Experiment, method: Method, found: Mapping[str, Summaries],
               pure: Method | None) -> list[Any]:
    ours = found[experiment.unit][method.name]
    row = [method.title, ours[experiment.metric]["n"]]
    row += [formatting.mean_sd(found[unit][method.name][experiment.metric], experiment.metric)
            for unit in experiment.units]
    row += [formatting.mean_sd(ours[m], m) for m in _others(experiment)]
    if pure:
        row += [formatting.DASH] * 3 if method.name == pure.name else difference_cells(
            compare(experiment, method.name, pure.name))
    return row


def _others(experiment: Experiment) -> list[str]:
    return [m for m in LISTED[experiment.task] if m not in (experiment.metric, "bias", "pearson_r")]


def _named(metric: str, settings: Mapping[str, Any], counted_by: str) -> str:
    """`MSE per patient (years²)`."""
    unit = formatting.unit_of(metric, settings) if settings.get("label_unit") else ""
    name = formatting.SHORT[metric][:1].upper() + formatting.SHORT[metric][1:]
    return f"{name} {formatting.per(counted_by)}" + (f" ({unit})" if unit else "")


def _best(experiment: Experiment, names: Sequence[str], found: Summaries) -> set[str]:
    """The methods with the best mean among those one could use, several where they tie.

    None of them where they did not all finish the same splits, or fewer than two: a single split's order is chance.
    None either where the best is no better than the floor: it has learned nothing to be proud of.
    """
    usable = [n for n in names if experiment.method(n).role != "oracle" and found[n][experiment.metric]["n"]]
    finished = {tuple(experiment.values(n, experiment.unit, experiment.metric)) for n in usable}
    splits = finished.pop() if len(finished) == 1 else ()
    if len(usable) < 2 or len(splits) < 2:
        return set()
    means = {n: found[n][experiment.metric]["mean"] for n in usable}
    pick = max if experiment.metric in HIGHER_IS_BETTER else min
    best = pick(means.values())
    floors = [v for k, v in experiment.values(FLOOR, experiment.unit, experiment.metric).items() if k in splits]
    floor = sum(floors) / len(floors) if floors else None
    if floor is not None and (pick(best, floor) == floor or math.isclose(best, floor, rel_tol=1e-9)):
        return set()
    # The same values in another order may have means that differ in their last bit.
    return {n for n, mean in means.items() if math.isclose(mean, best, rel_tol=1e-9)}


def p_value_table(experiment: Experiment, compared: Sequence[Comparison]) -> page.Element:
    """A DUIIT method against each other method: both tests; those below their threshold stand out."""
    metric = experiment.metric
    unit = formatting.unit_of(metric, experiment.settings) if experiment.settings.get("label_unit") else ""
    short = formatting.SHORT[metric]
    header = ["against", "splits", f"{short} of this method", f"{short} of the other",
              f"difference{f' ({unit})' if unit else ''}, 95 % CI", "p, paired t-test (the paper’s)",
              "p, corrected resampled t-test", "the same after Holm"]
    rows = []
    for found in compared:
        difference, p_corrected, p_paired = difference_cells(found)
        row = [experiment.method(found.other).title, found.corrected.n, formatting.number(found.mean, metric),
               formatting.number(found.other_mean, metric), difference, (p_paired, _mark(found.paired.p, PAPER, found)),
               (p_corrected, _mark(found.corrected.p, SIGNIFICANT, found)),
               (formatting.p_value(found.holm), _mark(found.holm, SIGNIFICANT, found))]
        rows.append(row)
    kinds = ["aside" if experiment.method(c.other).role in ("floor", "oracle") else "" for c in compared]
    method = experiment.methods[compared[0].method]
    return page.grid(header, rows, kinds, name=f"comparisons_{method.name}", caption=f"{method.title} against")


def _mark(p: float | None, threshold: float, found: Comparison) -> str:
    if p is None or p >= threshold or len(found.splits) < FEWEST_SPLITS:
        return ""
    return "strong good" if found.ahead else "strong bad"


def state_table(experiment: Experiment) -> page.Element:
    """Methods down, splits across: how long a cell took, or why it has no figure, and how long what it waits for took.
    + : at least, it was stopped once."""
    troubles = {(t.name, t.split): t.kind for t in experiment.troubles if not t.translator}
    told = any("extra_images" in cell.counts for cell in experiment.cells.values())
    rows = []
    for name, method in experiment.methods.items():
        cells = [experiment.cells[name, k] for k in experiment.splits if (name, k) in experiment.cells]
        extra = {cell.counts.get("extra_images") for cell in cells} - {None}
        seconds = [s for s in (_seconds(cell) for cell in cells) if s is not None]
        resumed = any(cell.record.get("resumed") for cell in cells)
        total = _lasted(sum(seconds), resumed) if seconds else formatting.DASH
        row: list[Any] = [method.title, *([_range(extra)] if told else []), total]
        for split in experiment.splits:
            if (name, split) in experiment.cells:
                cell = experiment.cells[name, split]
                row.append(_lasted(_seconds(cell), cell.record.get("resumed")))
            else:
                kind = troubles.get((name, split), "missing")
                row.append((kind, "open" if kind == "missing" else "bad"))
        rows.append(row)
    rows += _training_rows(experiment, told)
    header = ["method", *(["extra training images"] if told else []), "all splits"]
    header += [f"split {k}" for k in experiment.splits]
    return page.grid(header, rows, name="time", caption="Time of each training")


def _training_rows(experiment: Experiment, told: bool) -> list[list[Any]]:
    """The translators and starts that cells wait for. One that several methods use stands where it was trained."""
    failed = {(t.name, t.split): t.kind for t in experiment.troubles if t.translator}
    rows = []
    for place, what in (("translators", "translator of "), ("starts", "start of ")):
        for name in dict.fromkeys(n for p, n, _ in experiment.trainings if p == place):
            records = {k: experiment.trainings.get((place, name, k)) for k in experiment.splits}
            seconds = {k: _number(r.get("seconds")) for k, r in records.items() if r}
            known = [s for s in seconds.values() if s is not None]
            resumed = any(r.get("resumed") for r in records.values() if r)
            row: list[Any] = [what + experiment.method(name).title, *([formatting.DASH] if told else []),
                              _lasted(sum(known), resumed) if known else formatting.DASH]
            for k, record in records.items():
                missing = failed.get((name, k), "") if place == "translators" else ""
                row.append(_lasted(seconds[k], record.get("resumed")) if record else
                           (missing or formatting.DASH, "bad"))
            rows.append(row)
    return rows


def _lasted(seconds: float | None, resumed: object) -> str:
    return formatting.duration(seconds) + ("+" if resumed and seconds is not None else "")


def split_table(experiment: Experiment) -> page.Element:
    """A row a split: its seed, and how many real target images and patients train, validate and test."""
    rows = []
    for split in experiment.splits:
        cells = [experiment.cells[name, split] for name in experiment.methods if (name, split) in experiment.cells]
        if not cells:
            rows.append([f"split {split}", *[formatting.DASH] * 5])
            continue
        seeds = {cell.record.get("split_seed") for cell in cells}, {cell.record.get("seed") for cell in cells}
        rows.append([f"split {split}", *(_range(s - {None}) for s in seeds),
                     *(_sizes(cells, part) for part in ("train", "val", "test"))])
    return page.grid(["split", "seed of the split", "seed of the training", "training: images (patients)",
                      "validation: images (patients)", "test: images (patients)"], rows, name="splits",
                     caption="Labelled target images of each split")


def _sizes(cells: Iterable[Cell], part: str) -> str:
    counts = [cell.counts.get(part) for cell in cells]
    counts = [c for c in counts if isinstance(c, dict)]
    images, patients = ({c.get(kind) for c in counts} - {None} for kind in ("images", "patients"))
    return f"{_range(images)} ({_range(patients)})"


def _range(values: Iterable[Any]) -> str:
    """`96`, or `94–98` where cells differ."""
    values = sorted(values, key=lambda v: (isinstance(v, str), v))
    if not values:
        return formatting.DASH
    return str(values[0]) if len(values) == 1 else f"{values[0]}–{values[-1]}"


def _seconds(cell: Cell) -> float | None:
    return _number(cell.record.get("seconds"))


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
