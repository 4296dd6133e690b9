"""A further head on a predictor's trunk: multi-task learning gives each source one of its own."""
import torch
from torch import nn


class LabelHead(nn.Module):
    """Features (N, feature_nc) -> (N,) in label units, or logits (N, num_classes): the head of a PredictorNet, alone.

    Like that one it works in standard scores, of the labels that it is to learn: `label_mean`, `label_std` (scalars,
    label units) travel in the state dict.
    """

    def __init__(self, feature_nc: int, num_classes: int | None = None, label_mean: float = 0.0,
                 label_std: float = 1.0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.head = nn.Linear(feature_nc, num_classes or 1)
        self.register_buffer("label_mean", torch.tensor(float(label_mean)))
        self.register_buffer("label_std", torch.tensor(float(label_std)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        answers = self.head(features)
        if self.num_classes:
            return answers
        return answers.squeeze(1).float() * self.label_std + self.label_mean
