
import numpy as np
import pytest
import torch
import torchmetrics

from duiit.util import metrics


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


def test_auroc_counts_ordered_pairs():
    chances = [[0.2, 0.8], [0.5, 0.5], [0.5, 0.5], [0.9, 0.1]]
    # Of the 2 x 2 pairs of a `b` and an `a`: 0.8 beats both, 0.5 ties with 0.5 and beats 0.1.
    assert metrics.auroc(chances, ["b", "b", "a", "a"], ["a", "b"]) == pytest.approx(3.5 / 4)
    assert metrics.auroc(chances, ["a"] * 4, ["a", "b"]) is None


def test_auroc_agrees_with_torchmetrics():
    rng = np.random.default_rng(0)
    chances, labels = rng.dirichlet(np.ones(3), 60).round(1), rng.integers(0, 3, 60)
    theirs = torchmetrics.functional.classification.multiclass_auroc(
        torch.from_numpy(chances), torch.from_numpy(labels), num_classes=3)
    mine = metrics.classification_errors(["abc"[i] for i in chances.argmax(1)], ["abc"[i] for i in labels], chances,
                                         ["a", "b", "c"])
    assert mine["auroc"] == pytest.approx(float(theirs), abs=1e-6)


def test_group_means_of_rows():
    assert metrics.by_group([[0.0, 1.0], [1.0, 0.0]], ["x", "x"])["x"].tolist() == [0.5, 0.5]


def test_group_means_keep_the_first_order():
    assert list(metrics.by_group([1, 5, 3], ["y", "x", "y"]).items()) == [("y", 2.0), ("x", 5.0)]
