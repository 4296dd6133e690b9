"""The data in the report: how many patients and slices, how old, in which part, and what was made of the images."""
import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duiit.data.splits import PARTS
from duiit.options.run_file import FACTS
from duiit.options.run_file import NAME as RUN_FILE
from duiit.util.files import text_of_cell
from duiit_cli.experiments.reporting import formatting, page
from duiit_cli.experiments.reporting.results import Experiment

WHOLE = "whole"
_PART_NAMES = {"train": "training", "val": "validation", "test": "held out"}


def section(experiment: Experiment) -> page.Element | None:
    """The part of the page, or None where no training has ended yet."""
    found = {split: _facts(experiment, split) for split in experiment.splits}
    found = {split: facts for split, facts in found.items() if facts}
    if found:
        tables = _tables(experiment, found)
    else:
        tables = _older(experiment)
    lines = _images(experiment, next(iter(found.values()), {}))
    if not tables and not lines:
        return None
    return page.part("data", "Data (the paper’s Table 1)", *tables, page.bullets(lines) if lines else None)


def _facts(experiment: Experiment, split: int) -> dict[str, Any]:
    """{modality: {part: facts}} of a split, from its trainings' done files. Of a source, what a training that holds
    some of it out says stands over what one says that mixes it in whole."""
    records = [experiment.cells[m, k].record for m, k in experiment.cells if k == split]
    records += [record for (_, _, k), record in experiment.trainings.items() if k == split]
    found: dict[str, dict[str, Any]] = {}
    for data in (record.get("data") for record in records):
        for modality, parts in (data.items() if isinstance(data, dict) else ()):
            if isinstance(parts, dict) and len(parts) > len(found.get(modality, {})):
                found[modality] = parts
    target = {experiment.target: found.pop(experiment.target)} if experiment.target in found else {}
    return {**target, **found}


# -- tables ------------------------------------------------------------------------------------------------------

def _tables(experiment: Experiment, found: dict[int, dict[str, Any]]) -> list[page.Element]:
    """The whole of each modality, then the parts of the first split; those of the others are folded away."""
    first, *others = found
    every = {m: parts for facts in reversed(found.values()) for m, parts in facts.items()}
    order = sorted(every, key=lambda m: m != experiment.target)
    rows = [[m.upper(), *_row(every[m].get(WHOLE, {})), _sizes(experiment, m)] for m in order]
    pieces = [page.grid(["modality", *_header(experiment), "rows x columns as stored (scans looked at)"], rows,
                        name="data", caption="Data"),
              page.note(f"{_label(experiment)}: over patients, mean ± standard deviation (range). Slices that show "
                        "nothing are left out, unless --keep_empty takes them."),
              page.heading(f"By part, split {first}"), _parts(experiment, found[first], f"data_split_{first}")]
    if others:
        tables = [piece for k in others for piece in (page.heading(f"Split {k}"), _parts(experiment, found[k]))]
        pieces.append(page.folded("By part, the other splits", *tables))
    return pieces


def _parts(experiment: Experiment, facts: Mapping[str, Any], name: str = "") -> page.Element:
    rows = [[f"{m.upper()}, {_part_name(experiment, m, part)}", *_row(parts[part])]
            for m, parts in facts.items() for part in PARTS if part in parts]
    return page.grid(["modality, part", *_header(experiment)], rows, name=name, caption="Data by part")


def _part_name(experiment: Experiment, modality: str, part: str) -> str:
    return "test" if part == "test" and modality == experiment.target else _PART_NAMES[part]


def _label(experiment: Experiment) -> str:
    if experiment.task == "classification":
        return "Classes"
    return "Age" if experiment.settings.get("label_unit") == "years" else "Label"


def _header(experiment: Experiment) -> list[str]:
    unit = experiment.settings.get("label_unit")
    return ["patients", "slices", "labelled patients", "labelled slices",
            _label(experiment).lower() + (f" ({unit})" if unit and experiment.task == "regression" else "")]


def _row(facts: Mapping[str, Any]) -> list[Any]:
    return [*(facts.get(k, formatting.DASH) for k in ("patients", "slices", "labelled_patients", "labelled")),
            _labels_of(facts)]


def _labels_of(facts: Mapping[str, Any]) -> str:
    if facts.get("classes"):
        return ", ".join(f"{name}: {n}" for name, n in facts["classes"].items())
    ages = facts.get("ages")
    if not ages:
        return formatting.DASH
    return f"{formatting.mean_sd(ages)} ({formatting.number(ages['low'])} to {formatting.number(ages['high'])})"


def _sizes(experiment: Experiment, modality: str) -> str:
    sizes = experiment.image_sizes.get(modality)
    if not isinstance(sizes, dict) or not sizes:
        return formatting.DASH
    return ", ".join(f"{size} ({n})" for size, n in sizes.items())


# -- an experiment of before it was taken down -------------------------------------------------------------------

def _older(experiment: Experiment) -> list[page.Element]:
    """What split.csv and the options of the first split's runs tell: patients by part, labels of the training part."""
    patients: dict[str, dict[str, set[str]]] = {}
    labels: dict[str, dict[str, Any]] = {}
    for folder in _runs(experiment):
        options = options_of(folder)
        labels |= {m: s for m, s in (options.get("label_stats") or {}).items() if m not in labels}
        for modality, parts in _split_of(folder).items():
            patients.setdefault(modality, parts)
    rows = []
    for modality, parts in sorted(patients.items(), key=lambda item: item[0] != experiment.target):
        stats = labels.get(modality, {})
        known = stats.get("known", formatting.DASH)
        age = formatting.mean_sd({"mean": stats.get("mean"), "sd": stats.get("std")})
        rows.append([modality.upper(), *(len(parts.get(p, ())) for p in PARTS), known, age])
    header = ["modality", *(f"patients, {_PART_NAMES[p]}" for p in PARTS), "labelled training slices",
              f"{_label(experiment).lower()} of these"]
    return [page.grid(header, rows, name="data", caption="Data")] if rows else []


def _runs(experiment: Experiment) -> list[Path]:
    """Folders of the runs of the first split that has any."""
    for split in experiment.splits:
        found = sorted(experiment.folder.glob(f"[cst]*/*/split_{split:02d}/{RUN_FILE}"))
        if found:
            return [path.parent for path in found]
    return []


def _split_of(folder: Path) -> dict[str, dict[str, set[str]]]:
    """{modality: {part: {patient}}} of a run's split.csv; {} where it cannot be read."""
    found: dict[str, dict[str, set[str]]] = {}
    try:
        with (folder / "split.csv").open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                found.setdefault(row["modality"], {}).setdefault(row["split"], set()).add(
                    text_of_cell(row["patient"]))
    except (OSError, ValueError, KeyError, csv.Error):
        return {}
    return found


def options_of(folder: Path) -> dict[str, Any]:
    """The options of a run and what its data said; {} where its file is missing or damaged."""
    try:
        found = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["options"]
        if not isinstance(found, dict):
            return {}
        facts = folder / FACTS
        return found | (json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else {})
    except (OSError, ValueError, KeyError, TypeError):
        return {}


# -- what was made of the images ---------------------------------------------------------------------------------

def _images(experiment: Experiment, facts: Mapping[str, Any]) -> list[str]:
    options = [found for found in map(options_of, _runs(experiment)) if found]
    lines = []
    pet = any("pet" in f"{found.get('target')},{found.get('sources')}".split(",") for found in options)
    for name, said in (("ct_window", "CT window (--ct_window)"),
                       *([("pet_window", "PET window (--pet_window, SUV)")] if pet else []),
                       ("load_size", "loading size (--load_size, pixels)"),
                       ("crop_size", "crop in training (--crop_size, pixels)"), ("preprocess", "--preprocess"),
                       ("spacing", "pixel spacing (--spacing, mm)"),
                       ("slices", "--slices")):
        values = list(dict.fromkeys(str(found[name]) for found in options if found.get(name) is not None))
        lines += [f"{said}: {', '.join(values)}"] if values else []
    ranges = [found["target_range"] for found in options if found.get("target_range")]
    if ranges:
        low, high, unit = ranges[0]
        lines.append(f"{experiment.target.upper()} images: {formatting.number(low)} to {formatting.number(high)} "
                     f"{unit} become -1 to 1")
    for translator in experiment.translators.values():
        counts = [facts.get(s, {}).get(WHOLE, {}).get("slices") for s in translator.sources]
        if counts and None not in counts:
            lines.append(f"{translator.title}: translates {sum(counts)} images in each split, all of its "
                         f"source{'s' if len(counts) > 1 else ''}")
    return lines
