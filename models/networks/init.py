"""First weights of a network, drawn from torch's global generator: the same seed gives the same network."""
import logging
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import nn

from duiit.util.errors import UserError

Net = TypeVar("Net", bound=nn.Module)
INIT_TYPES = ("normal", "xavier", "kaiming", "orthogonal")

_FILL = {
    # N(0, 0.02) rather than a fan-in rule: with Tanh at the end and normalisation inside, small weights keep the first
    # images near zero, where neither the discriminator nor the Tanh saturates.
    "normal": lambda weight, gain: nn.init.normal_(weight, 0.0, gain),
    "xavier": lambda weight, gain: nn.init.xavier_normal_(weight, gain=gain),
    "kaiming": lambda weight, gain: nn.init.kaiming_normal_(weight, a=0, mode="fan_in"),
    "orthogonal": lambda weight, gain: nn.init.orthogonal_(weight, gain=gain),
}
_BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)

logger = logging.getLogger(__name__)


def init_weights(net: nn.Module, init_type: str = "normal", init_gain: float = 0.02) -> None:
    """Draw new weights for every convolution, linear layer and batch norm in `net`, in place.

    A module with a true attribute `keeps_own_init` is left as it is, with everything below it: a predictor that came
    with pretrained weights survives a setup that initialises all networks of a model.
    """
    if init_type not in _FILL:
        raise UserError(f"--init_type {init_type} is not known: use one of {', '.join(INIT_TYPES)}")
    logger.debug("initialising %s with %s", type(net).__name__, init_type)
    for module in _modules_to_draw(net):
        if isinstance(module, _WEIGHTED):
            _FILL[init_type](module.weight.data, init_gain)
            if module.bias is not None:
                nn.init.constant_(module.bias.data, 0.0)
        elif isinstance(module, _BATCH_NORMS) and module.affine:
            # Scales start around one, not at it, so that no two channels start out as equals.
            nn.init.normal_(module.weight.data, 1.0, init_gain)
            nn.init.constant_(module.bias.data, 0.0)


def _modules_to_draw(net: nn.Module) -> Iterator[nn.Module]:
    """Children before parents, as `nn.Module.apply` goes: this order decides which random number goes where."""
    if getattr(net, "keeps_own_init", False):
        return
    for child in net.children():
        yield from _modules_to_draw(child)
    yield net


def init_net(net: Net, init_type: str = "normal", init_gain: float = 0.02, gpu_ids: Sequence[int] = ()) -> Net:
    """Initialise `net` and put it on the first of `gpu_ids` (empty: it stays where it is); returns the network.

    Weights are drawn before the move, so a CPU and a GPU start alike. The network is never wrapped: several GPUs are
    the business of torchrun, and keys stay free of a `module.` prefix.
    """
    init_weights(net, init_type, init_gain)
    if gpu_ids:
        if not torch.cuda.is_available():
            raise UserError(f"--gpu_ids {gpu_ids[0]} asks for a GPU, but torch sees none: use --gpu_ids -1 (CPU)")
        net.to(torch.device("cuda", gpu_ids[0]))
    return net
