"""Learning-rate schedules, stepped once an epoch."""
from argparse import Namespace

import torch
from torch.optim import lr_scheduler

from duiit.util.errors import UserError

LR_POLICIES = ("linear", "step", "plateau", "cosine")


def get_scheduler(optimizer: torch.optim.Optimizer, opt: Namespace) -> lr_scheduler.LRScheduler:
    """The schedule that `opt.lr_policy` names; reads n_epochs, n_epochs_decay, epoch_count and lr_decay_iters.

    linear: flat for n_epochs epochs, then down a straight line for n_epochs_decay. step: a tenth every lr_decay_iters.
    plateau: a fifth when the metric has not improved for five epochs. cosine: down to zero over n_epochs.
    """
    if opt.lr_policy == "linear":
        return lr_scheduler.LambdaLR(optimizer, lr_lambda=lambda epoch: linear_factor(epoch, opt))
    if opt.lr_policy == "step":
        return lr_scheduler.StepLR(optimizer, step_size=opt.lr_decay_iters, gamma=0.1)
    if opt.lr_policy == "plateau":
        return lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.2, threshold=0.01, patience=5)
    if opt.lr_policy == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=opt.n_epochs, eta_min=0)
    raise UserError(f"--lr_policy {opt.lr_policy} is not known: use one of {', '.join(LR_POLICIES)}")


def linear_factor(epoch: int, opt: Namespace) -> float:
    """Share of the first rate after `epoch` steps of the schedule; a run that starts late says so by `epoch_count`.

    Divided by one more than the decay epochs, so the last of them still trains.
    """
    return 1.0 - max(0, epoch + opt.epoch_count - opt.n_epochs) / float(opt.n_epochs_decay + 1)
