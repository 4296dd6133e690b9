import pytest
import torch
from torch import nn

from duiit.models import networks
from duiit.util.errors import UserError

torch.set_num_threads(1)


def test_patchgan_has_the_published_size_and_keys():
    net = networks.define_D(3, 64, "basic", norm="instance")
    assert sum(parameter.numel() for parameter in net.parameters()) == 2_764_737
    assert list(net.state_dict()) == [f"model.{i}.{part}" for i in (0, 2, 5, 8, 11) for part in ("weight", "bias")]


def test_patchgan_under_batch_norm_keeps_the_bias_of_its_first_and_last_layer():
    state = networks.define_D(1, 2, "n_layers", 2).state_dict()
    convolutions = [key.removesuffix(".weight") for key, value in state.items() if value.ndim == 4]
    assert convolutions == ["model.0", "model.2", "model.5", "model.8"]
    assert [key for key in convolutions if f"{key}.bias" in state] == ["model.0", "model.8"]


def test_patchgan_computes_what_the_published_layers_compute():
    by_hand = nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(4, 8, 4, 2, 1), nn.InstanceNorm2d(8), nn.LeakyReLU(0.2),
        nn.Conv2d(8, 16, 4, 2, 1), nn.InstanceNorm2d(16), nn.LeakyReLU(0.2),
        nn.Conv2d(16, 32, 4, 1, 1), nn.InstanceNorm2d(32), nn.LeakyReLU(0.2),
        nn.Conv2d(32, 1, 4, 1, 1))
    net = networks.define_D(1, 4, "basic", norm="instance", init_gain=0.2)
    by_hand.load_state_dict(dict(zip(by_hand.state_dict(), net.state_dict().values(), strict=True)))
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(net(x), by_hand(x))


def test_a_score_of_the_basic_discriminator_sees_70_by_70_pixels():
    net = networks.NLayerDiscriminator(1, 2, 3, networks.get_norm_layer("none"))
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.1)
    x = torch.zeros(1, 1, 128, 128, requires_grad=True)
    net(x)[0, 0, 7, 7].backward()
    rows = x.grad[0, 0].abs().sum(1).nonzero()
    assert rows.max() - rows.min() + 1 == 70


def test_channels_stop_growing_at_eight_times_ndf():
    net = networks.define_D(1, 2, "n_layers", 5)
    widths = [module.out_channels for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert widths == [2, 4, 8, 16, 16, 16, 1]


def test_pixel_discriminator_judges_each_pixel_alone():
    net = networks.PixelDiscriminator(1, 3, networks.get_norm_layer("none"))
    x = torch.rand(1, 1, 5, 7)
    torch.testing.assert_close(net(x)[..., 2, 3], net(x[..., 2:3, 3:4])[..., 0, 0])
    assert list(networks.define_D(1, 3, "pixel", norm="instance").state_dict()) == [
        f"net.{i}.{part}" for i in (0, 2, 5) for part in ("weight", "bias")]
    assert "net.5.bias" not in networks.define_D(1, 3, "pixel", norm="batch").state_dict()


def test_unknown_critics_are_refused():
    with pytest.raises(UserError, match="--netD huge.*basic, n_layers, pixel"):
        networks.define_D(1, 4, "huge")
    with pytest.raises(UserError, match="--n_layers_D 0"):
        networks.define_D(1, 4, "n_layers", 0)
