"""What the models that hold a predictor P share: its options, its making, its validation."""
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from duiit.models import networks
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


@torch.no_grad()
def validate(net: torch.nn.Module, dataset: Iterable[Mapping[str, Any]], task: str,
             device: torch.device) -> dict[str, float]:
    """Errors of `net` on the labelled items {B, B_label} of `dataset`: {} where there are none.

    Regression: mean squared and mean absolute error an image, in label units. Classification: share of wrong answers.
    """
    answers, labels = [], []
    was_training = net.training
    net.eval()
    for batch in dataset:
        answers.append(net(batch["B"].to(device)).cpu())
        labels.append(batch["B_label"])
    net.train(was_training)
    if not labels:
        return {}
    answers, labels = torch.cat(answers), torch.cat(labels)
    known = labels >= 0 if task == "classification" else ~torch.isnan(labels)
    if not known.any():
        return {}
    if task == "classification":
        return {"val_error": float((answers[known].argmax(1) != labels[known]).float().mean())}
    error = answers[known] - labels[known]
    return {"val_mse": float(error.square().mean()), "val_mae": float(error.abs().mean())}
