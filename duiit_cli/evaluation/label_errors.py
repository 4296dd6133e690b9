"""How wrong answers are against known labels, by image and by patient: for `test`, `evaluate` and experiments alike."""
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import numpy as np

from duiit.data.preparing.cohort import Row
from duiit.data.readers.slice import Label
from duiit.util import metrics

Errors = dict[str, dict[str, Any]]          # {"by_image": …, "by_patient": …}


def label_errors(answers: Sequence[Any], labels: Sequence[Label], patients: Sequence[str], opt: Namespace) -> Errors:
    """Answers to images (numbers, or probabilities (K,) of the classes) against their labels, none of them missing.

    A patient's answer is the mean over their images, and so is their label. A patient whose images have different
    classes has none, and is left out of `by_patient`.
    """
    means = metrics.by_group(answers, patients)
    if opt.task == "classification":
        of: dict[str, set[Label]] = {}
        for label, patient in zip(labels, patients, strict=True):
            of.setdefault(patient, set()).add(label)
        whole = [p for p in means if len(of[p]) == 1]
        return {"by_image": _of_classes(answers, labels, opt),
                "by_patient": _of_classes([means[p] for p in whole], [next(iter(of[p])) for p in whole], opt)}
    truths = metrics.by_group(labels, patients)
    return {"by_image": metrics.regression_errors(answers, labels),
            "by_patient": metrics.regression_errors(list(means.values()), list(truths.values()))}


def errors_of_rows(rows: Sequence[Row], answers: Sequence[Any], opt: Namespace) -> Errors:
    """label_errors of an answer a row, of the rows that have a label."""
    known = [(a, r) for r, a in zip(rows, answers, strict=True) if r.label is not None]
    if not known:
        return {"by_image": {}, "by_patient": {}}
    return label_errors([a for a, _ in known], [r.label for _, r in known], [r.patient for _, r in known], opt)


def errors_of_constant(answer: Any, labels: Sequence[Label], patients: Sequence[str], opt: Namespace) -> Errors:
    """label_errors of one answer to everything: what a prediction has to be better than."""
    found = label_errors([answer] * len(labels), labels, patients, opt)
    if opt.task != "classification":        # a mean of equal numbers is not quite that number
        truths = list(metrics.by_group(labels, patients).values())
        found["by_patient"] = metrics.regression_errors([answer] * len(truths), truths)
    return found


def named(answer: Any, opt: Namespace) -> float | str | None:
    """An answer for people: a number, or the name of the likeliest class; None where nothing was asked."""
    if answer is None:
        return None
    return opt.facts.classes[int(np.argmax(answer))] if np.ndim(answer) else float(answer)


def _of_classes(chances: Sequence[Any], labels: Sequence[Label], opt: Namespace) -> dict[str, Any]:
    return metrics.classification_errors([named(c, opt) for c in chances], labels, chances, opt.facts.classes)
