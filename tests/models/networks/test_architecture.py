"""What options a network was made with, read off its weights."""
import pytest

from duiit.models import networks
from duiit.models.networks import architecture


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("upsample", ["transposed", "resize"])
@pytest.mark.parametrize("dropout", [False, True])
def test_resnet_generators(norm, upsample, dropout):
    state = networks.define_G(3, 2, 5, "resnet_2blocks", norm, dropout, upsample=upsample).state_dict()
    assert architecture.of_generator(state) == {
        "netG": "resnet_2blocks", "ngf": 5, "input_nc": 3, "output_nc": 2, "norm": norm, "upsample": upsample,
        "no_dropout": not dropout}


@pytest.mark.parametrize(("netG", "norm", "upsample"), [
    ("unet_128", "instance", "transposed"), ("unet_256", "batch", "transposed"), ("unet_128", "none", "resize")])
def test_unet_generators(netG, norm, upsample):
    state = networks.define_G(2, 3, 4, netG, norm, upsample=upsample).state_dict()
    assert architecture.of_generator(state) == {
        "netG": netG, "ngf": 4, "input_nc": 2, "output_nc": 3, "norm": norm, "upsample": upsample}


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize(("netD", "layers"), [("basic", 3), ("n_layers", 1), ("n_layers", 4), ("pixel", 3)])
def test_discriminators(netD, layers, norm):
    found = architecture.of_discriminator(networks.define_D(2, 6, netD, layers, norm).state_dict())
    wanted = {"netD": netD, "ndf": 6, "channels": 2, "norm": norm}
    assert found == (wanted if netD == "pixel" else {**wanted, "n_layers_D": layers})


@pytest.mark.slow
@pytest.mark.parametrize("netP", networks.PREDICTORS)
def test_predictors(netP):
    net = networks.define_P(netP, 1, "classification", 3)
    wanted = {"netP": netP, "task": "classification", "channels": 1, "outputs": 3}
    assert architecture.of_predictor(net.state_dict()) == wanted
    names = {key.removeprefix("backbone.").replace("head.", "fc."): v for key, v in net.state_dict().items()}
    assert architecture.of_predictor(names) == wanted, "torchvision's names"


def test_others_are_not_taken_for_one():
    G = networks.define_G(1, 1, 4, "resnet_1blocks").state_dict()
    D = networks.define_D(1, 4, "basic").state_dict()
    assert architecture.of_generator(D) == architecture.of_generator({}) == {}
    assert architecture.of_discriminator(G) == architecture.of_predictor(G) == architecture.of_predictor(D) == {}
