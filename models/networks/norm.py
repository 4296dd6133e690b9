"""Normalisation layers by name, and the rule that says which convolutions carry a bias beside them."""
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from duiit.util.errors import UserError

# The stand-in for "no normalisation": a layer that hands its input through.
Identity = nn.Identity

NormLayer = Callable[[int], nn.Module]       # channels -> the layer
NORMS = ("instance", "batch", "none", "syncbatch")


def get_norm_layer(norm_type: str = "instance") -> NormLayer:
    """A factory `channels -> layer` for one of NORMS.

    Instance normalisation has neither weights nor running statistics, so it acts alike in training and at test.
    Batch normalisation has both.
    """
    if norm_type == "instance":
        return functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=False)
    if norm_type == "batch":
        return functools.partial(nn.BatchNorm2d, affine=True, track_running_stats=True)
    if norm_type == "syncbatch":
        return functools.partial(nn.SyncBatchNorm, affine=True, track_running_stats=True)
    if norm_type == "none":
        return Identity
    raise UserError(f"--norm {norm_type} is not known: use one of {', '.join(NORMS)}")


def needs_bias(norm_layer: NormLayer) -> bool:
    """True where a convolution followed by `norm_layer` has a bias in the published networks: with instance norm only.

    (Also "none" goes without a bias there. It is kept so, because the bias is part of the checkpoint's keys.)
    """
    layer = norm_layer.func if isinstance(norm_layer, functools.partial) else norm_layer
    return layer is nn.InstanceNorm2d


@contextmanager
def running_statistics_kept(net: nn.Module) -> Iterator[None]:
    """Inside, batch norm in training mode normalises by its batch as ever but leaves its running statistics alone:
    for images that are to teach the weights, and yet are not what the network will read when it is used."""
    layers = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
