from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from duiit.data.base_dataset import get_params, get_transform
from duiit.data.preparing import transforms


def opt(**values):
    defaults = {"preprocess": "resize_and_crop", "load_size": 12, "crop_size": 8, "no_flip": False}
    return SimpleNamespace(**{**defaults, **values})


def numbered(height, width, channels=1):
    return np.arange(channels * height * width, dtype=np.float32).reshape(channels, height, width) / 1000


@pytest.mark.parametrize("size, to", [((5, 7), (8, 8)), ((8, 8), (8, 8)), ((3, 8), (8, 12)), ((9, 7), (8, 8))])
def test_padding_and_its_inverse(size, to):
    image = numbered(*size, channels=2)
    padded = transforms.pad_to(image, *to)
    assert padded.shape == (2, max(size[0], to[0]), max(size[1], to[1]))
    np.testing.assert_array_equal(transforms.crop_back(padded, *size), image)
    assert (padded == transforms.BACKGROUND).sum() == padded.size - image.size


def test_crop_and_flip_by_hand():
    image = numbered(10, 12)
    plain = transforms.apply(image, (1, 3, False), opt())
    np.testing.assert_array_equal(plain, image[:, 1:9, 3:11])
    flipped = transforms.apply(image, (1, 3, True), opt())
    np.testing.assert_array_equal(flipped, plain[..., ::-1])


def test_small_images_are_padded_to_the_crop():
    assert transforms.apply(numbered(5, 20), (0, 2, False), opt()).shape == (1, 8, 8)


def test_without_a_crop_sizes_become_multiples_of_four():
    image = numbered(9, 12)
    whole = transforms.apply(image, (0, 0, False), opt(preprocess="none"))
    assert whole.shape == (1, 12, 12)
    np.testing.assert_array_equal(transforms.crop_back(whole, 9, 12), image)


def test_draws_stay_inside_and_cover_all():
    rng = np.random.default_rng(0)
    drawn = {transforms.draw((1, 10, 9), opt(), rng) for _ in range(500)}
    assert drawn == {(top, left, flip) for top in range(3) for left in range(2) for flip in (True, False)}
    assert {d[2] for d in (transforms.draw((1, 10, 9), opt(no_flip=True), rng) for _ in range(50))} == {False}
    assert {transforms.draw((1, 10, 9), opt(preprocess="none"), rng)[:2] for _ in range(20)} == {(0, 0)}


@pytest.mark.parametrize("preprocess, size, expected", [
    ("resize_and_crop", (30, 20), (12, 12)), ("crop", (30, 20), (30, 20)), ("none", (30, 20), (30, 20)),
    ("scale_width", (30, 20), (18, 12)), ("scale_width_and_crop", (6, 20), (8, 12))])
def test_loading_size(preprocess, size, expected):
    assert transforms.loading_size(*size, opt(preprocess=preprocess)) == expected


def test_resizing_averages_and_stays_in_range():
    checker = np.indices((8, 8)).sum(0)[None] % 2 * 2.0 - 1
    small = transforms.resize(checker.astype(np.float32), 4, 4)
    np.testing.assert_allclose(small[:, 1:-1, 1:-1], 0, atol=1e-6)       # anti-aliased, not picked
    large = transforms.resize(checker.astype(np.float32), 13, 17)
    assert large.shape == (1, 13, 17) and abs(large).max() <= 1


def test_channels():
    grey, colour = numbered(2, 2)[0], numbered(2, 2, channels=3)
    np.testing.assert_array_equal(transforms.to_channels(grey, 3), np.stack([grey] * 3))
    np.testing.assert_allclose(transforms.to_channels(colour, 1)[0], colour.mean(0))
    assert transforms.to_channels(colour, 3) is colour


# ---- what data sets written for the toolkit use ---------------------------------------------------------------------

def test_toolkit_transform_with_given_parameters():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12), np.uint8)
    transform = get_transform(opt(), {"crop_pos": (3, 1), "flip": True}, grayscale=True)
    found = transform(Image.fromarray(pixels))
    assert found.shape == (1, 8, 8)
    expected = pixels[1:9, 3:11][:, ::-1] / 127.5 - 1
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-5)


def test_toolkit_transform_of_colours_draws_by_itself():
    image = Image.fromarray(np.zeros((30, 20, 3), np.uint8))
    found = get_transform(opt())(image)
    assert found.shape == (3, 8, 8) and torch.all(found == -1)
    assert get_transform(opt(preprocess="none"), convert=False)(image).size == (20, 32)
    params = get_params(opt(), (20, 30))
    assert 0 <= params["crop_pos"][0] <= 4 and 0 <= params["crop_pos"][1] <= 4 and params["flip"] in (True, False)


def test_blending_damps_jumps_between_slices_and_keeps_what_is_constant():
    flat = [np.full((1, 4, 4), 0.25, np.float32)] * 5
    np.testing.assert_allclose(transforms.blend_neighbours(flat, 2), flat, atol=1e-7)
    jumpy = [np.full((1, 4, 4), float(n % 2), np.float32) for n in range(6)]
    blended = transforms.blend_neighbours(jumpy, 1)
    np.testing.assert_allclose([b[0, 0, 0] for b in blended], [1 / 3, 0.5, 0.5, 0.5, 0.5, 2 / 3], atol=1e-6)
    assert transforms.blend_neighbours(jumpy, 0) is jumpy
