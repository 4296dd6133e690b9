import math

import pytest
import torch

from duiit.models import networks
from duiit.util.errors import UserError

NAN = float("nan")


@pytest.mark.parametrize(("kind", "value"), [
    ("mse", (3 ** 2 + 0.5 ** 2) / 2),       # squared years, as in Eq. 2
    ("l1", (3 + 0.5) / 2),
    ("huber", ((3 - 0.5) + 0.5 ** 2 / 2) / 2),
])
def test_regression_is_the_mean_over_labelled_samples(kind, value):
    prediction = torch.tensor([53.0, 10.0, 40.5])
    loss = networks.PredictionLoss("regression", kind)(prediction, torch.tensor([50.0, NAN, 40.0]))
    assert loss.item() == pytest.approx(value)


def test_huber_turns_straight_at_delta():
    loss = networks.PredictionLoss("regression", "huber", delta=2.0)
    assert loss(torch.tensor([3.0]), torch.tensor([0.0])).item() == pytest.approx(2 * (3 - 1))


@pytest.mark.parametrize("kind", ["mse", "l1", "huber"])
def test_missing_labels_leave_no_trace_in_the_gradient(kind):
    loss = networks.PredictionLoss("regression", kind)
    prediction = torch.tensor([53.0, 10.0, 40.5], requires_grad=True)
    loss(prediction, torch.tensor([50.0, NAN, 40.0])).backward()
    alone = torch.tensor([53.0, 40.5], requires_grad=True)
    loss(alone, torch.tensor([50.0, 40.0])).backward()
    assert prediction.grad[1] == 0
    torch.testing.assert_close(prediction.grad[[0, 2]], alone.grad)


def test_classification_is_cross_entropy_over_labelled_samples():
    logits = torch.tensor([[0.0, 0.0], [9.0, -9.0], [math.log(3.0), 0.0]], requires_grad=True)
    loss = networks.PredictionLoss("classification")(logits, torch.tensor([1, -1, 0]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    loss.backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.25, -0.25], [0.0, 0.0], [-0.125, 0.125]]))


@pytest.mark.parametrize(("task", "prediction", "target"), [
    ("regression", torch.ones(3), torch.full((3,), NAN)),
    ("classification", torch.ones(3, 2), torch.full((3,), -1)),
])
def test_no_label_at_all_is_zero_and_can_be_driven_back(task, prediction, target):
    prediction = prediction.requires_grad_()
    loss = networks.PredictionLoss(task)(prediction, target)
    loss.backward()
    assert loss.item() == 0
    assert not prediction.grad.any()


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="do not pair up"):
        networks.PredictionLoss("regression")(torch.ones(4, 1), torch.ones(4))


def test_unknown_choices_are_refused():
    with pytest.raises(UserError, match="mse, l1, huber"):
        networks.PredictionLoss("regression", "l4")
    with pytest.raises(UserError, match="--task ranking"):
        networks.PredictionLoss("ranking")
