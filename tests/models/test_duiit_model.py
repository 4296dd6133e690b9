"""Eqs. 2 and 3 on numbers worked out by hand (see the `toy` fixture): whom L_pred teaches under each guidance."""
import pytest
import torch

from duiit.models import create_model
from duiit.util.errors import UserError
from duiit.util.facts import Facts
from duiit.util.metrics import by_group

LAMBDA = 0.01
FACTS = Facts(labels_known=3, label_mean=0.0, label_std=1.0)
DUIIT = f"--model duiit --lambda_pred {LAMBDA}"


def factor_grads(model):
    model.backward_G()
    grads = (net.factor.grad for net in (model.netG_A, model.netG_B, model.netP))
    return [None if grad is None else float(grad) for grad in grads]


# ---- values ---------------------------------------------------------------------------------------------------------

# What the translations' loss of 12.5 is counted in: G's push apart from P's lesson, or both in one.
@pytest.mark.parametrize("words, times", [
    ("--guidance joint --push running", 2), ("--guidance joint --push batch", 1), ("--guidance real", 1),
    ("--guidance real --push batch", 1), ("--guidance detached", 1)])
def test_the_loss_is_in_squared_label_units_over_labelled_images(toy, words, times):
    model = toy(f"{DUIIT} {words}")
    model.backward_G()
    assert float(model.loss_P_real.detach()) == pytest.approx(100)      # P = 10 for 20; the second has no label
    assert float(model.loss_P_fake) == pytest.approx(12.5, rel=1e-5)    # P = 10, 20 for 13, 16: (9 + 16) / 2
    assert float(model.loss_G) == pytest.approx(2.75 + LAMBDA * (100 + times * 12.5), rel=1e-5)


def test_unlabelled_batches_leave_the_prediction_loss_out(toy):
    model = toy(DUIIT)
    model.label_A = model.label_B = torch.tensor([float("nan")] * 2)
    model.backward_G()
    assert float(model.loss_P_real.detach()) == float(model.loss_P_fake) == 0
    assert float(model.loss_G) == pytest.approx(2.75)
    model.label_A = model.label_B = None                        # a data set that knows no labels at all
    model.forward()
    model.backward_G()
    assert float(model.loss_G) == pytest.approx(2.75)


def test_identity_is_off_unless_asked_for(toy):
    assert toy(DUIIT).opt.lambda_identity == 0


# ---- gradients: d L_pred / d G and d L_pred / d P -------------------------------------------------------------------

@pytest.mark.parametrize("push", ["running", "batch"])
@pytest.mark.parametrize("guidance, to_G, to_P", [
    # G_A: mean of 2 (100 a y - r) 100 y = (2 * -3 * 20 + 2 * 4 * 40) / 2 = 100.
    # P: from real 2 (10 - 20) 0.1 = -2, from fake (2 * -3 * 0.1 + 2 * 4 * 0.2) / 2 = 0.5.
    ("joint", 100, -1.5),
    ("real", 100, -2.0),
    ("detached", 0, -1.5),
])
@pytest.mark.slow
def test_whom_the_prediction_loss_reaches(toy, guidance, to_G, to_P, push):
    translation = factor_grads(toy("--model duiit --lambda_pred 0"))
    assert translation[2] is None
    g_a, g_b, p = factor_grads(toy(f"{DUIIT} --guidance {guidance} --push {push}"))
    if to_G == 0:
        assert g_a == translation[0]                            # exactly
    assert g_a - translation[0] == pytest.approx(LAMBDA * to_G, rel=1e-4)
    assert g_b == translation[1]
    assert p == pytest.approx(LAMBDA * to_P, rel=1e-4)


@pytest.mark.parametrize("guidance, reaches", [("joint", True), ("real", True), ("detached", False)])
def test_prediction_loss_reaches_every_generator_weight(make, guidance, reaches):
    model, loader = make(f"--model duiit --sources mri --lambda_pred 1 --guidance {guidance}")
    model.set_input(next(iter(loader)))
    loss = model._fake_loss(model.netG_A(model.real_A), model.label_A)
    grads = torch.autograd.grad(loss, list(model.netG_A.parameters()), allow_unused=True) if loss.requires_grad else []
    # A bias in front of an instance norm has no effect; all other weights have.
    weights = [g for g, p in zip(grads, model.netG_A.parameters(), strict=False) if p.ndim > 1]
    assert all(g is not None and g.abs().sum() > 0 for g in weights) if reaches else all(g is None for g in weights)
    assert weights


def beside_real_images_only(model, loader):
    """Gradients of one step in the model, and in a copy of its predictor, returned, that real target images alone
    taught."""
    model.set_input(next(iter(loader)))
    reference = create_model(model.opt).netP.train()
    reference.load_state_dict(model.netP.state_dict())
    model.optimizer_P.zero_grad()
    model.backward_G()
    model.criterionP(reference(model.real_B), model.label_B).backward()
    return reference


@pytest.mark.slow
@pytest.mark.parametrize("push", ["running", "batch"])
def test_under_real_guidance_translations_teach_the_predictor_nothing(make, push):
    model, loader = make(f"--model duiit --sources mri --lambda_pred 1 --guidance real --push {push}")
    reference = beside_real_images_only(model, loader)
    for mine, real_only in zip(model.netP.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, real_only.grad, rtol=1e-4, atol=1e-6)
        assert mine.requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("push", ["running", "batch"])
@pytest.mark.parametrize("guidance", ["joint", "real", "detached"])
def test_the_predictors_statistics_are_those_of_real_target_images(make, guidance, push):
    model, loader = make(f"--model duiit --sources mri --lambda_pred 1 --guidance {guidance} --push {push}")
    reference = beside_real_images_only(model, loader)
    for (name, mine), real_only in zip(model.netP.named_buffers(), reference.buffers(), strict=True):
        assert torch.equal(mine, real_only), name
    assert model.netP.training
    taught = any(not torch.allclose(p.grad, q.grad, rtol=1e-3)
                 for p, q in zip(model.netP.parameters(), reference.parameters(), strict=True))
    assert taught == (guidance != "real")                       # the weights do learn from translations


@pytest.mark.slow
@pytest.mark.parametrize("push", ["running", "batch"])
def test_the_generator_is_pushed_through_the_statistics_that_are_asked_for(make, push):
    model, loader = make(f"--model duiit --sources mri --lambda_pred 1 --push {push}")
    model.set_input(next(iter(loader)))
    fake = model.netG_A(model.real_A).detach().requires_grad_()
    mine, = torch.autograd.grad(model._fake_loss(fake, model.label_A), fake)
    reference = create_model(model.opt).netP.train(push == "batch")
    reference.load_state_dict(model.netP.state_dict())
    expected, = torch.autograd.grad(model.criterionP(reference(fake), model.label_A), fake)
    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--push running", "--push batch", "--guidance real"])
@pytest.mark.parametrize("progress, strength", [(0.0, 0.0), (0.2, 0.5), (0.4, 1.0), (0.9, 1.0)])
def test_the_push_sets_in_with_the_training_and_the_lesson_does_not(toy, words, progress, strength):
    translation = factor_grads(toy("--model duiit --lambda_pred 0"))
    model = toy(f"{DUIIT} --push_ramp 0.4 {words}")
    model.share_done = progress
    g_a, _, p = factor_grads(model)
    assert g_a - translation[0] == pytest.approx(LAMBDA * 100 * strength, rel=1e-4, abs=1e-7)
    assert p == pytest.approx(LAMBDA * (-2.0 if "real" in words else -1.5), rel=1e-4)


def test_gradients_are_told_apart_by_the_terms_of_the_loss(toy):
    """On G_A(y) = a y, a = 0.5, y = 0.2, 0.4: adversarial 2 (2 a y - 1) 2 y, cycle 10 |3 a y - y| so 10 * 3 y, and the
    prediction as above, each a mean over both images."""
    model = toy(f"{DUIIT} --push_ramp 0")
    model.backward_G()
    assert model.get_current_norms() == {}                      # not in every step: it takes passes of its own
    model.measuring = True
    model.forward()
    model.backward_G()
    norms = model.get_current_norms()
    adversarial = (2 * (0.2 - 1) * 0.4 + 2 * (0.4 - 1) * 0.8) / 2
    assert norms["norm_adversarial"] == pytest.approx(abs(adversarial), rel=1e-4)
    assert norms["norm_cycle"] == pytest.approx(10 * 3 * 0.3, rel=1e-4)
    assert norms["norm_prediction"] == pytest.approx(LAMBDA * 100, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--sources mri,pet", "--sources mri --push batch --push_ramp 0",
                                   "--sources mri --guidance real --gan_mode wgangp"])
def test_measuring_changes_nothing_that_is_learned(make, steps, words):
    found = []
    for measuring in (False, True):
        model, loader = make(f"--model duiit --lambda_pred 0.1 {words}")
        model.measuring = measuring
        steps(model, loader, 3)
        found.append({f"{n}.{k}": v.clone() for n in model.model_names for k, v in model.net(n).state_dict().items()})
        assert bool(model.term_norms) == measuring
    assert all(torch.equal(found[1][k], v) for k, v in found[0].items())


def test_without_labels_the_predictors_statistics_still_follow_the_target(toy, make):
    model, loader = make("--model duiit --sources mri --lambda_pred 1")
    model.set_input(next(iter(loader)))
    model.label_B = None
    before = model.netP.backbone.bn1.running_mean.clone()
    model.backward_G()
    assert not torch.equal(model.netP.backbone.bn1.running_mean, before)


# ---- lambda_pred 0 and detached are CycleGAN ------------------------------------------------------------------------

SHARED = "--dataset_mode cross_modality --sources mri --input_nc 1 --output_nc 1 --lambda_identity 0.5 --pool_size 3"


def generators(model):
    return {f"{n}.{k}": v for n in ("G_A", "G_B", "D_A", "D_B") for k, v in model.net(n).state_dict().items()}


@pytest.fixture
def cycle_gan(make, steps):
    return generators(steps(*make(f"--model cycle_gan {SHARED}"), 8))


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--lambda_pred 0", "--lambda_pred 0.1 --guidance detached"])
def test_generators_are_cycle_gans_bit_for_bit(make, steps, cycle_gan, words):
    model, loader = make(f"--model duiit {SHARED} {words}")
    start = generators(model)["G_A.model.1.weight"].clone()
    found = generators(steps(model, loader, 8))
    assert all(torch.equal(found[key], value) for key, value in cycle_gan.items())
    assert not torch.equal(start, found["G_A.model.1.weight"])
    assert len(model.fake_A_pool.images) == 3                               # full: it has been swapping


@pytest.mark.slow
def test_guidance_changes_the_generators(make, steps, cycle_gan):
    found = generators(steps(*make(f"--model duiit {SHARED} --lambda_pred 0.1"), 8))
    assert not torch.equal(found["G_A.model.1.weight"], cycle_gan["G_A.model.1.weight"])


def test_without_weight_the_predictor_rests(make, steps):
    model, loader = make("--model duiit --sources mri --lambda_pred 0")
    before = {k: v.clone() for k, v in model.netP.state_dict().items()}
    steps(model, loader, 2)
    assert all(torch.equal(before[k], v) for k, v in model.netP.state_dict().items())
    assert model.validate(loader.dataset.held_out("val")) == {}


# ---- rates, labels, refusals ----------------------------------------------------------------------------------------

def test_rates_fall_in_step_and_the_predictor_has_its_own(make):
    model, _ = make("--model duiit --sources mri --lr 0.6 --lr_P 0.03 --n_epochs 2 --n_epochs_decay 2")
    rates = []
    for _ in range(4):
        rates.append([o.param_groups[0]["lr"] for o in model.optimizers])
        for optimizer in model.optimizers:
            optimizer.step()
        model.update_learning_rate()
    G, D, P = zip(*rates, strict=True)
    assert G == D == pytest.approx((0.6, 0.6, 0.4, 0.2)) and pytest.approx((0.03, 0.03, 0.02, 0.01)) == P


def test_plateau_counts_validations_not_epochs(make):
    model, _ = make("--model duiit --sources mri --lr 1 --lr_policy plateau")
    for epoch in range(40):                                     # of which every fifth validates
        model.metric = 5.0 if epoch % 5 == 0 else None
        if epoch == 30:                                         # the best, then six validations without a better one
            assert model.optimizer_G.param_groups[0]["lr"] == 1
        model.update_learning_rate()
    assert model.optimizer_G.param_groups[0]["lr"] == pytest.approx(0.2)


def test_the_predictor_answers_near_the_training_labels(make):
    model, loader = make("--model duiit")
    known = [r.label for m in loader.dataset.members.values() for r in m.rows if r.label is not None]
    assert float(model.netP.label_mean) == pytest.approx(sum(known) / len(known))


def test_validation_is_on_labelled_held_out_target_images(make):
    model, loader = make("--model duiit --sources mri --val_fraction 0.4")
    dataset = loader.dataset
    rows = [r for r in dataset.target_part("val") if r.label is not None]
    model.netP.eval()
    with torch.no_grad():
        images = [torch.from_numpy(dataset.members["ct"].cohort.image(r))[None] for r in rows]
        errors = [float(model.netP(image)) - r.label for image, r in zip(images, rows, strict=True)]
    errors = list(by_group(errors, [r.patient for r in rows]).values())         # of a patient's mean answer
    found = model.validate(dataset.held_out("val"))
    assert 1 < len(errors) < len(rows)
    assert found["val_mse_patient"] == pytest.approx(sum(e * e for e in errors) / len(errors), rel=1e-4)
    assert found["val_mae_patient"] == pytest.approx(sum(map(abs, errors)) / len(errors), rel=1e-4)


@pytest.mark.parametrize("words, facts, message", [
    ("--lambda_pred 0.1", Facts(labels_known=0), "no training image under .* has a label.*--lambda_pred 0"),
    ("--push_ramp 1.5", FACTS, "--push_ramp: 1.5 is out of range, it must be at least 0 and at most 1"),
    ("--lambda_pred nan", FACTS, "--lambda_pred: nan is out of range"),
    ("--lambda_A -1", FACTS, "--lambda_A: -1 is out of range"),
    ("--lr_P -1", FACTS, "--lr_P: -1 is out of range"),
    ("--lambda_pred 0.1 --batch_size 1", FACTS, "predictor cannot train on single images of 32x32"),
    ("--task classification", Facts(labels_known=0), "classes"),
])
def test_impossible_runs_are_refused(options, words, facts, message):
    with pytest.raises(UserError, match=message):
        create_model(options(f"--model duiit {words}", facts=facts))
