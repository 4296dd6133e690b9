"""The width of the ventricles, measured in true CTs of the phantom against what its heads were drawn with."""
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import ndimage, stats

from duiit.data.phantom.anatomy import tissue_maps
from duiit.data.phantom.cohort import draw_cohort
from duiit.data.phantom.rendering import render_ct
from duiit.util.ventricles import fluid_share, middle_of

PEOPLE = draw_cohort("mri", 30, (50, 20), 0)
VENTRICLES = np.array([p.head.ventricle_age for p in PEOPLE])


@cache
def scans(size, noise=1.0, older=0.0):
    """CTs in the brain window, with ventricles that many years older: [(4, size, size) in HU], one a patient."""
    heads = [replace(p.head, ventricle_age=p.head.ventricle_age + older) for p in PEOPLE]
    return [np.clip(render_ct(tissue_maps(h, size, 4), p.scanner, p.rng(1), noise), -20, 100)
            for h, p in zip(heads, PEOPLE, strict=True)]


def widths(made, true):
    return np.array([np.mean([fluid_share(image, *middle_of(sure)) for image, sure in zip(*both, strict=True)])
                     for both in zip(made, true, strict=True)])


# Percent of the skull's inside a year, alike at all sizes: a ventricle is not wider in a finer image.
@pytest.mark.slow
@pytest.mark.parametrize("size, least", [(32, 0.9), (64, 0.95)])
def test_the_width_follows_the_ventricles_age_and_not_the_sulci(size, least):
    width = widths(scans(size), scans(size))
    line = stats.linregress(VENTRICLES, width)
    assert line.rvalue > least
    assert 0.075 < line.slope < 0.125
    ages = np.array([(p.head.ventricle_age, p.head.sulcus_age, 1) for p in PEOPLE])
    ventricles, sulci, _ = np.linalg.lstsq(ages, width, rcond=None)[0]
    assert abs(sulci) < 0.25 * ventricles


@pytest.mark.slow
def test_a_change_is_told_in_years_and_noise_and_calibration_are_none():
    """A synthetic CT has hardly any noise, and may lie some HU off: the brain in it is the same."""
    true = scans(64)
    width = widths(true, true)
    a_year = stats.linregress(VENTRICLES, width).slope

    def years(made):
        return (widths(made, true) - width).mean() / a_year

    assert years(scans(64, older=10.0)) == pytest.approx(10, abs=2)
    assert years(scans(64, older=-10.0)) == pytest.approx(-10, abs=2)
    assert abs(years(scans(64, noise=0.0))) < 1.5
    assert abs(years([t + 3 for t in true])) < 1


@pytest.mark.parametrize("image", [np.full((64, 64), 30.0), np.full((64, 64), 90.0)], ids=["no bone", "all bone"])
def test_an_image_without_a_skull_is_not_measured(image):
    assert middle_of(image) is None


def test_a_skull_that_is_open_or_a_pocket_is_not_measured():
    image = scans(64)[0][2].copy()
    image[:, 30:36] = 30
    assert middle_of(image) is None
    ring = ndimage.binary_dilation(np.pad(np.ones((1, 1), bool), 31), iterations=6)
    assert middle_of(np.where(ring & ~ndimage.binary_erosion(ring, iterations=2), 500.0, 30.0)) is None
