import math

import pytest
import torch
from torch import nn

from duiit.models import networks
from duiit.util.errors import UserError

torch.set_num_threads(1)
SCORES = torch.tensor([[0.5, 2.0]])


@pytest.mark.parametrize(("mode", "real", "fake"), [
    ("lsgan", (0.5 ** 2 + 1.0 ** 2) / 2, (0.5 ** 2 + 2.0 ** 2) / 2),
    ("vanilla", (math.log1p(math.exp(-0.5)) + math.log1p(math.exp(-2))) / 2,
     (math.log1p(math.exp(0.5)) + math.log1p(math.exp(2))) / 2),
    ("wgangp", -1.25, 1.25),
])
def test_values_worked_by_hand(mode, real, fake):
    criterion = networks.GANLoss(mode)
    assert criterion(SCORES, True).item() == pytest.approx(real)
    assert criterion(SCORES, False).item() == pytest.approx(fake)


def test_softened_labels_move_the_goal():
    assert networks.GANLoss("lsgan", target_real_label=0.9)(torch.full((2, 1, 3, 3), 0.9), True).item() == 0.0
    assert networks.GANLoss("lsgan", target_fake_label=0.1)(torch.zeros(2), False).item() == pytest.approx(0.01)


def test_an_unknown_mode_is_refused():
    with pytest.raises(UserError, match="--gan_mode hinge.*wgangp"):
        networks.GANLoss("hinge")


class LinearDiscriminator(nn.Module):
    """Score 3 x0 + 4 x1 of two pixels: its gradient is (3, 4) everywhere, of length 5."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([3.0, 4.0]))

    def forward(self, images):
        return (images.flatten(1) * self.weight).sum(1)


@pytest.mark.parametrize("kind", ["real", "fake", "mixed"])
def test_penalty_of_a_linear_discriminator(kind):
    discriminator, real, fake = LinearDiscriminator(), torch.rand(3, 1, 1, 2), torch.rand(3, 1, 1, 2)
    penalty, gradients = networks.cal_gradient_penalty(discriminator, real, fake, "cpu", kind, lambda_gp=2.0)
    assert penalty.item() == pytest.approx(2.0 * (5 - 1) ** 2)
    torch.testing.assert_close(gradients, torch.tensor([[3.0, 4.0]] * 3))
    penalty.backward()  # d/dw 2 (|w| - 1)^2 = 4 (5 - 1) w / 5
    torch.testing.assert_close(discriminator.weight.grad, torch.tensor([16 * 3 / 5, 16 * 4 / 5]))


def test_mixed_points_lie_between_real_and_fake_with_one_mixture_an_image():
    seen = []

    def discriminator(images):
        seen.append(images)
        return images.sum((1, 2, 3))

    networks.cal_gradient_penalty(discriminator, torch.zeros(64, 1, 2, 2), torch.ones(64, 1, 2, 2), "cpu")
    points = seen[0].detach()
    assert (points.amax((1, 2, 3)) == points.amin((1, 2, 3))).all()
    assert 0 <= points.min() < 0.2
    assert 0.8 < points.max() <= 1


def test_the_penalty_asks_for_no_gradient_of_the_callers_images():
    real, fake = torch.rand(1, 1, 1, 2), torch.rand(1, 1, 1, 2, requires_grad=True)
    networks.cal_gradient_penalty(LinearDiscriminator(), real, fake, "cpu", "fake")[0].backward()
    assert not real.requires_grad
    assert fake.grad is None


def test_no_weight_no_penalty():
    assert networks.cal_gradient_penalty(None, SCORES, SCORES, "cpu", lambda_gp=0.0) == (0.0, None)


def test_unknown_points_are_refused():
    with pytest.raises(UserError, match="real, fake or mixed"):
        networks.cal_gradient_penalty(LinearDiscriminator(), SCORES, SCORES, "cpu", "both")
