"""Gradient reversal and the domain classifier behind it (Ganin et al. 2016, Domain-Adversarial Training of Neural
Networks, JMLR 17): one backward pass teaches the classifier to tell domains apart, and the features to prevent it.
"""
import math

import torch
from torch import nn


class _Reversal(torch.autograd.Function):
    """The identity going forward, -strength times the gradient going backward."""

    @staticmethod
    def forward(ctx, features, strength):
        ctx.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.strength * gradient, None


def reverse_gradient(features, strength):
    """`features` (any shape) unchanged; what is learned from them comes back turned round and times `strength`."""
    return _Reversal.apply(features, strength)


def reversal_strength(progress, gamma=10.0):
    """lambda_p = 2 / (1 + exp(-gamma p)) - 1: from 0 at p = 0 towards 1 at p = 1, faster the larger gamma is.

    While the classifier is still random its gradient says nothing, so the features are not pushed by it at first.
    """
    return math.tanh(gamma * progress / 2)      # the same number, in the form that no gamma overflows


class DomainClassifier(nn.Module):
    """Features (N, feature_nc) -> a logit a domain (N, domains).

    Two hidden layers of 1024, as the authors' classifiers for large networks. No batch norm: a classifier that
    normalises by its batch would see each image in the light of the others' domains.
    """

    def __init__(self, feature_nc, domains, hidden=1024):
        super().__init__()
        self.model = nn.Sequential(nn.Linear(feature_nc, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                                   nn.Linear(hidden, domains))

    def forward(self, features):
        return self.model(features)
