import pytest
import torch
from torch import nn

from duiit.models import networks
from duiit.util.errors import UserError

torch.set_num_threads(1)


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def weight_keys(net):
    return [key.removesuffix(".weight") for key in net.state_dict() if key.endswith(".weight")]


def images(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_resnet9_has_the_published_size_at_three_channels():
    assert count(networks.define_G(3, 3, 64, "resnet_9blocks", "instance")) == 11_378_179


@pytest.mark.parametrize(("netG", "last_block", "tail"), [
    ("resnet_9blocks", 18, (19, 22, 26)),
    ("resnet_6blocks", 15, (16, 19, 23)),
    ("resnet_3blocks", 12, (13, 16, 20)),
])
@pytest.mark.parametrize(("dropout", "inner"), [(False, (1, 5)), (True, (1, 6))])
def test_resnet_keys_are_the_public_toolkits(netG, last_block, tail, dropout, inner):
    net = networks.define_G(1, 1, 2, netG, "instance", dropout)
    blocks = [f"model.{i}.conv_block.{j}" for i in range(10, last_block + 1) for j in inner]
    assert weight_keys(net) == ["model.1", "model.4", "model.7", *blocks, *(f"model.{i}" for i in tail)]
    assert len(net.state_dict()) == 2 * len(weight_keys(net))  # a bias beside each weight, and nothing else


def test_batch_norm_takes_the_bias_of_every_convolution_but_the_last():
    state = networks.define_G(1, 1, 2, "resnet_3blocks", "batch").state_dict()
    convolutions = [key.removesuffix(".weight") for key, value in state.items() if value.ndim == 4]
    assert [key for key in convolutions if f"{key}.bias" in state] == ["model.20"]
    assert {"model.2.running_mean", "model.10.conv_block.2.weight", "model.10.conv_block.6.weight"} <= state.keys()


def test_resnet_computes_what_the_published_layers_compute():
    """The architecture of one block written out flat, with our weights put in by order."""
    ngf, size = 4, 12
    norm = nn.InstanceNorm2d
    block = nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(16, 16, 3), norm(16), nn.ReLU(), nn.ReflectionPad2d(1), nn.Conv2d(16, 16, 3),
        norm(16))
    before = nn.Sequential(
        nn.ReflectionPad2d(3), nn.Conv2d(2, ngf, 7), norm(ngf), nn.ReLU(),
        nn.Conv2d(ngf, 8, 3, stride=2, padding=1), norm(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), norm(16), nn.ReLU())
    after = nn.Sequential(
        nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1), norm(8), nn.ReLU(),
        nn.ConvTranspose2d(8, ngf, 3, stride=2, padding=1, output_padding=1), norm(ngf), nn.ReLU(),
        nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7), nn.Tanh())
    net = networks.define_G(2, 3, ngf, "resnet_1blocks", "instance", init_gain=0.2)
    by_hand = nn.ModuleList([before, block, after])
    by_hand.load_state_dict(dict(zip(by_hand.state_dict(), net.state_dict().values(), strict=True)))
    x = images(2, 2, size, size)
    middle = before(x)
    torch.testing.assert_close(net(x), after(middle + block(middle)))


def test_unet_computes_what_the_published_layers_compute():
    """The skip connections written out as plain functions of the named weights."""
    net = networks.define_G(1, 2, 2, "unet_128", "instance", init_gain=0.2)
    state = net.state_dict()

    def weights(prefix):
        return state[f"{prefix}.weight"], state[f"{prefix}.bias"]

    def run(prefix, x, depth):
        normed = nn.functional.instance_norm
        if depth == 0:
            inner = run(f"{prefix}.1.model", nn.functional.conv2d(x, *weights(f"{prefix}.0"), 2, 1), 1)
            return nn.functional.conv_transpose2d(inner.relu(), *weights(f"{prefix}.3"), 2, 1).tanh()
        down = nn.functional.conv2d(nn.functional.leaky_relu(x, 0.2), *weights(f"{prefix}.1"), 2, 1)
        innermost = depth == 6
        inner = down if innermost else run(f"{prefix}.3.model", normed(down), depth + 1)
        up = nn.functional.conv_transpose2d(inner.relu(), *weights(f"{prefix}.{3 if innermost else 5}"), 2, 1)
        return torch.cat([x, normed(up)], 1)

    x = images(1, 1, 128, 128)
    torch.testing.assert_close(net(x), run("model.model", x, 0))


@pytest.mark.parametrize(("netG", "downs", "parameters"), [
    ("unet_128", 7, 41_828_995), ("unet_256", 8, 54_413_955),
])
def test_unet_keys_nest_one_level_a_halving(netG, downs, parameters):
    with torch.device("meta"):
        norm = networks.get_norm_layer("batch")
        assert count(networks.UnetGenerator(3, 3, downs, 64, norm)) == parameters
    keys = networks.define_G(1, 1, 1, netG, "batch").state_dict().keys()
    innermost = "model.model.1" + ".model.3" * (downs - 2)
    assert {"model.model.0.weight", "model.model.3.weight", "model.model.3.bias", f"{innermost}.model.1.weight",
            f"{innermost}.model.4.running_var"} <= keys
    assert f"{innermost}.model.5.weight" not in keys  # the innermost block holds no other


def test_dropout_stands_in_the_middle_blocks_of_a_unet_only():
    net = networks.define_G(1, 1, 1, "unet_256", "batch", True)
    assert sum(isinstance(module, nn.Dropout) for module in net.modules()) == 8 - 5


@pytest.mark.parametrize(("netG", "size"), [("resnet_3blocks", 16), ("unet_128", 128)])
def test_resize_keeps_the_size_and_renames_the_enlarging_layers_only(netG, size):
    published = networks.define_G(1, 1, 2, netG, "instance")
    resize = networks.define_G(1, 1, 2, netG, "instance", upsample="resize")
    assert resize(images(1, 1, size, size)).shape == (1, 1, size, size)
    enlarging = {name for name, module in published.named_modules() if isinstance(module, nn.ConvTranspose2d)}
    renamed = [f"{key}.2" if key in enlarging else key for key in weight_keys(published)]
    assert weight_keys(resize) == renamed


def test_resize_leaves_no_checkerboard_on_an_even_input():
    """Enlarging a constant gives a constant inside; a transposed convolution gives different values at odd pixels."""
    torch.manual_seed(0)
    spreads = {}
    for upsample in ("resize", "transposed"):
        net = networks.define_G(1, 1, 4, "resnet_3blocks", "instance", upsample=upsample)
        spreads[upsample] = net.model[13](torch.ones(1, 16, 8, 8))[..., 2:-2, 2:-2].std(dim=(2, 3)).max().item()
    assert spreads["resize"] < 1e-6 < 1e-3 < spreads["transposed"]


@pytest.mark.parametrize("netG", ["resnet_0blocks", "resnet_blocks", "unet_64", "vit"])
def test_an_unknown_generator_is_refused_with_the_known_ones(netG):
    with pytest.raises(UserError, match="resnet_9blocks.*unet_128"):
        networks.define_G(1, 1, 4, netG)


def test_unknown_norm_and_upsampling_are_refused():
    with pytest.raises(UserError, match="--norm layer.*instance"):
        networks.define_G(1, 1, 4, "resnet_3blocks", "layer")
    with pytest.raises(UserError, match="transposed, resize"):
        networks.define_G(1, 1, 4, "resnet_3blocks", upsample="bilinear")


@pytest.mark.parametrize("norm", networks.NORMS)
def test_every_norm_trains_a_generator(norm):
    net = networks.define_G(1, 1, 2, "resnet_3blocks", norm)
    net(images(2, 1, 8, 8)).mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())
