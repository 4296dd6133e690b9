import pytest
import torch

from duiit.models import networks
from duiit.util.errors import UserError

torch.set_num_threads(1)


@pytest.mark.parametrize(("netG", "height", "width"), [
    ("resnet_9blocks", 8, 8), ("resnet_3blocks", 12, 64), ("unet_128", 128, 256), ("unet_256", 256, 256),
])
def test_sizes_that_pass_come_out_as_they_went_in(netG, height, width):
    networks.check_size(netG, height, width)
    net = networks.define_G(1, 1, 1, netG, "instance")
    assert net(torch.rand(1, 1, height, width)).shape == (1, 1, height, width)


@pytest.mark.parametrize(("netG", "height", "width", "advice"), [
    ("resnet_9blocks", 65, 65, "--crop_size 64"),
    ("resnet_9blocks", 67, 67, "--crop_size 68"),
    ("resnet_6blocks", 4, 4, "--crop_size 8"),
    ("resnet_6blocks", 64, 63, "--crop_size 64"),
    ("unet_256", 286, 286, "--crop_size 256"),
    ("unet_256", 64, 64, "--crop_size 256"),
    ("unet_128", 200, 140, "images of 256x128"),
])
def test_sizes_that_do_not_fit_are_refused_with_the_nearest_that_does(netG, height, width, advice):
    with pytest.raises(UserError, match=f"--netG {netG}.*{height}x{width}.*{advice}"):
        networks.check_size(netG, height, width)


def test_a_size_below_the_smallest_would_indeed_fail():
    with pytest.raises((RuntimeError, ValueError)):
        networks.define_G(1, 1, 1, "resnet_3blocks", "instance")(torch.rand(1, 1, 4, 4))


@pytest.mark.parametrize(("netD", "n_layers_D", "smallest"), [
    ("basic", 5, 24), ("n_layers", 1, 6), ("n_layers", 2, 12), ("n_layers", 4, 48), ("pixel", 3, 2),
])
def test_the_smallest_size_a_discriminator_can_judge(netD, n_layers_D, smallest):
    net = networks.define_D(1, 1, netD, n_layers_D, norm="instance")
    networks.check_discriminator_size(netD, n_layers_D, smallest, smallest)
    scores = net(torch.rand(1, 1, smallest, smallest))
    assert scores.numel() >= 1
    with pytest.raises(UserError, match=f"--netD {netD}.*{smallest}x{smallest} pixels"):
        networks.check_discriminator_size(netD, n_layers_D, smallest - 1, 200)
    with pytest.raises((RuntimeError, ValueError)):
        net(torch.rand(1, 1, smallest - 1, smallest - 1))


def test_a_predictor_cannot_train_on_one_tiny_image():
    networks.check_predictor_size(33, 32, 1)
    networks.check_predictor_size(32, 32, 2)
    with pytest.raises(UserError, match="--batch_size 2"):
        networks.check_predictor_size(32, 32, 1)
    net = networks.define_P("resnet10", 1)
    net(torch.rand(1, 1, 33, 32))
    with pytest.raises(ValueError, match="more than 1 value"):
        net(torch.rand(1, 1, 32, 32))
