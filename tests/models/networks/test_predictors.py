import logging
import urllib.error

import pytest
import torch
import torchvision
from torchvision.models.resnet import BasicBlock, ResNet

from duiit.models import networks
from duiit.util.errors import UserError

torch.set_num_threads(1)


def images(channels, size=40, n=2):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.fixture(scope="module")
def published():
    """A network with torchvision's names, with running statistics that are not the fresh ones."""
    torch.manual_seed(1)
    net = ResNet(BasicBlock, [1, 1, 1, 1])
    with torch.no_grad():
        net.train()(torch.randn(4, 3, 64, 64))
    return net.eval()


@pytest.fixture
def weights_file(published, tmp_path):
    torch.save(published.state_dict(), tmp_path / "published.pth")
    return tmp_path / "published.pth"


# ---- answers --------------------------------------------------------------------------------------------------------

def test_regression_answers_in_label_units():
    net = networks.define_P("resnet10", 1, label_mean=60.0, label_std=8.0).eval()
    x = images(1)
    scores = net.head(net.features(x)).squeeze(1)
    assert net(x).shape == (2,)
    torch.testing.assert_close(net(x), 60 + 8 * scores)


def test_classification_answers_with_a_logit_a_class():
    assert networks.define_P("resnet10", 2, "classification", 3).eval()(images(2)).shape == (2, 3)


@pytest.mark.parametrize("netP", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_the_body_is_torchvisions(netP):
    with torch.device("meta"):
        theirs = getattr(torchvision.models, netP)().state_dict()
        ours = networks.PredictorNet(netP, 3).backbone.state_dict()
    shapes = {key: value.shape for key, value in theirs.items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in ours.items()} == shapes


def test_the_small_one_sees_what_the_others_first_layers_take_away():
    """Of a 32-pixel image ResNet's first layers leave 8 pixels, and of those its last one: a pattern of single pixels
    that differs from place to place is then all but gone. Here a quarter of the side is left at the end."""
    sizes = {}
    for name in ("resnet10_small", "resnet10"):
        net = networks.define_P(name, 1)
        net.backbone.layer1.register_forward_hook(lambda _, __, out, n=name: sizes.setdefault(n, []).append(out.shape))
        net.backbone.layer4.register_forward_hook(lambda _, __, out, n=name: sizes.setdefault(n, []).append(out.shape))
        net(images(1, 32))
        assert net.features(images(1, 32)).shape == (2, net.feature_nc)
    assert [s[-1] for s in sizes["resnet10_small"][:2]] == [32, 4]
    assert [s[-1] for s in sizes["resnet10"][:2]] == [8, 1]
    assert sum(p.numel() for p in networks.define_P("resnet10_small", 1).parameters()) < 0.4e6


def test_label_units_travel_in_the_state_dict():
    trained = networks.define_P("resnet10", 1, label_mean=60.0, label_std=8.0).eval()
    fresh = networks.define_P("resnet10", 1).eval()
    fresh.load_state_dict(trained.state_dict())
    assert (fresh.label_mean.item(), fresh.label_std.item()) == (60.0, 8.0)
    assert torch.equal(fresh(images(1)), trained(images(1)))


@pytest.mark.parametrize("std", [0.0, float("nan")])
def test_labels_that_are_all_alike_get_a_unit_of_one(std, caplog):
    net = networks.define_P("resnet10", 1)
    with caplog.at_level(logging.WARNING):
        net.set_label_stats(60.0, std)
    assert net.label_std == 1
    assert "do not differ" in caplog.text


def test_labels_without_a_mean_are_refused():
    with pytest.raises(UserError, match="no mean"):
        networks.define_P("resnet10", 1, label_mean=float("nan"))


@pytest.mark.parametrize(("arguments", "message"), [
    (("resnet7", 1), "--netP resnet7.*resnet101"),
    (("resnet10", 1, "ranking"), "--task ranking"),
    (("resnet10", 1, "classification"), "two classes"),
    (("resnet10", 1, "classification", 1), "two classes"),
])
def test_impossible_predictors_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        networks.define_P(*arguments)


# ---- pretrained weights ---------------------------------------------------------------------------------------------

def test_three_channels_see_imagenets_units(published, weights_file):
    net = networks.define_P("resnet10", 3, "classification", 1000, weights=weights_file).eval()
    x = images(3)
    normalise = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(net(x), published(normalise((x + 1) / 2)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_equal_channels_get_the_response_of_the_published_network_to_a_grey_image(weights_file, channels):
    net = networks.define_P("resnet10", channels, weights=weights_file).eval()
    coloured = networks.define_P("resnet10", 3, weights=weights_file).eval()
    # Grey has one unit, not one a colour: compare with both networks in it.
    coloured.image_mean.fill_(net.image_mean.mean())
    coloured.image_std.fill_(net.image_std.mean())
    grey = images(1)
    torch.testing.assert_close(
        net.features(grey.repeat(1, channels, 1, 1)), coloured.features(grey.repeat(1, 3, 1, 1)), atol=1e-4, rtol=1e-4)
    assert net.image_mean.mean().item() == pytest.approx(2 * 0.449 - 1, abs=1e-3)
    assert net.image_std.mean().item() == pytest.approx(2 * 0.226, abs=1e-3)


def test_a_head_of_another_size_is_left_out_and_said(weights_file, caplog):
    with caplog.at_level(logging.WARNING):
        net = networks.define_P("resnet10", 3, weights=weights_file)
    assert net.head.out_features == 1
    assert str(weights_file) in caplog.text


def test_another_predictors_file_gives_body_head_and_image_units_but_not_its_labels(weights_file, tmp_path):
    first = networks.define_P("resnet10", 1, label_mean=60.0, label_std=8.0, weights=weights_file).eval()
    torch.save({f"module.{key}": value for key, value in first.state_dict().items()}, tmp_path / "P.pth")
    second = networks.define_P("resnet10", 1, label_mean=30.0, label_std=4.0, weights=tmp_path / "P.pth").eval()
    x = images(1)
    torch.testing.assert_close((second(x) - 30) / 4, (first(x) - 60) / 8)


def test_files_from_before_the_batch_counters_load(published, tmp_path):
    state = {key: value for key, value in published.state_dict().items() if "num_batches_tracked" not in key}
    torch.save({"state_dict": state}, tmp_path / "old.pth")
    net = networks.define_P("resnet10", 3, weights=str(tmp_path / "old.pth"))
    assert torch.equal(net.backbone.bn1.running_mean, published.bn1.running_mean)


def test_weights_of_another_architecture_are_refused_with_file_and_keys(weights_file):
    with pytest.raises(UserError, match=r"published\.pth does not fit --netP resnet18.*layer1\.1\.conv1\.weight"):
        networks.define_P("resnet18", 3, weights=weights_file)


def test_files_that_hold_no_weights_are_refused(tmp_path):
    with pytest.raises(UserError, match="absent.pth"):
        networks.define_P("resnet10", 3, weights=tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(UserError, match=r"text\.pth"):
        networks.define_P("resnet10", 3, weights=tmp_path / "text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"list\.pth hold no state dict"):
        networks.define_P("resnet10", 3, weights=tmp_path / "list.pth")


def test_no_network_means_a_hint_at_a_local_file(monkeypatch):
    def unreachable(*_args, **_options):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(UserError, match=r"resnet18-\w+\.pth elsewhere and give the file"):
        networks.define_P("resnet18", 1, weights="imagenet")
    with pytest.raises(UserError, match="no ImageNet weights for --netP resnet10"):
        networks.define_P("resnet10", 1, weights="imagenet")


def test_imagenet_weights_are_fitted_to_the_channels_quietly(monkeypatch, caplog):
    torch.manual_seed(2)
    theirs = torchvision.models.resnet18()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: theirs.state_dict())
    with caplog.at_level(logging.INFO):
        net = networks.define_P("resnet18", 1, weights="imagenet")
    torch.testing.assert_close(net.backbone.conv1.weight, theirs.conv1.weight.sum(1, keepdim=True))
    assert torch.equal(net.backbone.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)
    assert not caplog.records
