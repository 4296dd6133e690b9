"""Generators averaged over the steps of the training (an exponential moving average of the weights): their
translations scatter less from step to step than those of the weights of the moment."""
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Averages:
    """decay: what remains of the average at each step; 0.999 averages over about the last thousand."""

    def __init__(self, nets: Mapping[str, nn.Module], decay: float) -> None:
        self.nets = dict(nets)
        average = get_ema_multi_avg_fn(decay)
        copies = {name: AveragedModel(net, multi_avg_fn=average, use_buffers=True) for name, net in nets.items()}
        self.averaged = nn.ModuleDict(copies).requires_grad_(False)

    def update(self) -> None:
        """Takes the weights of the moment in; the first time they are the average."""
        for name, net in self.nets.items():
            self._of(name).update_parameters(net)

    def _of(self, name: str) -> AveragedModel:
        found = self.averaged[name]
        assert isinstance(found, AveragedModel)
        return found

    def weights(self) -> dict[str, dict[str, torch.Tensor]]:
        """{network's name: its averaged state dict}."""
        return {name: self._of(name).module.state_dict() for name in self.nets}

    def state_dict(self) -> dict[str, Any]:
        return self.averaged.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.averaged.load_state_dict(state)
