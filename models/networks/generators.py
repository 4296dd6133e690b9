"""Translators between two kinds of images (G and F of Eq. 1): ResNet and U-Net generators.

State-dict keys and results are those of the public toolkit: a change here that moves a key breaks every checkpoint.
"""
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from duiit.models.networks.init import init_net
from duiit.models.networks.norm import NormLayer, get_norm_layer, needs_bias
from duiit.util.errors import UserError

GENERATORS = ("resnet_9blocks", "resnet_6blocks", "resnet_4blocks", "resnet_3blocks", "unet_256", "unet_128")
UPSAMPLES = ("transposed", "resize")


def define_G(input_nc: int, output_nc: int, ngf: int, netG: str, norm: str = "batch", use_dropout: bool = False,
             init_type: str = "normal", init_gain: float = 0.02, gpu_ids: Sequence[int] = (), *,
             upsample: str = "transposed") -> nn.Module:
    """An initialised generator: (N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1].

    `netG` is one of GENERATORS, or `resnet_<n>blocks` with any n from 1. `upsample="resize"` enlarges by copying pixels
    and then convolving, which leaves no checkerboard; its enlarging layers have keys of their own.
    """
    if upsample not in UPSAMPLES:
        raise UserError(f"upsample {upsample} is not known: use one of {', '.join(UPSAMPLES)}")
    norm_layer = get_norm_layer(norm)
    n_blocks = resnet_blocks(netG)
    if n_blocks is not None:
        net = ResnetGenerator(input_nc, output_nc, ngf, norm_layer, use_dropout, n_blocks, upsample=upsample)
    else:
        net = UnetGenerator(input_nc, output_nc, unet_downs(netG), ngf, norm_layer, use_dropout, upsample=upsample)
    return init_net(net, init_type, init_gain, gpu_ids)


def resnet_blocks(netG: str) -> int | None:
    """The number of blocks that a name such as `resnet_9blocks` asks for; None for a U-Net's name."""
    match = re.fullmatch(r"resnet_([1-9]\d*)blocks", netG)
    return int(match[1]) if match else None


def unet_downs(netG: str) -> int:
    """How many times a U-Net of that name halves its image: 8 for unet_256, 7 for unet_128."""
    downs = {"unet_128": 7, "unet_256": 8}
    if netG not in downs:
        raise UserError(f"--netG {netG} is not known: use one of {', '.join(GENERATORS)}, or resnet_<n>blocks")
    return downs[netG]


# ---- enlarging ------------------------------------------------------------------------------------------------------

def _enlarge(in_nc: int, out_nc: int, kernel: int, bias: bool, upsample: str) -> nn.Module:
    """A layer (N, in_nc, H, W) -> (N, out_nc, 2H, 2W).

    Transposed convolutions are the published ones. Where kernel and stride do not divide evenly they visit some pixels
    more often than others, which shows as a checkerboard; the resize variant treats all pixels alike.
    """
    if upsample == "resize":
        return nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.ReflectionPad2d(1),
            nn.Conv2d(in_nc, out_nc, kernel_size=3, bias=bias),
        )
    return nn.ConvTranspose2d(in_nc, out_nc, kernel, stride=2, padding=1, output_padding=kernel % 2, bias=bias)


# ---- ResNet ---------------------------------------------------------------------------------------------------------

class ResnetGenerator(nn.Module):
    """Two halvings, `n_blocks` residual blocks at a quarter of the size, two doublings.

    (N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1], with H and W multiples of 4.
    """

    def __init__(self, input_nc: int, output_nc: int, ngf: int = 64, norm_layer: NormLayer = nn.BatchNorm2d,
                 use_dropout: bool = False, n_blocks: int = 6, padding_type: str = "reflect", *,
                 upsample: str = "transposed") -> None:
        super().__init__()
        bias = needs_bias(norm_layer)
        layers = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(input_nc, ngf, kernel_size=7, bias=bias),
            norm_layer(ngf),
            nn.ReLU(True),
        ]  # (N, ngf, H, W)
        for width in (ngf, 2 * ngf):
            layers += [
                nn.Conv2d(width, 2 * width, kernel_size=3, stride=2, padding=1, bias=bias),
                norm_layer(2 * width),
                nn.ReLU(True),
            ]
        # (N, 4 ngf, H/4, W/4)
        layers += [ResnetBlock(4 * ngf, padding_type, norm_layer, use_dropout, bias) for _ in range(n_blocks)]
        for width in (4 * ngf, 2 * ngf):
            layers += [_enlarge(width, width // 2, 3, bias, upsample), norm_layer(width // 2), nn.ReLU(True)]
        # (N, ngf, H, W)
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, output_nc, kernel_size=7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)


class ResnetBlock(nn.Module):
    """x + two 3x3 convolutions of x; nothing is rectified after the sum. (N, dim, H, W) -> (N, dim, H, W)."""

    def __init__(self, dim: int, padding_type: str, norm_layer: NormLayer, use_dropout: bool, use_bias: bool) -> None:
        super().__init__()
        dropout = [nn.Dropout(0.5)] if use_dropout else []
        self.conv_block = nn.Sequential(
            *_padded_conv(dim, padding_type, use_bias), norm_layer(dim), nn.ReLU(True), *dropout,
            *_padded_conv(dim, padding_type, use_bias), norm_layer(dim),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv_block(x)


def _padded_conv(dim: int, padding_type: str, bias: bool) -> list[nn.Module]:
    """A 3x3 convolution that keeps the size; zeros are padded by the convolution itself, the rest by a layer before."""
    if padding_type == "zero":
        return [nn.Conv2d(dim, dim, kernel_size=3, padding=1, bias=bias)]
    pads = {"reflect": nn.ReflectionPad2d, "replicate": nn.ReplicationPad2d}
    if padding_type not in pads:
        raise UserError(f"padding type {padding_type} is not known: use reflect, replicate or zero")
    return [pads[padding_type](1), nn.Conv2d(dim, dim, kernel_size=3, bias=bias)]


# ---- U-Net ----------------------------------------------------------------------------------------------------------

class UnetGenerator(nn.Module):
    """Nested skip blocks, built from the innermost outwards.

    (N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1], with H and W multiples of 2 ** num_downs.
    """

    def __init__(self, input_nc: int, output_nc: int, num_downs: int, ngf: int = 64,
                 norm_layer: NormLayer = nn.BatchNorm2d, use_dropout: bool = False, *,
                 upsample: str = "transposed") -> None:
        super().__init__()
        shared: dict[str, Any] = {"norm_layer": norm_layer, "upsample": upsample}
        block = UnetSkipConnectionBlock(8 * ngf, 8 * ngf, innermost=True, **shared)
        for _ in range(num_downs - 5):
            block = UnetSkipConnectionBlock(8 * ngf, 8 * ngf, submodule=block, use_dropout=use_dropout, **shared)
        for width in (4 * ngf, 2 * ngf, ngf):
            block = UnetSkipConnectionBlock(width, 2 * width, submodule=block, **shared)
        self.model = UnetSkipConnectionBlock(
            output_nc, ngf, input_nc=input_nc, submodule=block, outermost=True, **shared)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)


class UnetSkipConnectionBlock(nn.Module):
    """Halve, run the inner block, double, and lay the block's own input beside the result.

    (N, input_nc, H, W) -> (N, input_nc + outer_nc, H, W); the outermost block gives (N, outer_nc, H, W) alone.
    """

    def __init__(self, outer_nc: int, inner_nc: int, input_nc: int | None = None, submodule: nn.Module | None = None,
                 outermost: bool = False, innermost: bool = False, norm_layer: NormLayer = nn.BatchNorm2d,
                 use_dropout: bool = False, *, upsample: str = "transposed") -> None:
        super().__init__()
        self.outermost = outermost
        bias = needs_bias(norm_layer)
        in_nc = outer_nc if input_nc is None else input_nc
        shrink = nn.Conv2d(in_nc, inner_nc, kernel_size=4, stride=2, padding=1, bias=bias)
        # The inner block hands back its input and its result side by side, hence twice the channels.
        grow_nc = inner_nc if innermost else 2 * inner_nc
        grow = _enlarge(grow_nc, outer_nc, 4, bias or outermost, upsample)
        if outermost:
            layers = [shrink, submodule, nn.ReLU(True), grow, nn.Tanh()]
        elif innermost:
            # No norm after the halving: one pixel is left there, and an instance norm would make it zero.
            layers = [nn.LeakyReLU(0.2, True), shrink, nn.ReLU(True), grow, norm_layer(outer_nc)]
        else:
            layers = [nn.LeakyReLU(0.2, True), shrink, norm_layer(inner_nc), submodule, nn.ReLU(True), grow,
                      norm_layer(outer_nc)]
            if use_dropout:
                layers.append(nn.Dropout(0.5))
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.outermost:
            return self.model(x)
        # The first layer rectifies x in place, so x is already leaky here. The next layer outside is a ReLU, for which
        # that makes no difference.
        return torch.cat([x, self.model(x)], 1)
