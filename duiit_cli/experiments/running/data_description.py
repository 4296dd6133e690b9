"""What the report says of the data, taken down while an experiment runs: who and what is in which part, and how large
the images were before they were resized."""
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from duiit.data import readers, splits
from duiit.data.modality_dataset import PreparedDataset, loader_of
from duiit.data.preparing.cohort import Row
from duiit.data.readers.slice import Scan
from duiit.options import TestOptions
from duiit.util.errors import UserError
from duiit.util.progress import track
from duiit_cli.experiments.planning import plan

SIZED = 24                  # scans of a modality whose size is looked at, evenly spread
WHOLE = "whole"             # beside the parts of the split, which a source that is mixed in raw has none of


def of_task(root: str | PathLike[str], task: plan.Task,
            dataset: PreparedDataset | None = None) -> dict[str, dict[str, dict[str, Any]]]:
    """{modality: {part: facts}} of the target and of the sources that a task's training read. dataset: the run's, where
    it is there already; it need not know all of them.

    facts: patients, slices, labelled (slices), labelled_patients; and ages {mean, sd, low, high} over patients, or
    classes {class: patients}.
    """
    opt = TestOptions().parse(task.run_words(root))
    read = any(w.startswith(("--sources=", "--raw=")) for w in task.words)
    found = {}
    for modality in (opt.target, *(task.about["sources"] if read else ())):
        if dataset is not None and modality in dataset.rows:
            rows, parts = dataset.rows[modality], dataset.parts[modality]
        else:
            translated = modality != opt.target and task.kind == plan.TRANSLATOR
            channels = opt.input_nc if translated else opt.output_nc
            rows = loader_of(modality)(opt, Path(opt.dataroot) / modality, channels).rows
            parts = splits.read(Path(opt.checkpoints_dir) / opt.name, {modality: rows}, opt.split_by)[modality]
        found[modality] = {WHOLE: of_rows(rows, opt.task), **{part: of_rows(
            [r for r, p in zip(rows, parts, strict=True) if p == part], opt.task)
            for part in splits.PARTS if part in parts}}
    return found


def of_rows(rows: Sequence[Row], task: str) -> dict[str, Any]:
    """Facts of prepared slices, as `of_task` says."""
    labels: dict[str, list[Any]] = {}
    for row in rows:
        if row.label is not None:
            labels.setdefault(row.patient, []).append(row.label)
    found = {"patients": len({r.patient for r in rows}), "slices": len(rows),
             "labelled": sum(r.label is not None for r in rows), "labelled_patients": len(labels)}
    if task == "classification":
        classes = Counter(c for own in labels.values() for c in set(own))
        return found | {"classes": dict(sorted(classes.items()))}
    values = [float(np.mean(own)) for own in labels.values()]
    return found | {"ages": {
        "mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "low": min(values), "high": max(values)} if values else {}}


def image_sizes(scans_of: Mapping[str, Sequence[Scan]]) -> dict[str, dict[str, int]]:
    """{modality: [Scan]} -> {modality: {"650x650": scans}}: rows and columns of the images as they are stored, of up to
    SIZED scans. What cannot be read is left out: the trainings will say what is wrong with it."""
    found = {}
    for modality, scans in scans_of.items():
        chosen = [scans[i] for i in np.unique(np.linspace(0, len(scans) - 1, min(SIZED, len(scans))).astype(int))]
        sizes = (_size(scan) for scan in track(chosen, f"sizes of {modality}"))
        found[modality] = dict(Counter(size for size in sizes if size).most_common())
    return found


def _size(scan: Scan) -> str | None:
    try:
        rows, columns = readers.read_scan(replace(scan, files=scan.files[:1]))[0].image.shape[-2:]
    except UserError:
        return None
    return f"{rows}x{columns}"
