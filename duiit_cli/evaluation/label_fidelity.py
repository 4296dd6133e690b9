"""The labels of translated images as a run's predictor reads them: do they survive the translation?"""
import logging
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from duiit.data.readers.slice import Label, Slice
from duiit.util.errors import UserError
from duiit_cli.evaluation.label_errors import errors_of_constant, label_errors
from duiit_cli.inference.networks import PreparedScan, predict

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
        self.answers += list(predict(self.model.predictor(), images, self.opt, self.model.device))
        self.labels += [prepared.slices[i].label for i in known]
        self.patients += [prepared.slices[i].patient for i in known]

    def report(self) -> dict[str, Any]:
        """{"by_image", "by_patient": errors, "predict_the_mean": those of always answering the mean label of the
        predictor's training images}. Raises UserError where no image has a label."""
        if not self.labels:
            raise UserError(f"no image under --fake {self.opt.fake} has a label; put its labels.csv there")
        found = {"unlabelled": self.unlabelled, **label_errors(self.answers, self.labels, self.patients, self.opt)}
        mean = self.opt.facts.label_mean            # an imported run may not know it, and classes have none
        if mean is not None:
            found["predict_the_mean"] = errors_of_constant(mean, self.labels, self.patients, self.opt)
        return found
