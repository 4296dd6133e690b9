import pytest
import torch
from torch import nn

from duiit.models import networks
from duiit.util.errors import UserError

torch.set_num_threads(1)


def generator(seed, **options):
    torch.manual_seed(seed)
    return networks.define_G(1, 1, 4, "resnet_3blocks", **options).state_dict()


@pytest.mark.parametrize("init_type", networks.INIT_TYPES)
def test_the_seed_decides_the_weights(init_type):
    one, same, other = (generator(seed, init_type=init_type) for seed in (1, 1, 2))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["model.1.weight"], other["model.1.weight"])


def test_normal_has_the_wanted_spread_and_no_bias():
    torch.manual_seed(0)
    layer = networks.init_net(nn.Sequential(nn.Conv2d(32, 32, 5)), "normal", 0.05)[0]
    assert layer.weight.std().item() == pytest.approx(0.05, rel=0.05)
    assert layer.weight.mean().item() == pytest.approx(0.0, abs=0.002)
    assert not layer.bias.any()


def test_the_other_schemes_follow_their_fans():
    torch.manual_seed(0)
    layer = nn.Linear(200, 600)
    networks.init_weights(layer, "xavier", 0.5)
    assert layer.weight.std().item() == pytest.approx(0.5 * (2 / 800) ** 0.5, rel=0.05)
    networks.init_weights(layer, "kaiming")
    assert layer.weight.std().item() == pytest.approx((2 / 200) ** 0.5, rel=0.05)
    networks.init_weights(layer, "orthogonal", 3.0)
    torch.testing.assert_close(layer.weight.T @ layer.weight, 9 * torch.eye(200), atol=1e-4, rtol=0)


def test_batch_norm_scales_are_drawn_around_one():
    norm = networks.init_net(nn.BatchNorm2d(5000))
    assert norm.weight.mean().item() == pytest.approx(1.0, abs=0.002)
    assert norm.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_a_marked_network_is_left_alone_wherever_it_stands():
    model = nn.ModuleDict({"P": networks.PredictorNet("resnet10", 1), "G": nn.Conv2d(1, 1, 3)})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    networks.init_net(model)
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if key.startswith("P."))
    assert not torch.equal(before["G.weight"], after["G.weight"])


def test_an_unknown_scheme_is_refused():
    with pytest.raises(UserError, match="--init_type uniform.*orthogonal"):
        networks.init_weights(nn.Linear(1, 1), "uniform")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to use here")
def test_asking_for_a_gpu_where_there_is_none_is_refused():
    with pytest.raises(UserError, match="--gpu_ids 0"):
        networks.init_net(nn.Linear(1, 1), gpu_ids=[0])
