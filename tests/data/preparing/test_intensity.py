import numpy as np
import pytest

from duiit.data.preparing.intensity import Intensity, ct_window, display_range, intensity_of, pet_window, robust_range
from duiit.data.readers.slice import DISPLAY, GREY, HU, SUV
from duiit.util.errors import UserError


@pytest.mark.parametrize("text, low, high", [
    ("brain", -20, 100), ("bone", -800, 2000), ("full", -1024, 3071), ("40,80", 0, 80),
    ("-600.5, 1500", -1350.5, 149.5)])
def test_windows_in_hu(text, low, high):
    window = ct_window(text)
    assert (window.low, window.high, window.unit) == (low, high, HU)


@pytest.mark.parametrize("text", ["liver", "40", "40,0", "40,-1", "a,b", "1,2,3", "nan,100", "40,inf", ""])
def test_other_windows_are_refused(text):
    with pytest.raises(UserError, match="--ct_window"):
        ct_window(text)


def test_brain_window_by_hand():
    hu = np.array([[-1000, -20, 40, 100, 2000, 10]])
    np.testing.assert_allclose(ct_window("brain").normalise(hu), [[-1, -1, 0, 1, 1, -0.5]], atol=1e-6)


@pytest.mark.parametrize("intensity", [ct_window("brain"), ct_window("bone"), ct_window("full"), display_range()])
def test_the_way_back(intensity):
    values = np.linspace(intensity.low, intensity.high, 1001, dtype=np.float32)
    normalised = intensity.normalise(values)
    assert normalised.dtype == np.float32 and normalised.min() == -1 and normalised.max() == 1
    np.testing.assert_allclose(intensity.restore(normalised), values, atol=1e-4 * (intensity.high - intensity.low) / 2)
    np.testing.assert_allclose(intensity.normalise(intensity.restore(normalised)), normalised, atol=1e-4)


def test_what_was_clipped_stays_clipped():
    window = ct_window("brain")
    np.testing.assert_allclose(window.restore(window.normalise([-1000.0, 3000.0])), [-20, 100], atol=1e-4)


def test_robust_range_is_the_scans_percentiles_whatever_a_few_pixels_say():
    ramp = np.linspace(0, 1000, 10_001)
    calm = robust_range([ramp[:5000], ramp[5000:]], GREY)
    assert (calm.low, calm.high) == pytest.approx((5, 995))
    wild = ramp.copy()
    wild[:10], wild[-10:] = -1e6, 1e6                       # metal, a dead detector: a thousandth at either end
    noisy = robust_range([wild], SUV)
    assert (noisy.low, noisy.high) == pytest.approx((5, 995), abs=0.2)
    assert noisy.unit == SUV


def test_constant_images_stay_finite():
    flat = robust_range([np.full((4, 4), 7.0)], GREY)
    assert np.isfinite(flat.normalise(np.full((4, 4), 7.0))).all() and flat.high > flat.low
    spike = np.zeros((64, 64))
    spike[0, 0] = 50                                        # both percentiles are 0
    spiked = robust_range([spike], GREY)
    assert (spiked.low, spiked.high) == (0, 50)


def test_the_unit_chooses_the_scale():
    bone, pet, images = ct_window("bone"), pet_window("0,10"), [np.arange(100.0)]
    windows = {HU: bone, SUV: pet}
    assert intensity_of(HU, images, windows) is bone and intensity_of(SUV, images, windows) is pet
    assert intensity_of(DISPLAY, images, windows) == display_range()
    assert intensity_of(GREY, images, windows) == robust_range(images, GREY)
    assert intensity_of(SUV, images, {HU: bone}) == robust_range(images, SUV)
    # What a network made is scaled by the range it says, unless its unit has a window.
    assert intensity_of(GREY, images, windows, (3, 7)) == Intensity(3, 7, GREY)
    assert intensity_of(SUV, images, windows, (3, 7)) is pet


@pytest.mark.parametrize("text, ends", [("0,10", (0, 10)), ("0.5, 7", (0.5, 7)), ("percentiles", None)])
def test_windows_in_suv(text, ends):
    window = pet_window(text)
    assert window == (Intensity(*ends, SUV) if ends else None)


@pytest.mark.parametrize("text", ["10", "10,0", "5,5", "a,b", "1,2,3", "nan,10", "0,inf", "", "percentile"])
def test_other_windows_of_pet_are_refused(text):
    with pytest.raises(UserError, match="--pet_window"):
        pet_window(text)
