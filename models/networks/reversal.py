"""Gradient reversal and the domain classifier behind it (Ganin et al. 2016, Domain-Adversarial Training of Neural
Networks, JMLR 17): one backward pass teaches the classifier to tell domains apart, and the features to prevent it.
"""
import math
from typing import Any

import torch
from torch import nn


class _Reversal(torch.autograd.Function):
    """The identity going forward, -strength times the gradient going backward."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, strength: float) -> torch.Tensor:
        ctx.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(features: torch.Tensor, strength: float) -> torch.Tensor:
    """`features` (any shape) unchanged; what is learned from them comes back turned round and times `strength`."""
    return _Reversal.apply(features, strength)


def reversal_strength(progress: float, gamma: float = 10.0) -> float:
    """lambda_p = 2 / (1 + exp(-gamma p)) - 1: from 0 at p = 0 towards 1 at p = 1, faster the larger gamma is.

    While the classifier is still random its gradient says nothing, so the features are not pushed by it at first.
    """
    return math.tanh(gamma * progress / 2)      # the same number, in the form that no gamma overflows


class DomainClassifier(nn.Module):
    """Features (N, feature_nc) -> a logit a domain (N, domains).

    Two hidden layers of 1024, as the authors' classifiers for large networks. No batch norm: a classifier that
    normalises by its batch would see each image in the light of the others' domains.
    """

    def __init__(self, feature_nc: int, domains: int, hidden: int = 1024) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(feature_nc, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                                   nn.Linear(hidden, domains))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.model(features)
