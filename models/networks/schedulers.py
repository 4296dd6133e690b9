"""Learning-rate schedules, stepped once an epoch."""
import math
from argparse import Namespace

import torch
from torch.optim import lr_scheduler

from duiit.util.errors import UserError

LR_POLICIES = ("linear", "step", "plateau", "cosine")


def get_scheduler(optimizer: torch.optim.Optimizer, opt: Namespace) -> lr_scheduler.LRScheduler:
    """The schedule that `opt.lr_policy` names; reads n_epochs, n_epochs_decay, epoch_count and lr_decay_iters.

    linear: flat for n_epochs epochs, then down a straight line for n_epochs_decay. step: a tenth every lr_decay_iters.
    plateau: a fifth when five validations have brought no improvement. cosine: down towards zero over all epochs.
    """
    if opt.lr_policy == "linear":
        return lr_scheduler.LambdaLR(optimizer, lr_lambda=lambda epoch: linear_factor(epoch, opt))
    if opt.lr_policy == "step":
        return lr_scheduler.StepLR(optimizer, step_size=opt.lr_decay_iters, gamma=0.1)
    if opt.lr_policy == "plateau":
        return lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.2, threshold=0.01, patience=5)
    if opt.lr_policy == "cosine":
        return lr_scheduler.LambdaLR(optimizer, lr_lambda=lambda epoch: cosine_factor(epoch, opt))
    raise UserError(f"--lr_policy {opt.lr_policy} is not known: use one of {', '.join(LR_POLICIES)}")


def linear_factor(epoch: int, opt: Namespace) -> float:
    """Share of the first rate after `epoch` steps of the schedule; a run that starts late says so by `epoch_count`.

    Divided by one more than the decay epochs, so the last of them still trains.
    """
    return 1.0 - max(0, epoch + opt.epoch_count - opt.n_epochs) / float(opt.n_epochs_decay + 1)


def cosine_factor(epoch: int, opt: Namespace) -> float:
    """Share of the first rate after `epoch` steps of the schedule: half a cosine over n_epochs + n_epochs_decay epochs,
    of which the last still trains."""
    done = (epoch + opt.epoch_count - 1) / (opt.n_epochs + opt.n_epochs_decay)
    return (1 + math.cos(math.pi * min(done, 1.0))) / 2
