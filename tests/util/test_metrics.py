import math

import numpy as np
import pytest

from util import metrics


def test_regression_errors_by_hand():
    found = metrics.regression_errors([12.0, 18.0, 36.0], [10.0, 20.0, 30.0])
    assert found["n"] == 3
    assert found["mse"] == pytest.approx((4 + 4 + 36) / 3)
    assert found["mae"] == pytest.approx(10 / 3)
    assert found["rmse"] == pytest.approx((44 / 3) ** 0.5)
    assert found["bias"] == pytest.approx(2.0)
    assert found["r2"] == pytest.approx(1 - 44 / 200)
    # Deviations -10, -4, 14 and -10, 0, 10: 240 / sqrt(312 * 200).
    assert found["pearson_r"] == pytest.approx(240 / (312 * 200) ** 0.5)


def test_what_has_no_value_is_none():
    assert metrics.regression_errors([], []) == {}
    one = metrics.regression_errors([5.0], [7.0])
    assert one["mse"] == 4 and one["r2"] is None and one["pearson_r"] is None
    constant = metrics.regression_errors([5.0, 5.0], [4.0, 8.0])
    assert constant["r2"] == pytest.approx(1 - 5 / 4) and constant["pearson_r"] is None


def test_classification_errors_by_hand():
    found = metrics.classification_errors(["a", "a", "b", "a"], ["a", "a", "a", "b"])
    assert found == {"n": 4, "accuracy": 0.5, "balanced_accuracy": pytest.approx((2 / 3 + 0) / 2)}
    assert metrics.classification_errors([], []) == {}


def test_group_means_keep_the_first_order():
    assert list(metrics.by_group([1, 5, 3], ["y", "x", "y"]).items()) == [("y", 2.0), ("x", 5.0)]


def test_image_errors_by_hand():
    truth = np.zeros((8, 8))
    found = metrics.image_errors(truth + 0.5, truth, data_range=2.0)
    assert found["mae"] == 0.5
    assert found["psnr"] == pytest.approx(10 * math.log10(2.0**2 / 0.25))
    same = metrics.image_errors(truth, truth, 2.0)
    assert same["psnr"] == math.inf and same["ssim"] == 1.0


def test_ssim_works_on_images_smaller_than_its_window():
    image = np.random.default_rng(0).random((4, 6))
    assert metrics.image_errors(image, image, 1.0)["ssim"] == pytest.approx(1.0)
