"""What the models that hold a predictor P share: its options, its making, its validation."""
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from duiit.models import networks
from duiit.util import metrics
from duiit.util.bounds import WEIGHT
from duiit.util.errors import UserError


def add_options(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument("--netP", default="resnet50", choices=list(networks.PREDICTORS), help="predictor network")
    parser.add_argument("--weights_P", help="initial weights of the predictor: imagenet, or a .pth file")
    parser.add_argument("--loss_P", default="mse", choices=["mse", "l1", "huber"],
                        help="loss of a regression, in label units (classification: cross-entropy)")
    return parser


def add_training_options(parser: ArgumentParser, batch_size: int) -> ArgumentParser:
    """Options of the models that train nothing but a predictor, with the defaults they share: the paper's Adam and
    100 epochs at 1e-4."""
    parser.set_defaults(batch_size=batch_size, lr=1e-4, beta1=0.9, n_epochs=100, n_epochs_decay=0)
    parser.add_argument("--weight_decay", type=WEIGHT, default=0.0, help="L2 penalty in Adam")
    parser.add_argument("--augment", default="none", choices=["none", "simple", "autoaugment", "random_erasing"],
                        help="what training images go through besides crop and flip")
    return parser


def make_optimizer(nets: Iterable[torch.nn.Module], opt: Namespace) -> torch.optim.Adam:
    """Adam over all weights of `nets`, as the options say."""
    parameters = [p for net in nets for p in net.parameters()]
    return torch.optim.Adam(parameters, lr=opt.lr, betas=(opt.beta1, 0.999), weight_decay=opt.weight_decay, fused=True)


@contextmanager
def own_random_numbers(opt: Namespace) -> Iterator[None]:
    """Networks made inside are drawn from a seed of their own, so that they shift no other random number of the run."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(opt.seed)           # the CPU's alone, where networks are made
        yield


def make_predictor(opt: Namespace, channels: int,
                   score: tuple[float, float] | None = None) -> networks.PredictorNet:
    """netP, reading images of `channels`, with the classes that the data set found, or a standard score's (mean,
    deviation): of all training labels, unless another is given."""
    mean, std = score or score_of(opt)
    weights = opt.weights_P if opt.isTrain and not opt.continue_train else None
    with own_random_numbers(opt):
        return networks.define_P(opt.netP, channels, opt.task, classes_of(opt), mean, std, weights)


def score_of(opt: Namespace) -> tuple[float, float]:
    """(mean, deviation) of the training labels, in label units. (0, 1), which changes nothing, where no label is known
    and nothing is predicted, for classes, and for a trained network, whose weights bring their own."""
    if not opt.isTrain or not opt.facts.labels_known or opt.task == "classification":
        return 0.0, 1.0
    return opt.facts.need("label_mean"), opt.facts.need("label_std")


def classes_of(opt: Namespace) -> int | None:
    """How many classes there are; None in a regression."""
    return len(opt.facts.need("classes")) if opt.task == "classification" else None


def refuse_without_labels(opt: Namespace, remedy: str) -> None:
    """Raises UserError, ending in `remedy`, where the data set found no label to train on."""
    if opt.isTrain and not opt.facts.labels_known:
        raise UserError(f"no training image under {opt.dataroot} has a label, and a predictor needs some: {remedy}")


def check_crop(opt: Namespace) -> None:
    """Raises UserError where training would give the predictor's batch norm a single value a channel."""
    if opt.isTrain and "crop" in opt.preprocess:
        networks.check_predictor_size(opt.crop_size, opt.crop_size, opt.batch_size)


def check_weights(opt: Namespace) -> None:
    """Raises UserError where --weights_P names no weights that the predictor could start from. Those of ImageNet are
    fetched at this point, if they are not here yet."""
    if opt.isTrain and not opt.continue_train and opt.weights_P is not None:
        with own_random_numbers(opt):
            networks.define_P(opt.netP, opt.output_nc, weights=opt.weights_P)


# -- validation ----------------------------------------------------------------------------------------------------


class Validation(dict[str, float]):
    """{name: error}, the first of which chooses the best epoch, and what it is made of.

    answers: (N,) labels or (N, K) class probabilities of the labelled images; labels, patients, scans: (N,) of each.
    patients and scans are None where the data set does not tell them.
    """
    answers: np.ndarray
    labels: np.ndarray
    patients: list[str] | None
    scans: list[str] | None

    def error_of(self, images: np.ndarray, task: str, by: str) -> tuple[float, int]:
        """(error, weight) of one patient, the images at these positions: the first of the errors above is the weighted
        mean of these over patients."""
        found = _validation(self.answers[images], self.labels[images], ["one"] * len(images), None, task, by)
        several = task == "classification" and len(set(self.labels[images].tolist())) > 1
        return next(iter(found.values())), len(images) if by == "image" else int(not several)


@torch.no_grad()
def validate(net: torch.nn.Module, dataset: Iterable[Mapping[str, Any]], task: str, device: torch.device,
             by: str = "patient") -> dict[str, float]:
    """Errors of `net` on the labelled items {B, B_label, B_patients, B_scans} of `dataset`: a Validation, or {} where
    there are none.

    Regression: mean squared and mean absolute error, in label units. Classification: share of wrong answers. By
    patient, as reports have it: of the mean answer to a patient's images, and a patient whose images have several
    classes is left out. By image where `by` says so, or where the data set tells no patients. The names end in which.
    """
    answers, labels, patients, scans = [], [], [], []
    was_training = net.training
    net.eval()
    for batch in dataset:
        output = net(batch["B"].to(device))
        answers.append((output.softmax(1) if task == "classification" else output).double().cpu().numpy())
        labels.append(batch["B_label"].numpy())
        patients += batch.get("B_patients", ())
        scans += batch.get("B_scans", ())
    net.train(was_training)
    if not labels:
        return {}
    answers, labels = np.concatenate(answers), np.concatenate(labels)
    known = labels >= 0 if task == "classification" else ~np.isnan(labels)
    if not known.any():
        return {}
    who, of = ([x for x, k in zip(names, known, strict=True) if k] if names else None for names in (patients, scans))
    return _validation(answers[known], labels[known], who, of, task, by)


def _validation(answers: np.ndarray, labels: np.ndarray, patients: list[str] | None, scans: list[str] | None,
                task: str, by: str) -> Validation:
    groups: Sequence[Any] = patients if by == "patient" and patients else range(len(labels))
    ending = "patient" if groups is patients else "image"
    said, true = (np.array(list(metrics.by_group(values, groups).values())) for values in (answers, labels))
    if task == "classification":
        whole = [len({*of_one}) == 1 for of_one in _grouped(labels.tolist(), groups)]
        if not any(whole):                  # nobody is of one class
            return _validation(answers, labels, patients, scans, task, "image")
        wrong = said[whole].argmax(1) != true[whole]
        found = Validation({f"val_error_{ending}": float(wrong.mean())})
    else:
        error = said - true
        found = Validation({f"val_mse_{ending}": float(np.square(error).mean()),
                            f"val_mae_{ending}": float(np.abs(error).mean())})
    found.answers, found.labels, found.patients, found.scans = answers, labels, patients, scans
    return found


def _grouped(values: Iterable[Any], groups: Iterable[Any]) -> Iterable[list[Any]]:
    found: dict[Any, list[Any]] = {}
    for value, group in zip(values, groups, strict=True):
        found.setdefault(group, []).append(value)
    return found.values()
