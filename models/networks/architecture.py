"""The network options behind a state dict, read off its keys and shapes, so that nobody has to remember them.

Each function answers with the options that a network of this project or of the toolkit must have been made with, and
with {} where the keys are not of such a network.
"""
from collections.abc import Mapping
from typing import Any

import torch

from duiit.models.networks.predictors import _ARCHITECTURES, SMALL

State = Mapping[str, torch.Tensor]


def of_generator(state: State) -> dict[str, Any]:
    """netG, ngf, input_nc, output_nc, norm, upsample and, for a ResNet, no_dropout."""
    unet = "model.model.0.weight" in state
    first = "model.model.0" if unet else "model.1"
    weight = state.get(f"{first}.weight")
    if weight is None or weight.ndim != 4:
        return {}
    shape = _unet(state) if unet else _resnet(state)
    if not shape:
        return {}
    last_bias = [key for key in state if key.endswith(".bias")][-1]
    return {**shape, "ngf": weight.shape[0], "input_nc": weight.shape[1], "output_nc": len(state[last_bias]),
            "norm": _norm(state, f"{first}.bias")}


def _resnet(state: State) -> dict[str, Any]:
    blocks = sorted({int(key.split(".")[1]) for key in state if ".conv_block." in key})
    if not blocks:
        return {}
    convolutions = _convolutions(state, f"model.{blocks[0]}.conv_block.")
    resized = f"model.{blocks[-1] + 1}.2.weight" in state
    # With dropout between them, the block's second convolution comes a place later.
    return {"netG": f"resnet_{len(blocks)}blocks", "no_dropout": f"model.{blocks[0]}.conv_block.6.weight" not in
            convolutions, "upsample": "resize" if resized else "transposed"}


def _unet(state: State) -> dict[str, Any]:
    downs = len(_convolutions(state)) // 2
    name = {7: "unet_128", 8: "unet_256"}.get(downs)
    resized = "model.model.3.2.weight" in state
    return {"netG": name, "upsample": "resize" if resized else "transposed"} if name else {}


def of_discriminator(state: State) -> dict[str, Any]:
    """netD, n_layers_D, ndf, norm, and `channels`, those of the images that it judges."""
    pixel = "net.0.weight" in state
    weight = state.get("net.0.weight" if pixel else "model.0.weight")
    if weight is None or weight.ndim != 4:
        return {}
    layers = len(_convolutions(state)) - 2
    found = {"ndf": weight.shape[0], "channels": weight.shape[1],
             "norm": _norm(state, "net.2.bias" if pixel else "model.2.bias")}
    if pixel:
        return {"netD": "pixel", **found}
    return {"netD": "basic" if layers == 3 else "n_layers", "n_layers_D": layers, **found}


def of_predictor(state: State) -> dict[str, Any]:
    """netP, task, `channels`, and `outputs`, the number of them. Also for torchvision's own ResNets."""
    state = {key.removeprefix("backbone."): value for key, value in state.items()}
    head = state.get("head.weight", state.get("fc.weight"))
    if head is None or "conv1.weight" not in state:
        return {}
    counts = tuple(len({key.split(".")[1] for key in state if key.startswith(f"layer{n}.")}) for n in (1, 2, 3, 4))
    deep = "layer1.0.conv3.weight" in state
    small = state["conv1.weight"].shape[0] == 16
    names = [name for name, (block, sizes) in _ARCHITECTURES.items()
             if sizes == counts and (block == "Bottleneck") == deep and (name == SMALL) == small]
    if not names:
        return {}
    return {"netP": names[0], "task": "regression" if len(head) == 1 else "classification",
            "channels": state["conv1.weight"].shape[1], "outputs": len(head)}


def _convolutions(state: State, prefix: str = "") -> set[str]:
    return {key for key, value in state.items() if key.startswith(prefix) and value.ndim == 4}


def _norm(state: State, bias: str) -> str:
    """Convolutions before an instance norm have a bias, those before a batch norm have none (see norm.needs_bias)."""
    if bias in state:
        return "instance"
    return "batch" if any(key.endswith("running_mean") for key in state) else "none"
