"""DANN: the reversal's schedule, whom the domain loss teaches what, and label units that do not matter."""
import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from duiit.models import create_model, networks
from duiit.util.errors import UserError

MRI = "--model dann --sources mri"


@pytest.fixture
def on_a_batch(make):
    """on_a_batch(words) -> model with the first batch in it, all of it labelled."""
    def build(words=MRI, **values):
        model, loader = make(words, **values)
        model.set_input(next(iter(loader)))
        model.labels = [torch.where(x.isnan(), 33.0, x) for x in model.labels]
        return model
    return build


def at(model, share):
    """The model, as if so much of its training was done."""
    model.progress.done = round(share * model.progress.total)
    return model


# ---- the schedule ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.5, 0.98661429815), (1, 0.99990920426)])
def test_the_strength_at_the_beginning_in_the_middle_and_at_the_end(make, share, expected):
    model, _ = make(f"{MRI} --lambda_dann 0.3 --n_epochs 2 --n_epochs_decay 2")
    assert at(model, share).strength() == pytest.approx(0.3 * expected, abs=1e-9)


def test_progress_goes_through_all_epochs(make, steps):
    model, loader = make(f"{MRI} --n_epochs 2 --n_epochs_decay 1")
    assert model.progress.total == 3 * loader.batches
    steps(model, loader, loader.batches)
    assert model.progress.share() == pytest.approx(1 / 3)


@pytest.mark.parametrize(("words", "total"), [("--steps_per_epoch 5", 15), ("--steps_per_epoch 5 --epoch_count 3", 5),
                                              ("--steps_per_epoch 5 --max_steps 2", 15)])
def test_how_long_the_schedule_is(make, words, total):
    """As the learning rate's: a run that --max_steps stops can go on with other --max_steps."""
    assert make(f"{MRI} --n_epochs 2 --n_epochs_decay 1 {words}")[0].progress.total == total


def test_progress_is_part_of_the_training_state(make, steps):
    model, loader = make(MRI)
    steps(model, loader, 3)
    other, _ = make(MRI)
    assert other.progress.done == 0
    other.load_training_state(copy.deepcopy(model.training_state()))
    assert other.progress.done == 3
    assert other.strength() == model.strength() > 0


# ---- gradients ------------------------------------------------------------------------------------------------------

def gradients(model, loss, parameters):
    return torch.autograd.grad(loss, list(parameters), retain_graph=True)


def test_the_trunk_is_pushed_against_the_domain_loss_and_the_classifier_along_it(on_a_batch):
    model = at(on_a_batch(f"{MRI} --lambda_dann 0.6"), 1)
    netP, netC = copy.deepcopy(model.netP), copy.deepcopy(model.netC)
    strength = 0.6 * networks.reversal_strength(1, 10)
    features = netP.features(torch.cat([model.real_B, model.real_A]))
    label = ((netP.answer(features) - torch.cat(model.labels)) / netP.label_std).square().mean()
    domain = F.cross_entropy(netC(features), torch.tensor([0, 0, 1, 1]))
    trunk = netP.backbone.parameters
    expected = [a - strength * b for a, b in zip(gradients(model, label, trunk()), gradients(model, domain, trunk()),
                                                 strict=True)]
    of_classifier = gradients(model, domain, netC.parameters())
    of_head = gradients(model, label, netP.head.parameters())
    model.optimize_parameters()
    assert model.loss_domain.item() == pytest.approx(domain.item())
    for mine, wanted in zip(model.netP.backbone.parameters(), expected, strict=True):
        torch.testing.assert_close(mine.grad, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
    for net, wanted in ((model.netC, of_classifier), (model.netP.head, of_head)):
        for p, g in zip(net.parameters(), wanted, strict=True):
            torch.testing.assert_close(p.grad, g, rtol=1e-3, atol=1e-3 * float(g.abs().max()))


def test_at_first_the_trunk_is_not_pushed(on_a_batch):
    model = on_a_batch()
    model.labels = [torch.full((2,), float("nan"))] * 2             # nothing but the domain is left to learn from
    model.optimize_parameters()
    assert all(float(p.grad.abs().sum()) == 0 for p in model.netP.parameters())
    assert float(model.netC.model[0].weight.grad.abs().sum()) > 0


@pytest.mark.slow
def test_the_classifier_learns_and_the_trunk_unlearns(on_a_batch):
    """C alone finds out where images come from; then the trunk alone hides it again."""
    model = on_a_batch(f"{MRI} --lambda_dann 0 --lr 0.001")
    model.labels = [torch.full((2,), float("nan"))] * 2
    model.set_requires_grad(model.netP, False)
    found = math.inf
    while found > 0.3:                                              # and not to 0, from where no gradient leads back
        model.optimize_parameters()
        found = model.loss_domain.item()
    model.opt.lambda_dann = 1
    model.set_requires_grad(model.netP, True)
    model.set_requires_grad(model.netC, False)
    at(model, 1)
    for _ in range(20):
        model.optimize_parameters()
    assert model.loss_domain.item() > 2 * found


def test_the_unit_of_the_label_does_not_matter(make):
    """Ages in months give the gradients that ages in years do: the push of the domain keeps its meaning."""
    found = []
    for factor in (1, 12):
        model, loader = make(MRI)
        opt = model.opt
        opt.facts = replace(opt.facts, label_mean=factor * opt.facts.label_mean, label_std=factor * opt.facts.label_std)
        model = create_model(opt)
        model.set_input(next(iter(loader)))
        model.labels = [factor * torch.where(x.isnan(), 33.0, x) for x in model.labels]
        at(model, 0.5).setup(opt)
        model.optimize_parameters()
        found.append((model.netP.backbone.conv1.weight.grad, model.loss_P.item()))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-3, atol=1e-5)
    assert found[1][1] == pytest.approx(144 * found[0][1], rel=1e-4)


@pytest.mark.parametrize("loss", ["l1", "huber"])
def test_other_losses_begin_in_standard_scores_too(on_a_batch, loss):
    model = on_a_batch(f"{MRI} --loss_P {loss}")
    model.optimize_parameters()
    assert 0 < model.loss_P.item() / model.unit < 5


def test_unlabelled_images_are_adapted_to_all_the_same(on_a_batch):
    model = on_a_batch()
    model.labels[0][:] = float("nan")                               # DANN's first setting: no target label at all
    model.optimize_parameters()
    assert model.loss_P.item() > 0
    assert model.loss_domain.item() == pytest.approx(math.log(2), rel=0.3)


# ---- domains --------------------------------------------------------------------------------------------------------

def test_of_several_sources_each_is_a_domain(on_a_batch):
    model = on_a_batch("--model dann --sources mri,pet")
    features = copy.deepcopy(model.netP).features(torch.cat([model.real_B, model.real_A_mri, model.real_A_pet]))
    expected = F.cross_entropy(copy.deepcopy(model.netC)(features), torch.tensor([0, 0, 1, 1, 2, 2]))
    model.optimize_parameters()
    assert model.loss_domain.item() == pytest.approx(expected.item())


def test_in_use_the_classifier_is_gone(make):
    model, _ = make(MRI)
    model.save_networks("latest")
    model.opt.isTrain = False
    used = create_model(model.opt)
    used.setup(model.opt)
    assert used.model_names == ["P"]
    assert all(torch.equal(a, b) for a, b in zip(used.netP.state_dict().values(), model.netP.state_dict().values(),
                                                 strict=True))


@pytest.mark.parametrize(("words", "message"), [
    ("--lambda_dann -1", "--lambda_dann: -1 is out of range"),
    ("--gamma_dann -1", "--gamma_dann: -1 is out of range"),
    ("--output_nc 3", "--input_nc 1 and --output_nc 3")])
def test_what_cannot_work_is_refused(make, words, message):
    with pytest.raises(UserError, match=message):
        make(f"{MRI} {words}")
