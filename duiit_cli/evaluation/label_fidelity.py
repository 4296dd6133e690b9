"""The labels of translated images as a run's predictor reads them: do they survive the translation?"""
import logging
import warnings
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from duiit.data.readers.slice import Label, Slice
from duiit.util import metrics
from duiit.util.errors import UserError
from duiit_cli.inference.networks import PreparedScan
from duiit_cli.inference.scan_answers import slice_answers

log = logging.getLogger(__name__)


class LabelFidelity:
    """Errors of the predictor's answers to translated images against the labels that came with them."""

    def __init__(self, opt: Namespace, model: Any) -> None:
        self.opt, self.model = opt, model
        self.answers: list[Any] = []
        self.labels: list[Label] = []
        self.patients: list[str] = []
        self.unlabelled = 0
        if opt.run_extra or (opt.model != "predictor" and getattr(opt, "guidance", "joint") == "joint"):
            log.warning("label_fidelity: the predictor of %s has learned from translated images as well, so it may "
                        "read labels off them that nobody else would; take one trained on real images alone", opt.name)

    def take(self, prepared: PreparedScan, kept: Sequence[int],
             as_in_training: Callable[[np.ndarray, Slice], np.ndarray]) -> None:
        """Takes the images at the positions `kept` of a PreparedScan."""
        known = [i for i in kept if prepared.slices[i].label is not None]
        self.unlabelled += len(kept) - len(known)
        if not known:
            return
        images = [as_in_training(prepared.images[i], prepared.slices[i]) for i in known]
        self.answers += list(slice_answers(self.model.predictor(), images, self.opt, self.model.device))
        self.labels += [prepared.slices[i].label for i in known]
        self.patients += [prepared.slices[i].patient for i in known]

    def report(self) -> dict[str, Any]:
        """{"by_image": errors, "by_patient": errors, …}. Raises UserError where no image has a label."""
        if not self.labels:
            raise UserError(f"no image under --fake {self.opt.fake} has a label; put its labels.csv there")
        classes = self.opt.task == "classification"
        return {"unlabelled": self.unlabelled, **(self._of_classes() if classes else self._of_numbers())}

    def _of_numbers(self) -> dict[str, Any]:
        """Errors in label units, and those of always answering the mean label of the predictor's training images."""
        answers = [float(a) for a in self.answers]
        by_patient = [list(metrics.by_group(values, self.patients).values()) for values in (answers, self.labels)]
        done = {"by_image": metrics.regression_errors(answers, self.labels),
                "by_patient": metrics.regression_errors(*by_patient)}
        if self.opt.facts.label_mean is not None:                       # an imported run may not know it
            for unit, labels in (("by_image", self.labels), ("by_patient", by_patient[1])):
                done[f"training_mean_{unit}"] = _errors_of_constant(self.opt.facts.label_mean, labels)
        return done

    def _of_classes(self) -> dict[str, Any]:
        """A patient's answer is the likeliest class on average; those whose images have several labels are left out."""
        groups = defaultdict(list)
        for answer, label, patient in zip(self.answers, self.labels, self.patients, strict=True):
            groups[patient].append((answer, label))
        clear = [g for g in groups.values() if len({label for _, label in g}) == 1]
        return {"by_image": metrics.classification_errors([self._name(a) for a in self.answers], self.labels),
                "by_patient": metrics.classification_errors(
                    [self._name(np.mean([a for a, _ in g], axis=0)) for g in clear], [g[0][1] for g in clear])}

    def _name(self, probabilities: np.ndarray) -> str:
        return self.opt.facts.classes[int(np.argmax(probabilities))]


def _errors_of_constant(answer: float, labels: Sequence[Any]) -> dict[str, Any]:
    """regression_errors without the correlation, which a constant has none of; scipy warns of rounding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        errors = metrics.regression_errors([answer] * len(labels), labels)
    return {key: value for key, value in errors.items() if key != "pearson_r"}
