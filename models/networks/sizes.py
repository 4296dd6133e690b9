"""Which image sizes the networks can take, said before training instead of by a shape error in the middle of it."""
from duiit.models.networks.discriminators import discriminator_depth
from duiit.models.networks.generators import resnet_blocks, unet_downs
from duiit.util.errors import UserError


def size_multiple(netG: str) -> int:
    """The number that height and width must be multiples of, for that generator's output to have its input's size."""
    return 4 if resnet_blocks(netG) is not None else 2 ** unet_downs(netG)


def check_size(netG: str, height: int, width: int) -> None:
    """UserError, naming the nearest size that works, if generator `netG` cannot take images of height x width.

    A ResNet needs 8 pixels at least: its blocks work at a quarter of the size, where reflection padding and instance
    norm need two.
    """
    step = size_multiple(netG)
    smallest = max(8, step)
    near_h, near_w = (_nearest(side, step, smallest) for side in (height, width))
    if (near_h, near_w) == (height, width):
        return
    crop = f"--crop_size {near_h}" if near_h == near_w else f"images of {near_h}x{near_w}"
    another = "" if step == 4 else ", or a generator such as --netG resnet_9blocks, which takes any multiple of 4"
    raise UserError(f"--netG {netG} takes images whose height and width are multiples of {step} (from {smallest}), "
                    f"not {height}x{width}: use {crop} (the nearest that works){another}")


def _nearest(side: int, step: int, smallest: int) -> int:
    """The multiple of `step` closest to `side`, the smaller one when two are."""
    return max(smallest, (side + (step - 1) // 2) // step * step)


def check_discriminator_size(netD: str, n_layers_D: int, height: int, width: int) -> None:
    """UserError if images of height x width are too small for discriminator `netD` to give a single score.

    Each halving rounds down and the two last convolutions take a pixel each, so a PatchGAN of n layers needs three
    pixels after n halvings: 3 * 2**n, which is 24 for `basic`.
    """
    if netD == "pixel":
        smallest = 2  # one pixel alone has no spread for an instance norm
    else:
        smallest = 3 * 2 ** discriminator_depth(netD, n_layers_D)
    if min(height, width) >= smallest:
        return
    shallower = " or a shallower discriminator (--netD n_layers --n_layers_D 1 takes 6 pixels)" if smallest > 6 else ""
    depth = f" --n_layers_D {n_layers_D}" if netD == "n_layers" else ""
    raise UserError(f"--netD {netD}{depth} needs images of {smallest}x{smallest} pixels or more, not {height}x{width}: "
                    f"use --crop_size {smallest} or larger{shallower}")
