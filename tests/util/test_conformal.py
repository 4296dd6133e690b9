"""Split-conformal bounds: the rank by hand, and the coverage that they promise on exchangeable scores."""
import numpy as np
import pytest

from duiit.util.conformal import bound, patients_needed, prediction_set


@pytest.mark.parametrize(("level", "n"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.85, 6), (0.0, 1)])
def test_patients_needed_is_the_fewest(level, n):
    assert patients_needed(level) == n
    assert bound(range(n), level) is not None
    assert n == 1 or bound(range(n - 1), level) is None


@pytest.mark.parametrize(("level", "rank"), [(0.9, 18), (0.95, 19), (0.5, 10), (0.89, 18), (0.91, 19)])
def test_the_bound_is_the_score_of_that_rank(level, rank):
    """19 scores: the ceil(20 * level)-th, whatever their order."""
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 20.0))
    assert bound(scores, level) == rank


@pytest.mark.parametrize(("n", "level"), [(9, 0.9), (19, 0.9), (40, 0.8), (25, 0.5)])
@pytest.mark.parametrize("law", ["normal", "heavy tails", "a predictor without any skill"])
def test_coverage_of_new_patients(n, level, law):
    """On average over calibrations at least `level` and at most 1 / (n + 1) more, whatever the errors' law."""
    rng, trials = np.random.default_rng(n), 4000
    draw = {"normal": rng.normal, "heavy tails": lambda size: rng.standard_cauchy(size),
            "a predictor without any skill": lambda size: rng.uniform(0, 90, size) - 45}[law]
    errors = np.abs(draw(size=(trials, n + 1)))
    held = np.mean([row[-1] <= bound(row[:-1], level) for row in errors])
    noise = 3.5 * (level * (1 - level) / trials) ** 0.5
    assert level - noise <= held <= level + 1 / (n + 1) + noise


def test_coverage_of_prediction_sets():
    """Classes drawn by the probabilities themselves, calibrated on 1 - probability of the true class."""
    rng, trials, n, level = np.random.default_rng(0), 3000, 20, 0.8
    held = 0
    for _ in range(trials):
        probabilities = rng.dirichlet([1, 1, 1], n + 1)
        true = [rng.choice(3, p=p) for p in probabilities]
        scores = [1 - p[k] for p, k in zip(probabilities, true, strict=True)]
        held += true[-1] in prediction_set(probabilities[-1], bound(scores[:-1], level))
    assert level - 0.03 <= held / trials <= level + 1 / (n + 1) + 0.03


def test_a_prediction_set_begins_with_the_likeliest_and_is_never_empty():
    assert prediction_set([0.1, 0.6, 0.3], 0.75) == [1, 2]
    assert prediction_set([0.1, 0.6, 0.3], 0.0) == [1]
    assert prediction_set([0.1, 0.6, 0.3], 0.9) == [1, 2, 0]
