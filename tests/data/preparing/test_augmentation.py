"""What augmentation may change and what it may not: shape, range, background, and what it follows from."""
import math

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomAffine, RandomErasing
from torchvision.transforms.v2 import AutoAugment, InterpolationMode, functional

from duiit.data import create_dataset
from duiit.data.labelled_dataset import LabelledDataset
from duiit.data.preparing import augmentation, policy
from duiit.data.preparing.cohort import STEP
from duiit.util.errors import UserError

KINDS = sorted(set(augmentation.KINDS) - {"none"})


def augmented(image, kind, *generators):
    """What each generator makes of a stored image, int16, rounded as it is stored: int16 (N, C, H, W)."""
    choices = [augmentation.draw(kind, image.shape, rng) for rng in generators]
    batch = torch.from_numpy(np.stack([image] * len(choices)))
    return np.round(augmentation.augment(batch, kind, choices).numpy() * STEP).astype(np.int16)


@pytest.fixture
def disc():
    """A head of sorts, as stored: int16 (channels, 32, 32), bright noise in a disc, background around it."""
    def draw(channels=1, radius=9):
        inside = np.hypot(*np.mgrid[-15.5:16.5, -15.5:16.5]) < radius
        noise = np.random.default_rng(3).uniform(-0.5, 0.9, (32, 32))
        image = np.where(inside, noise, -1.0)[None].repeat(channels, 0)
        return np.round(image * STEP).astype(np.int16)
    return draw


def many(image, kind, count=60):
    return augmented(image, kind, *(np.random.default_rng(n) for n in range(count)))


# ---- images ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_keep_their_kind_and_range(disc, kind, channels):
    image = disc(channels)
    for other in many(image, kind):
        assert (other.shape, other.dtype) == (image.shape, np.int16)
        assert np.abs(other.astype(int)).max() <= STEP
    assert sum(not np.array_equal(image, other) for other in many(image, kind)) > 15


@pytest.mark.parametrize("kind", KINDS)
def test_grey_stays_grey(disc, kind):
    for other in many(disc(3), kind):
        assert np.array_equal(other[0], other[1])
        assert np.array_equal(other[0], other[2])


@pytest.mark.parametrize("kind", ["simple", "random_erasing"])
def test_background_stays_background(disc, kind):
    """Nothing appears where air was, except where the head itself was moved to, and what comes in is air."""
    image = disc()
    for other in many(image, kind):
        assert (other[0, [0, -1]] == -STEP).all() and (other[0, :, [0, -1]] == -STEP).all()
        assert (other == -STEP).sum() > 0.9 * (image == -STEP).sum()
        assert (other > -STEP).any()


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_image_stays_finite(kind):
    empty = np.full((1, 32, 32), -STEP, np.int16)
    others = many(empty, kind, 30)
    assert all(len(np.unique(other)) <= 2 for other in others)
    if kind != "autoaugment":                                   # whose policy inverts
        assert all(np.array_equal(other, empty) for other in others)


def test_a_full_image_is_filled_up_with_air(disc):
    full = np.full((1, 32, 32), STEP, np.int16)
    shown = [other for other in many(full, "simple") if (other == -STEP).any()]
    assert len(shown) > 50                                      # a corner is free after nearly every rotation or shift


def jittered(image, brightness, contrast):
    """Of one row of pixels in [-1, 1]."""
    levels = ((torch.tensor(image) + 1) * STEP).reshape(1, 1, 1, -1)
    return augmentation.jitter(levels, [(brightness, contrast)]).flatten()


def test_jitter_by_hand():
    # levels 0.25, 0.75 of 0..1 about their mean of 0.5; the background is left out of the mean and stays
    image = [-1.0, -1.0, -0.5, 0.5]
    for brightness, contrast, expected in ((1.0, 1.0, image), (1.0, 1.2, [-1.0, -1.0, -0.6, 0.6]),
                                           (0.8, 1.0, [-1.0, -1.0, -0.6, 0.2]), (2.0, 1.0, [-1.0, -1.0, 0.0, 1.0])):
        torch.testing.assert_close(jittered(image, brightness, contrast), torch.tensor(expected))


def test_shifts_by_hand():
    image = torch.rand(1, 2, 6, 8)
    shifted = augmentation.move(image, [(0.0, 3, -1)])          # to the right, and up
    torch.testing.assert_close(shifted[..., :5, 3:], image[..., 1:, :5], atol=1e-5, rtol=0)
    assert shifted[..., :3].abs().max() < 1e-5 and shifted[..., 5, :].abs().max() < 1e-5


def test_rotations_by_hand():
    images = torch.rand(3, 1, 8, 8)
    turned = augmentation.move(images, [(90.0, 0, 0), (180.0, 0, 0), (-90.0, 0, 0)])
    for image, times, expected in zip(images, (-1, 2, 1), turned, strict=True):         # rot90 turns the other way
        torch.testing.assert_close(image.rot90(times, (1, 2)), expected, atol=1e-5, rtol=0)


def test_movements_are_those_of_torchvision():
    """But for the very border of the image, where torchvision takes the fading twice."""
    image = torch.zeros(1, 1, 24, 40)
    image[..., 6:18, 8:32] = torch.rand(12, 24)
    for angle, right, down in ((7.3, 3, -2), (-9.1, 0, 1), (4.0, -3, 0)):
        expected = functional.affine(image, angle, [right, down], 1.0, [0.0, 0.0], InterpolationMode.BILINEAR, fill=0)
        torch.testing.assert_close(augmentation.move(image, [(angle, right, down)]), expected, atol=1e-4, rtol=0)


def test_the_policy_works_in_8_bits_of_the_whole_range():
    """Where the policy happens to leave an image as it is, only the rounding to 256 levels is left to see."""
    ramp = np.round(np.linspace(-1, 1, 1024).reshape(1, 32, 32) * STEP).astype(np.int16)
    error = min(np.abs(other.astype(int) - ramp).max() for other in many(ramp, "autoaugment", 200))
    assert error <= STEP / 255 + 1


def test_two_channels_are_refused_where_the_policy_has_none():
    augmentation.check("simple", 2)
    augmentation.check("autoaugment", 3)
    with pytest.raises(UserError, match="--augment autoaugment.*1 or 3 channels, not 2"):
        augmentation.check("autoaugment", 2)


# ---- what it follows from -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(16, 16), (75, 61)])
def test_an_image_is_augmented_alike_in_any_company(kind, size):
    """To the bit: batches of any size, made by any number of processes."""
    pixels = np.random.default_rng(1).integers(-STEP, STEP, (11, 1, *size), np.int16)
    torch.manual_seed(77)
    before = torch.get_rng_state()
    choices = [augmentation.draw(kind, (1, *size), np.random.default_rng(n)) for n in range(11)]
    stored = torch.from_numpy(pixels)
    whole = augmentation.augment(stored, kind, choices)
    for some in (slice(3, 4), slice(2, 9), slice(10, None, -3)):
        chosen = list(range(11))[some]
        alone = augmentation.augment(stored[chosen], kind, [choices[n] for n in chosen])
        assert torch.equal(alone, whole[chosen])
    assert torch.equal(torch.from_numpy(pixels), stored)        # what is stored stays
    assert torch.equal(torch.get_rng_state(), before)           # nobody else's random numbers are shifted


def distance(a, b):
    """Kolmogorov's and Smirnov's: the largest between the distributions of two samples."""
    a, b = np.sort(a), np.sort(b)
    both = np.concatenate([a, b])
    return np.abs(np.searchsorted(a, both, "right") / len(a) - np.searchsorted(b, both, "right") / len(b)).max()


def test_movements_and_rectangles_are_distributed_as_torchvisions():
    torch.manual_seed(0)
    rng, count, image = np.random.default_rng(0), 2000, torch.zeros(1, 60, 100)
    ours = [augmentation.draw("simple", image.shape, rng) for _ in range(count)]
    theirs = [RandomAffine.get_params([-10, 10], (0.1, 0.1), None, None, [100, 60]) for _ in range(count)]
    assert distance([o[0] for o in ours], [t[0] for t in theirs]) < 0.06       # 1.95 / sqrt(1000): once in 1000 times
    assert distance([o[1] for o in ours], [t[1][0] for t in theirs]) < 0.06
    assert distance([o[2] for o in ours], [t[1][1] for t in theirs]) < 0.06
    for place in (3, 4):
        assert distance([o[place] for o in ours], np.linspace(0.8, 1.2, 2001)) < 0.06
    ours = [augmentation.draw("random_erasing", image.shape, rng) for _ in range(2 * count)]
    share = sum(o is None for o in ours) / len(ours)
    assert abs(share - 0.5) < 0.03
    theirs = [RandomErasing.get_params(image, (0.02, 0.33), (0.3, 3.3), [0.0]) for _ in range(count)]
    for place in range(4):                                      # top, left, height, width
        assert distance([o[place] for o in ours if o], [t[place] for t in theirs]) < 0.06


def test_the_policy_does_what_torchvisions_does(disc):
    """Whatever torchvision makes of an image with its own choices, some of ours make of it, and the other way round."""
    image = torch.from_numpy(((disc()[:, 8:24, 8:24] / STEP + 1) * 127.5).round().astype(np.uint8))
    torch.manual_seed(0)
    theirs = AutoAugment(interpolation=InterpolationMode.BILINEAR, fill=0)
    theirs = torch.stack([theirs(image) for _ in range(1500)]).flatten(1).float()
    choices = [policy.draw(np.random.default_rng(n)) for n in range(1500)]
    ours = policy.apply(image.repeat(1500, 1, 1, 1), choices).flatten(1).float()
    assert distance(theirs.mean(1), ours.mean(1)) < 0.07        # as often, too
    theirs, ours = theirs.unique(dim=0), ours.unique(dim=0)
    apart = torch.cdist(theirs, ours, p=math.inf)
    # All but what either happened to draw never; a level apart is a rounding.
    assert (apart.amin(0) <= 1).float().mean() > 0.95 and (apart.amin(1) <= 1).float().mean() > 0.95
    assert len(ours) >= 25


def served(opt, epoch, skip=0):
    loader = create_dataset(opt)
    loader.set_epoch(epoch, skip)
    return torch.cat([batch["B"] for batch in loader])


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_is_the_same_again_also_from_its_middle(options, modalities, kind):
    opt = options(f"--model predictor --augment {kind}")
    whole = served(opt, 3)
    torch.rand(5)
    assert torch.equal(served(opt, 3), whole)
    assert torch.equal(served(opt, 3, skip=1), whole[2:])
    assert whole.min() >= -1 and whole.max() <= 1
    serial = options(f"--model predictor --serial_batches --augment {kind}")
    assert not torch.equal(served(serial, 3), served(serial, 4))


def test_unless_asked_for_images_are_windows_of_the_stored_ones(options, modalities):
    opt = options("--model predictor")
    dataset = LabelledDataset(opt)
    for index in range(len(dataset)):
        member, row = dataset.flat[index]
        stored = member.cohort.image(member.rows[row])
        windows = np.lib.stride_tricks.sliding_window_view(stored, (1, 16, 16)).reshape(-1, 1, 16, 16)
        seen = dataset[index]["B"].numpy()
        assert any(np.array_equal(seen, w) or np.array_equal(seen, w[..., ::-1]) for w in windows)


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_images_are_left_alone(options, modalities, kind):
    plain, augmented = (LabelledDataset(options(f"--model predictor {words}")) for words in ("", f"--augment {kind}"))
    for part in ("val", "test"):
        for a, b in zip(plain.held_out(part), augmented.held_out(part), strict=True):
            assert torch.equal(a["B"], b["B"])


def test_sources_are_augmented_as_well(options, modalities):
    plain, augmented = (next(iter(create_dataset(options(f"--model dann --sources mri --serial_batches {words}"))))
                        for words in ("", "--augment simple"))
    assert plain["A_paths"] == augmented["A_paths"]
    assert not torch.equal(plain["A"], augmented["A"])
    assert not torch.equal(plain["B"], augmented["B"])


@pytest.mark.parametrize("model", ["predictor", "multitask", "dann"])
def test_the_option_is_the_predictors(options, modalities, model):
    assert options(f"--model {model}").augment == "none"
    with pytest.raises(UserError, match="--augment.*autoaugment"):
        options(f"--model {model} --augment autoaugmnt")
