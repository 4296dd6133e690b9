"""What the models that hold a predictor P share: its options, its making, its validation."""
import torch

from models import networks
from util.errors import UserError


def add_options(parser):
    parser.add_argument("--netP", default="resnet50", choices=list(networks.PREDICTORS), help="predictor network")
    parser.add_argument("--weights_P", help="initial weights of the predictor: imagenet, or a .pth file")
    parser.add_argument("--loss_P", default="mse", choices=["mse", "l1", "huber"],
                        help="loss of a regression, in label units (classification: cross-entropy)")
    return parser


def make_predictor(opt, channels):
    """netP, reading images of `channels`, with the label's mean and deviation (or classes) that the data set found.

    It is made from a seed of its own, so that what is drawn here shifts no other random number of the run.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(opt.seed)           # the CPU's alone, where networks are made
        classes = len(getattr(opt, "classes", ())) if opt.task == "classification" else None
        weights = opt.weights_P if opt.isTrain and not opt.continue_train else None
        return networks.define_P(opt.netP, channels, opt.task, classes, getattr(opt, "label_mean", 0.0),
                                 getattr(opt, "label_std", 1.0), weights)


def refuse_without_labels(opt, remedy):
    """Raises UserError, ending in `remedy`, where the data set found no label to train on."""
    if opt.isTrain and not getattr(opt, "labels_known", 0):
        raise UserError(f"no training image under {opt.dataroot} has a label, and a predictor needs some: {remedy}")


def check_crop(opt):
    """Raises UserError where training would give the predictor's batch norm a single value a channel."""
    if opt.isTrain and "crop" in opt.preprocess:
        networks.check_predictor_size(opt.crop_size, opt.crop_size, opt.batch_size)


@torch.no_grad()
def validate(net, dataset, task, device):
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
