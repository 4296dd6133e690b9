"""The tests that decide: against values worked out by hand, and against SciPy by another way."""
import numpy as np
import pytest
from scipy import stats

from duiit.util.statistics import corrected_t_test, holm, paired_t_test, summary

# Differences 3, 1, 2, 2: mean 2, deviations 1, -1, 0, 0, so s^2 = 2 / 3. With n_test / n_train = 1 / 4 the variance of
# the mean is (1 / 4 + 1 / 4) 2 / 3 = 1 / 3 and t = 2 sqrt(3) = 3.4641; uncorrected it is 1 / 6 and t = 2 sqrt(6).
A, B = [13.0, 11.0, 7.0, 9.0], [10.0, 10.0, 5.0, 7.0]


def t_cdf_3(t):
    """Student's distribution function with three degrees of freedom, which has a closed form."""
    x = t / 3**0.5
    return 0.5 + (x / (1 + x * x) + np.arctan(x)) / np.pi


def test_corrected_test_by_hand():
    found = corrected_t_test(A, B, 0.25)
    assert (found.n, found.difference) == (4, 2.0)
    assert found.t == pytest.approx(12**0.5)
    assert found.p == pytest.approx(2 * (1 - t_cdf_3(12**0.5)))
    assert found.p == pytest.approx(0.0405, abs=1e-4)
    half = 3.1824463 / 3**0.5                           # the 0.975 quantile with three degrees of freedom, from a table
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))


def test_paired_test_is_scipys():
    found, other = paired_t_test(A, B), stats.ttest_rel(A, B)
    assert found.t == pytest.approx(24**0.5) == other.statistic
    assert found.p == pytest.approx(other.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(other.confidence_interval(0.95)))


@pytest.mark.parametrize(("splits", "ratio"), [(2, 0.1), (5, 0.25), (10, 1 / 3), (30, 1.0)])
def test_correction_is_a_rescaled_paired_test(splits, ratio):
    """SciPy's t over sqrt(1 + J n_test / n_train), the other way to write the correction."""
    rng = np.random.default_rng(splits)
    a, b = rng.normal(50, 9, splits), rng.normal(45, 9, splits)
    plain = stats.ttest_rel(a, b)
    t = plain.statistic / (1 + splits * ratio) ** 0.5
    found = corrected_t_test(a, b, ratio)
    assert found.t == pytest.approx(t)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), splits - 1))
    assert found.p > plain.pvalue


@pytest.mark.parametrize("ratio", [0.0, 0.25])
def test_interval_excludes_zero_just_when_p_is_below_its_level(ratio):
    rng = np.random.default_rng(0)
    seen = set()
    for shift in np.linspace(0, 3, 40):
        found = corrected_t_test(rng.normal(shift, 1, 8), np.zeros(8), ratio)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
        seen.add(found.p < 0.05)
    assert seen == {True, False}


def one_trial(rng):
    """Errors of two equally good methods (each fits a line to one of two features) on ten splits of 60 patients."""
    x = rng.normal(0, 1, (60, 2))
    y = x.sum(1) + rng.normal(0, 1, 60)
    errors = []
    for _ in range(10):
        order = rng.permutation(60)
        train, test = order[:45], order[45:]
        slopes = (x[train] * y[train, None]).sum(0) / (x[train] ** 2).sum(0)
        errors.append(((y[test, None] - slopes * x[test]) ** 2).mean(0))
    return np.transpose(errors)


def test_correction_keeps_its_promise_where_the_plain_test_does_not():
    """Of 400 comparisons without a difference, the share found at 0.05: near 0.05 corrected, several times that not."""
    rng = np.random.default_rng(1)
    trials = [one_trial(rng) for _ in range(400)]
    plain = np.mean([paired_t_test(a, b).p < 0.05 for a, b in trials])
    corrected = np.mean([corrected_t_test(a, b, 15 / 45).p < 0.05 for a, b in trials])
    assert corrected < 0.1 < 0.2 < plain


def test_what_cannot_be_tested_is_none():
    assert corrected_t_test([], [], 0.25) == paired_t_test([], [])
    assert corrected_t_test([], [], 0.25).difference is None
    one = corrected_t_test([3.0], [1.0], 0.25)
    assert (one.n, one.difference, one.t, one.p, one.low) == (1, 2.0, None, None, None)
    constant = corrected_t_test([0.3, 1.3, 2.3], [0.1, 1.1, 2.1], 0.25)         # 0.2, but for rounding
    assert constant.difference == pytest.approx(0.2)
    assert (constant.t, constant.p, constant.low, constant.high) == (None,) * 4


def test_equal_results_are_no_difference():
    same = corrected_t_test([4.0, 5.0], [4.0, 5.0], 0.25)
    assert (same.difference, same.t, same.p, same.low, same.high) == (0.0, None, 1.0, 0.0, 0.0)


def test_summary():
    assert summary([2.0, 4.0, 9.0]) == {"n": 3, "mean": 5.0, "sd": pytest.approx(13**0.5)}       # (9 + 1 + 16) / 2
    assert summary([7.0]) == {"n": 1, "mean": 7.0, "sd": None}
    assert summary([]) == {"n": 0, "mean": None, "sd": None}


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.5; none below the one before it."""
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([None, 0.02, None]) == [None, 0.02, None]
    assert holm([]) == []
