"""Gradient reversal and the domain classifier, against numbers worked out by hand."""
import math

import pytest
import torch

from duiit.models import networks


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0, 3.0])
def test_forward_nothing_happens_and_backward_the_gradient_is_turned_round(strength):
    features = torch.tensor([[1.0, -2.0], [0.5, 4.0]], requires_grad=True)
    reversed_ = networks.reverse_gradient(features, strength)
    assert torch.equal(reversed_, features)
    # d/df of sum of f^2 / 2 is f
    (reversed_.square().sum() / 2).backward()
    assert torch.equal(features.grad, -strength * features.detach())


def test_two_uses_of_the_same_features_add_up():
    """As in the model: one path straight to the label, the other through the reversal to the domain."""
    features = torch.tensor([2.0], requires_grad=True)
    (3 * features + 5 * networks.reverse_gradient(features, 0.5)).sum().backward()
    assert features.grad.item() == 3 - 0.5 * 5


@pytest.mark.parametrize(("progress", "gamma", "expected"), [
    (0.0, 10.0, 0.0),
    (0.1, 10.0, 0.46211715726),          # 2 / (1 + 1/e) - 1
    (0.5, 10.0, 0.98661429815),          # 2 / (1 + e^-5) - 1
    (1.0, 10.0, 0.99990920426),          # 2 / (1 + e^-10) - 1
    (1.0, 1.0, 0.46211715726),
    (0.7, 0.0, 0.0),
    (1.0, 1e6, 1.0)])
def test_the_schedule_of_the_authors(progress, gamma, expected):
    assert networks.reversal_strength(progress, gamma) == pytest.approx(expected, abs=1e-10)


def test_the_schedule_never_falls():
    values = [networks.reversal_strength(p / 100) for p in range(101)]
    assert values == sorted(values)
    assert max(values) < 1


def test_the_classifier_gets_its_plain_gradient_and_the_features_the_opposite():
    torch.manual_seed(0)
    classifier = networks.DomainClassifier(6, 3, hidden=8)
    domains = torch.tensor([0, 1, 2, 2])

    def gradients(strength):
        features = torch.linspace(-1, 1, 24).reshape(4, 6).requires_grad_()
        used = features if strength is None else networks.reverse_gradient(features, strength)
        loss = torch.nn.functional.cross_entropy(classifier(used), domains)
        return torch.autograd.grad(loss, [features, *classifier.parameters()])
    plain, pushed = gradients(None), gradients(0.5)
    torch.testing.assert_close(pushed[0], -0.5 * plain[0])
    assert all(torch.equal(a, b) for a, b in zip(plain[1:], pushed[1:], strict=True))


def test_an_answer_a_domain():
    classifier = networks.DomainClassifier(5, 4)
    assert classifier(torch.zeros(2, 5)).shape == (2, 4)
    loss = torch.nn.functional.cross_entropy(classifier(torch.randn(64, 5)), torch.arange(4).repeat(16))
    assert loss.item() == pytest.approx(math.log(4), rel=0.1)          # it begins without an opinion
