from types import SimpleNamespace

import pytest
import torch

from duiit.models import networks
from duiit.util.errors import UserError


def rates(steps, lr=1.0, metric=None, **options):
    """The rate that each of `steps` epochs trains with."""
    values = {"lr_policy": "linear", "n_epochs": 2, "n_epochs_decay": 3, "epoch_count": 1, "lr_decay_iters": 2}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = networks.get_scheduler(optimizer, SimpleNamespace(**values | options))
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step() if metric is None else scheduler.step(metric)
    return seen


def test_linear_is_flat_then_falls_and_the_last_epoch_still_trains():
    assert rates(5, lr=0.4) == pytest.approx([0.4, 0.4, 0.3, 0.2, 0.1])


def test_linear_of_a_run_that_starts_late_goes_on_where_the_first_one_was():
    whole = rates(5)
    for epoch_count in (2, 3, 5):
        assert rates(6 - epoch_count, epoch_count=epoch_count) == pytest.approx(whole[epoch_count - 1:])


def test_linear_at_the_papers_lengths():
    seen = rates(200, lr=2e-4, n_epochs=100, n_epochs_decay=100)
    assert seen[:100] == pytest.approx([2e-4] * 100)
    assert seen[100] == pytest.approx(2e-4 * 100 / 101)
    assert seen[199] == pytest.approx(2e-4 * 1 / 101)


def test_step_is_a_tenth_every_few_epochs():
    assert rates(5, lr_policy="step") == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_plateau_waits_five_epochs_without_improvement():
    # The first value is the best one; five that are no better pass, the sixth cuts the rate.
    assert rates(8, lr_policy="plateau", metric=1.0) == pytest.approx([1] * 7 + [0.2])


def test_cosine_falls_over_the_whole_run_and_never_climbs():
    seen = rates(6, lr_policy="cosine", n_epochs=2, n_epochs_decay=2)
    assert seen == pytest.approx([1, 0.853553, 0.5, 0.146447, 0, 0], abs=1e-6)
    assert rates(3, lr_policy="cosine", n_epochs=2, n_epochs_decay=2, epoch_count=3) == pytest.approx(
        [1 * 0.5, 0.146447, 0], abs=1e-6)


def test_an_unknown_policy_is_refused():
    with pytest.raises(UserError, match="--lr_policy warmup.*cosine"):
        rates(1, lr_policy="warmup")
