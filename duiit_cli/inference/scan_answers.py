"""From a scan's slices to one answer: which slices are asked, and how their answers become the scan's."""
from argparse import Namespace
from collections.abc import Iterable
from typing import Any

import numpy as np

from duiit.data.preparing.cohort import as_float, as_stored
from duiit.data.readers.slice import Label, Scan
from duiit_cli.inference.networks import PreparedScan

AGGREGATES = ("mean", "median")


def used_slices(prepared: PreparedScan, opt: Namespace) -> list[int]:
    """Indices of the slices of a PreparedScan that say something."""
    return [i for i, empty in enumerate(prepared.empty) if opt.keep_empty or not empty]


def asked_images(prepared: PreparedScan, used: Iterable[int]) -> list[np.ndarray]:
    """The images at these indices as the predictor is to see them: rounded as those that it was trained, validated and
    tested on, so that the same scan gets the same answer everywhere."""
    return [as_float(as_stored(prepared.images[i])) for i in used]


def of_scan(answers: np.ndarray, aggregate: str) -> Any:
    """Mean or median over slices: (N,) -> a number; (N, K) -> (K,) probabilities, which sum up to 1."""
    together = (np.median if aggregate == "median" else np.mean)(answers, axis=0)
    return together / together.sum() if together.ndim else float(together)


def score_of(answer: Any, label: Any, opt: Namespace) -> float:
    """How far a scan's answer is off: |answer - label|, or 1 - the probability of the true class."""
    return 1 - float(answer[opt.facts.classes.index(label)]) if opt.task == "classification" else abs(answer - label)


def label_of(scan: Scan, labels: Iterable[Label]) -> Label:
    """The scan's label, from those of its slices; None where it has none, or where its slices have different ones."""
    known = set(labels) - {None}
    if len(known) == 1:
        return known.pop()
    return scan.label if not known else None
