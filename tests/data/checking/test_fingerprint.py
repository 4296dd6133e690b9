"""The fingerprint: scans like those it was made of pass, scans of another kind are told apart, with the reason."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from duiit.data.checking.fingerprint import facts_of, summarise, unlike
from duiit.data.preparing.intensity import ct_window
from duiit.data.readers.slice import DISPLAY, GREY, HU, Geometry, Slice

BRAIN = {HU: ct_window("brain")}


def head(seed, size=48, slices=4, spacing=(4.5, 4.5, 5.0)):
    """A CT of a round head: air, skull, brain with its noise; each of its own size and brightness."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) / size
    radius = np.hypot(y, x) / rng.uniform(0.36, 0.42)
    geometry = Geometry(np.diag([spacing[1], spacing[0], spacing[2], 1.0]))
    done = []
    for n in range(slices):
        image = np.where(radius < 1, np.where(radius < 0.88, rng.normal(rng.uniform(28, 36)), 900.0), -1000.0)
        image = (image + rng.normal(0, 6, image.shape)).astype(np.float32)
        done.append(Slice(image, f"p{seed}", f"p{seed}", Path("x.nii"), n, HU, None, geometry))
    return done


def changed(slices, image=lambda i: i, **values):
    return [replace(s, image=np.asarray(image(s.image), np.float32), **values) for s in slices]


@pytest.fixture(scope="module")
def looks():
    return summarise([facts_of(head(seed), BRAIN) for seed in range(20)])


def reasons(slices, looks):
    return unlike(facts_of(slices, BRAIN), looks)


def test_facts_by_hand():
    """Half black, half at the window's top; 2 mm x 3 mm pixels."""
    image = np.full((4, 6), -1000, np.float32)
    image[:, 3:] = 200
    facts = facts_of([Slice(image, "p", "p", Path("x"), 0, HU, None, Geometry(np.diag([3.0, 2.0, 5.0, 1.0])))], BRAIN)
    assert (facts.rows, facts.columns, facts.slices, facts.spacing) == (4, 6, 1, (2.0, 3.0, 5.0))
    assert (facts.low, facts.high, facts.minimum) == (-1000, 200, -1000)
    assert (facts.mean, facts.sd, facts.foreground, facts.level, facts.saturated) == (0, 1, 0.5, 1, 0.5)
    assert summarise([facts])["measures"]["field_mm"]["median"] == pytest.approx(18)


def test_a_large_scan_is_measured_on_a_sample_of_all_its_parts():
    rng = np.random.default_rng(0)
    volume = [Slice(rng.normal(10 * n, 5, (600, 600)).astype(np.float32), "p", "p", Path("x"), n, HU) for n in range(9)]
    whole = np.clip((np.stack([s.image for s in volume]) + 20) / 60 - 1, -1, 1)
    facts = facts_of(volume, BRAIN)
    assert (facts.mean, facts.sd) == (pytest.approx(whole.mean(), abs=0.005), pytest.approx(whole.std(), abs=0.005))


def test_new_scans_of_the_same_kind_pass(looks):
    assert [seed for seed in range(1000, 1200) if reasons(head(seed), looks)] == []


@pytest.mark.parametrize(("change", "told"), [
    (lambda i: i + 1024, "lowest values"), (lambda i: i + 60, "mean brightness of what is not background"),
    (lambda i: i / 1000, "lowest values"), (lambda i: np.clip(i, 0, 80), "lowest values"),
    (lambda i: -i, "mean brightness"), (lambda i: np.full_like(i, -1000), "contrast")])
def test_changed_values_are_told(looks, change, told):
    """Without the intercept, shifted, in other units, cut to a window, inverted, nothing but air."""
    found = reasons(changed(head(500), change), looks)
    assert any(told in reason for reason in found), found


def test_another_modality_is_told(looks):
    """An MRI in a file that looks like a CT's (signed integers), and one that says what it is."""
    mri = changed(head(500), lambda i: np.where(i > 500, 40, np.where(i > -500, 300 + 5 * i, 0)))
    assert any("lowest values" in reason for reason in reasons(mri, looks))
    assert reasons(changed(mri, unit=GREY), looks)[0] == "values in grey, training scans in HU"


@pytest.mark.parametrize(("scan", "told"), [
    ({"size": 96}, "rows of the image"), ({"spacing": (9.0, 9.0, 5.0)}, "field of view (mm)"),
    ({"spacing": (4.5, 4.5, 1.0)}, "slice spacing (mm)"), ({"slices": 30}, "number of slices")])
def test_another_geometry_is_told(looks, scan, told):
    assert any(reason.startswith(told) for reason in reasons(head(500, **scan), looks))


def test_the_reason_gives_the_numbers(looks):
    (told,) = [r for r in reasons(head(500, slices=30), looks) if "number" in r]
    assert told == "number of slices 30, above the limit 8 (training median 4)"


def test_what_is_not_known_is_not_judged(looks):
    """Pictures have no spacing, and only Hounsfield units have an absolute scale."""
    pictures = [facts_of(changed(head(seed), lambda i: np.clip(i + 20, 0, 120) * 2, geometry=None, unit=DISPLAY), BRAIN)
                for seed in range(8)]
    measures = summarise(pictures)["measures"]
    assert "mean" in measures
    assert not {"lowest", "highest", "pixel_mm", "slice_mm", "field_mm"} & set(measures)
    with_spacing = changed(head(500), lambda i: np.clip(i + 20, 0, 120) * 2, unit=DISPLAY)
    assert unlike(facts_of(with_spacing, BRAIN), summarise(pictures)) == []


def test_a_few_training_scans_make_wide_limits_and_none_too_narrow():
    few = summarise([facts_of(head(seed), BRAIN) for seed in range(3)])
    assert [seed for seed in range(1000, 1100) if reasons(head(seed), few)] == []
    assert reasons(changed(head(500), lambda i: i + 1024), few)


def test_one_odd_training_scan_does_not_open_the_limits():
    """200 sound scans and one without its intercept: the next one without it is still told."""
    facts = [facts_of(head(seed, size=24, slices=1), BRAIN) for seed in range(200)]
    odd = changed(head(500, size=24, slices=1), lambda i: i + 1024)
    assert unlike(facts_of(odd, BRAIN), summarise([*facts, facts_of(odd, BRAIN)]))
