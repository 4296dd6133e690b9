"""The predictor's loss: L_pred of Eq. 2, over the images that have a label."""
import torch
import torch.nn.functional as F
from torch import nn

from duiit.util import distributed
from duiit.util.errors import UserError

TASKS = ("regression", "classification")
PREDICTION_LOSSES = ("mse", "l1", "huber")


class PredictionLoss(nn.Module):
    """Mean loss over the labelled samples of a batch; zero (with zero gradients) when none is labelled.

    Regression: prediction (N,) and target (N,) in label units, NaN where the label is missing. With `mse` the value is
    in squared label units, which is the scale that the paper's lambda_pred of 0.001 is made for. `huber` turns from
    squared to straight at `delta` label units.
    Classification: logits (N, K) and class numbers (N,), -1 where the label is missing; cross-entropy, `kind` unused.
    """

    def __init__(self, task: str, kind: str = "mse", delta: float = 1.0) -> None:
        super().__init__()
        if task not in TASKS:
            raise UserError(f"--task {task} is not known: use one of {', '.join(TASKS)}")
        if kind not in PREDICTION_LOSSES:
            raise UserError(f"prediction loss {kind} is not known: use one of {', '.join(PREDICTION_LOSSES)}")
        self.task, self.kind, self.delta = task, kind, delta

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if target.shape != prediction.shape[:1] or (self.task == "regression" and prediction.ndim != 1):
            # Left to itself, (N, 1) against (N,) would broadcast to N x N errors.
            raise ValueError(f"predictions {tuple(prediction.shape)} and labels {tuple(target.shape)} do not pair up")
        if self.task == "classification":
            target = target.long()
            labelled = target != -1
            total = F.cross_entropy(prediction, target, ignore_index=-1, reduction="sum")
        else:
            labelled = ~torch.isnan(target)
            # Masked before anything that is not linear: a NaN that entered a square would come back in the gradient.
            error = torch.where(labelled, prediction - target, 0.0)  # (N,)
            total = self._regression(error).sum()
        # Several processes average their gradients: their mean is to be the mean over the labelled samples of all.
        labelled = distributed.share(labelled.sum())
        return total / torch.where(labelled > 0, labelled, 1)

    def _regression(self, error: torch.Tensor) -> torch.Tensor:
        if self.kind == "mse":
            return error.square()
        if self.kind == "l1":
            return error.abs()
        return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=self.delta)
