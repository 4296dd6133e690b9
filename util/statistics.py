"""Whether one method's errors are really smaller than another's, from the same splits of the same data.

What has no value is None, never NaN: nothing of it can slip into a file or a comparison unseen.
"""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

# Differences that vary by less than this share of their size are one number but for rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class PairedTest:
    """A two-sided test of a - b over n splits. t and p, and the interval of the mean difference, may be None."""
    n: int
    difference: float | None        # the mean of a - b
    t: float | None = None
    p: float | None = None
    low: float | None = None
    high: float | None = None


def summary(values: Iterable[float]) -> dict[str, Any]:
    """Values (N,) -> {n, mean, sd}. sd is the sample's (divided by N - 1), None for N < 2; mean is None for N = 0."""
    values = np.asarray(list(values), float)
    return {"n": len(values), "mean": float(values.mean()) if len(values) else None,
            "sd": float(values.std(ddof=1)) if len(values) > 1 else None}


def paired_t_test(a: Iterable[float], b: Iterable[float], level: float = 0.95) -> PairedTest:
    """Student's paired t-test of a (J,) against b (J,): the one behind the paper's tables of p-values.

    It takes the J differences for independent. Those of repeated splits are not: see corrected_t_test.
    """
    return corrected_t_test(a, b, 0.0, level)


def corrected_t_test(a: Iterable[float], b: Iterable[float], test_train_ratio: float,
                     level: float = 0.95) -> PairedTest:
    """The corrected resampled t-test (Nadeau & Bengio 2003, Machine Learning 52) of a (J,) against b (J,).

    a[j] and b[j] are two methods' errors on split j; test_train_ratio is n_test / n_train of a split. The splits draw
    their training patients from the same few, so their differences rise and fall together: J of them tell less than J
    independent ones, and a plain t-test, which takes them for independent, is too sure of itself. The correction takes
    the variance of their mean for (1 / J + n_test / n_train) s^2 instead of s^2 / J; the degrees of freedom stay J - 1.

    Fewer than two splits: no test. Equal results on every split: p is 1 and the interval [0, 0]. The same difference,
    not zero, on every split: no test, since nothing tells how far it would vary.
    """
    differences = np.asarray(list(a), float) - np.asarray(list(b), float)
    n = len(differences)
    if not n:
        return PairedTest(n, None)
    mean = float(differences.mean())
    if n < 2:
        return PairedTest(n, mean)
    if not differences.any():
        return PairedTest(n, 0.0, p=1.0, low=0.0, high=0.0)
    sd = float(differences.std(ddof=1))
    if sd <= _ROUNDING * np.abs(differences).max():
        return PairedTest(n, mean)
    error = sd * (1 / n + test_train_ratio) ** 0.5
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    return PairedTest(n, mean, mean / error, float(2 * stats.t.sf(abs(mean) / error, n - 1)), mean - half, mean + half)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction: p-values (some None) -> as many, adjusted so that the chance of even one false
    finding among them stays below the threshold they are held against. None stays None and is not counted."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    reached = 0.0
    for rank, (p, i) in enumerate(known):
        reached = max(reached, min(1.0, p * (len(known) - rank)))
        adjusted[i] = reached
    return adjusted
