"""What augmentation may change and what it may not: shape, range, background, and what it follows from."""
import numpy as np
import pytest
import torch

from duiit.data import create_dataset
from duiit.data.labelled_dataset import LabelledDataset
from duiit.data.preparing import augmentation
from duiit.data.preparing.cohort import STEP
from duiit.util.errors import UserError

KINDS = sorted(augmentation.KINDS)


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
    return [augmentation.augment(image, kind, np.random.default_rng(n)) for n in range(count)]


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


def test_jitter_by_hand():
    # levels 0.25, 0.75 of 0..1 about their mean of 0.5; the background is left out of the mean and stays
    image = torch.tensor([-1.0, -1.0, -0.5, 0.5])
    assert augmentation.jitter(image, 1.0, 1.0).tolist() == image.tolist()
    torch.testing.assert_close(augmentation.jitter(image, 1.0, 1.2), torch.tensor([-1.0, -1.0, -0.6, 0.6]))
    torch.testing.assert_close(augmentation.jitter(image, 0.8, 1.0), torch.tensor([-1.0, -1.0, -0.6, 0.2]))
    torch.testing.assert_close(augmentation.jitter(image, 2.0, 1.0), torch.tensor([-1.0, -1.0, 0.0, 1.0]))


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
def test_it_follows_from_the_items_generator_alone(disc, kind):
    image = disc()
    first = [augmentation.augment(image, kind, np.random.default_rng(n)) for n in range(8)]
    torch.manual_seed(77)
    before = torch.get_rng_state()
    again = [augmentation.augment(image, kind, np.random.default_rng(n)) for n in range(8)]
    assert torch.equal(torch.get_rng_state(), before)           # nobody else's random numbers are shifted
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


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
