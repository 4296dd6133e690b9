"""Discriminators: PatchGAN and its 1x1 variant. They answer with a map of scores, one a patch, without a sigmoid."""
from collections.abc import Sequence

import torch
from torch import nn

from duiit.models.networks.init import init_net
from duiit.models.networks.norm import NormLayer, get_norm_layer, needs_bias
from duiit.util.errors import UserError

DISCRIMINATORS = ("basic", "n_layers", "pixel")


def define_D(input_nc: int, ndf: int, netD: str, n_layers_D: int = 3, norm: str = "batch", init_type: str = "normal",
             init_gain: float = 0.02, gpu_ids: Sequence[int] = ()) -> nn.Module:
    """An initialised discriminator: (N, input_nc, H, W) -> (N, 1, h, w).

    `basic` is the 70x70 PatchGAN (three layers, whatever n_layers_D says), `n_layers` takes the depth from n_layers_D,
    `pixel` looks at each pixel alone.
    """
    norm_layer = get_norm_layer(norm)
    if netD == "pixel":
        net = PixelDiscriminator(input_nc, ndf, norm_layer)
    else:
        net = NLayerDiscriminator(input_nc, ndf, discriminator_depth(netD, n_layers_D), norm_layer)
    return init_net(net, init_type, init_gain, gpu_ids)


def discriminator_depth(netD: str, n_layers_D: int) -> int:
    """The number of layers of a PatchGAN of that name."""
    if netD not in ("basic", "n_layers"):
        raise UserError(f"--netD {netD} is not known: use one of {', '.join(DISCRIMINATORS)}")
    if netD == "n_layers" and n_layers_D < 1:
        raise UserError(f"--n_layers_D {n_layers_D} is too few: use 1 or more, or --netD pixel")
    return 3 if netD == "basic" else n_layers_D


class NLayerDiscriminator(nn.Module):
    """PatchGAN: `n_layers` halvings, then two 4x4 convolutions at that size. Three layers see patches of 70x70."""

    def __init__(self, input_nc: int, ndf: int = 64, n_layers: int = 3, norm_layer: NormLayer = nn.BatchNorm2d) -> None:
        super().__init__()
        bias = needs_bias(norm_layer)
        layers = [nn.Conv2d(input_nc, ndf, kernel_size=4, stride=2, padding=1), nn.LeakyReLU(0.2, True)]
        width = ndf
        for n in range(1, n_layers + 1):
            wider = ndf * min(2 ** n, 8)
            stride = 1 if n == n_layers else 2
            layers += [
                nn.Conv2d(width, wider, kernel_size=4, stride=stride, padding=1, bias=bias),
                norm_layer(wider),
                nn.LeakyReLU(0.2, True),
            ]
            width = wider
        layers.append(nn.Conv2d(width, 1, kernel_size=4, padding=1))
        self.model = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)  # (N, 1, H / 2**n_layers - 2, W / 2**n_layers - 2)


class PixelDiscriminator(nn.Module):
    """Three 1x1 convolutions: judges intensities, not shapes. (N, input_nc, H, W) -> (N, 1, H, W)."""

    def __init__(self, input_nc: int, ndf: int = 64, norm_layer: NormLayer = nn.BatchNorm2d) -> None:
        super().__init__()
        bias = needs_bias(norm_layer)
        self.net = nn.Sequential(
            nn.Conv2d(input_nc, ndf, kernel_size=1),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(ndf, 2 * ndf, kernel_size=1, bias=bias),
            norm_layer(2 * ndf),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(2 * ndf, 1, kernel_size=1, bias=bias),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images)
