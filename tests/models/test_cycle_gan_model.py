"""Eq. 1 on numbers worked out by hand (see the `toy` fixture), and on tiny networks through the real loader."""
import random

import pytest
import torch

from duiit.util.errors import UserError


def loss(model, name):
    return float(torch.as_tensor(getattr(model, f"loss_{name}")).detach())


# ---- the generators' loss -------------------------------------------------------------------------------------------

def test_each_part_of_the_generators_loss(toy):
    model = toy("--model cycle_gan --lambda_identity 0.5")
    model.backward_G()
    losses = {name: loss(model, name) for name in model.loss_names if not name.startswith("D_")}
    assert losses == pytest.approx({
        "G_A": 0.5,             # D_A(fake_B) = 0.2, 0.4: (0.64 + 0.36) / 2
        "cycle_A": 1.5,         # rec_A = 0.3, 0.6 for 0.2, 0.4: 10 * (0.1 + 0.2) / 2
        "idt_A": 0.25,          # G_A(B) = 0.05, 0.15 for 0.1, 0.3: 5 * 0.5 * (0.05 + 0.15) / 2
        "G_B": 0.25,            # D_B(fake_A) = 0.3, 0.9: (0.49 + 0.01) / 2
        "cycle_B": 0.5,         # rec_B = 0.15, 0.45 for 0.1, 0.3: 5 * (0.05 + 0.15) / 2
        "idt_B": 3.0,           # G_B(A) = 0.6, 1.2 for 0.2, 0.4: 10 * 0.5 * (0.4 + 0.8) / 2
    })
    assert float(model.loss_G) == pytest.approx(6.0)


def test_gradient_of_the_generators_loss(toy):
    model = toy("--model cycle_gan --lambda_identity 0")
    model.backward_G()
    # G_A's factor a = 0.5, G_B's g = 3. Adversarial: mean of 2 (2 a y - 1) 2 y = -0.64, -0.96.
    # cycle_A: 10 |a g - 1| y -> 10 g y = 6, 12; cycle_B: 5 |a g - 1| x -> 5 g x = 1.5, 4.5.
    assert float(model.netG_A.factor.grad) == pytest.approx(-0.8 + 9 + 3, rel=1e-5)
    # Adversarial: mean of 2 (g x - 1) x = -0.14, -0.06; cycles: 10 a y = 1, 2 and 5 a x = 0.25, 0.75.
    assert float(model.netG_B.factor.grad) == pytest.approx(-0.1 + 1.5 + 0.5, rel=1e-5)
    assert float(model.loss_G) == pytest.approx(2.75)


def test_identity_terms_are_not_computed_when_off(toy):
    model = toy("--model cycle_gan --lambda_identity 0")
    model.backward_G()
    assert loss(model, "idt_A") == loss(model, "idt_B") == 0
    assert "idt_A" not in model.visual_names and not hasattr(model, "idt_A")


def test_generators_loss_is_upstreams_sum_in_one_graph(make):
    """Term by term, the gradient is that of the whole sum differentiated at once, as the toolkit does."""
    model, loader = make("--model cycle_gan --dataset_mode cross_modality --sources mri --input_nc 1 --output_nc 1")
    model.set_input(next(iter(loader)))
    model.set_requires_grad(model.discriminators, False)
    model.backward_G()
    found = [p.grad.clone() for p in model.netG_A.parameters()]
    model.optimizer_G.zero_grad()
    model.forward()
    gan, l1 = model.criterionGAN, torch.nn.functional.l1_loss
    total = (gan(model.netD_A(model.fake_B), True) + gan(model.netD_B(model.fake_A), True)
             + 10 * l1(model.rec_A, model.real_A) + 10 * l1(model.rec_B, model.real_B)
             + 5 * l1(model.netG_A(model.real_B), model.real_B) + 5 * l1(model.netG_B(model.real_A), model.real_A))
    total.backward()
    assert float(total.detach()) == pytest.approx(float(model.loss_G), rel=1e-5)
    for mine, whole in zip(found, (p.grad for p in model.netG_A.parameters()), strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-3, atol=1e-5)


# ---- the discriminators' loss -----------------------------------------------------------------------------------

def test_discriminators_loss_is_half_the_sum_of_real_and_fake(toy):
    model = toy("--model cycle_gan --pool_size 0")
    model.forward()
    model.backward_D_A()
    model.backward_D_B()
    # D_A: real 0.2, 0.6 -> (0.64 + 0.16) / 2; fake 0.2, 0.4 -> (0.04 + 0.16) / 2.
    assert loss(model, "D_A") == pytest.approx((0.4 + 0.1) / 2)
    # D_B: real 0.2, 0.4 -> (0.64 + 0.36) / 2; fake 0.3, 0.9 -> (0.09 + 0.81) / 2.
    assert loss(model, "D_B") == pytest.approx((0.5 + 0.45) / 2)
    assert model.netG_A.factor.grad is None and model.netG_B.factor.grad is None


def test_discriminators_see_older_translations_from_the_pool(toy, monkeypatch):
    model = toy("--model cycle_gan --pool_size 1")
    model.fake_B_pool.images = [torch.full((1, 1, 32, 32), 0.25)]
    monkeypatch.setattr(random, "uniform", lambda low, high: 1.0)          # always swap
    model.forward()
    model.backward_D_A()
    # The pool answers with 0.25, then with 0.1, which it has just taken in: D_A = 0.5, 0.2 -> (0.25 + 0.04) / 2.
    assert loss(model, "D_A") == pytest.approx((0.4 + 0.145) / 2)


def test_a_step_moves_discriminators_by_their_own_loss_only(make):
    model, loader = make("--model cycle_gan --dataset_mode cross_modality --sources mri --input_nc 1 --output_nc 1")
    model.set_input(next(iter(loader)))
    model.set_requires_grad(model.discriminators, False)
    model.optimizer_G.zero_grad()
    model.backward_G()
    assert all(p.grad is None for p in model.netD_A.parameters())
    model.optimize_parameters()
    assert all(p.requires_grad and p.grad is not None for p in model.netD_A.parameters())


# ---- names and directions -------------------------------------------------------------------------------------------

def test_names_are_the_toolkits(options):
    from duiit.models import create_model
    model = create_model(options("--model cycle_gan --lambda_identity 0.5"))
    assert model.loss_names == ["D_A", "G_A", "cycle_A", "idt_A", "D_B", "G_B", "cycle_B", "idt_B"]
    assert model.visual_names == ["real_A", "fake_B", "rec_A", "idt_B", "real_B", "fake_A", "rec_B", "idt_A"]
    assert model.model_names == ["G_A", "G_B", "D_A", "D_B"]


def test_networks_fit_the_channels(options):
    from duiit.models import create_model
    model = create_model(options("--model cycle_gan --lambda_identity 0 --input_nc 2 --output_nc 1"))
    a, b = torch.zeros(1, 2, 32, 32), torch.zeros(1, 1, 32, 32)
    assert model.netG_A(a).shape == b.shape and model.netG_B(b).shape == a.shape
    assert model.netD_A(b).shape[1] == 1 and model.netD_B(a).shape[1] == 1


def test_direction_swaps_images_and_labels(toy):
    model = toy("--model cycle_gan")
    a, b = model.real_A, model.real_B
    model.opt.direction = "BtoA"
    model.set_input({"A": a, "A_label": torch.tensor([1.0, 2.0]), "A_paths": ["a1", "a2"],
                     "B": b, "B_label": torch.tensor([3.0, 4.0]), "B_paths": ["b1", "b2"]})
    assert model.real_A is b and model.real_B is a
    assert model.label_A.tolist() == [3, 4] and model.label_B.tolist() == [1, 2]
    assert model.image_paths == ["b1", "b2"]


def test_batches_without_labels_are_taken(toy):
    model = toy("--model cycle_gan")
    model.set_input({"A": model.real_A, "A_paths": [], "B": model.real_B, "B_paths": []})
    model.backward_G()
    assert float(model.loss_G) > 0


def test_several_sources_cannot_go_backwards(options):
    from duiit.models import create_model
    with pytest.raises(UserError, match="--direction BtoA.*one source"):
        create_model(options("--model cycle_gan --direction BtoA --sources mri,pet"))


@pytest.mark.parametrize("words, message", [
    ("--lambda_identity 0.5 --input_nc 3 --output_nc 1", "--input_nc is 3 and --output_nc 1"),
    ("--crop_size 30", "multiples of 4.*--crop_size"),
    ("--netD basic --crop_size 20", "--netD basic needs images of 24x24"),
])
def test_impossible_settings_are_refused(options, words, message):
    from duiit.models import create_model
    with pytest.raises(UserError, match=message):
        create_model(options(f"--model cycle_gan {words}"))


def test_uncropped_images_that_the_generator_cannot_take_are_refused(options):
    from duiit.models import create_model
    model = create_model(options("--model cycle_gan --preprocess none --netG unet_128"))
    image = torch.zeros(1, 3, 64, 64)
    with pytest.raises(UserError, match="--netG unet_128 takes images.*128.*not 64x64"):
        model.set_input({"A": image, "A_paths": [], "B": image, "B_paths": []})


# ---- several sources ------------------------------------------------------------------------------------------------

def test_several_sources_share_the_target_discriminator(make, steps):
    model, loader = make("--model duiit --sources mri,pet --lambda_pred 0.01 --pool_size 0")
    assert model.model_names == ["G_A_mri", "G_A_pet", "G_B_mri", "G_B_pet", "D_A", "D_B_mri", "D_B_pet", "P"]
    before = {n: [p.detach().clone() for p in model.net(n).parameters()] for n in model.model_names}
    steps(model, loader, 1)
    losses = model.get_current_losses()
    assert {"G_A_mri", "cycle_B_pet", "D_A", "D_B_mri", "P_real", "P_fake"} <= set(losses)
    assert all(torch.isfinite(torch.tensor(v)) for v in losses.values())
    for name in model.model_names:
        changed = [not torch.equal(p, q) for p, q in zip(before[name], model.net(name).parameters(), strict=True)]
        assert any(changed), name
    assert model.translator("pet") is model.netG_A_pet and model.back_translator("mri") is model.netG_B_mri


def test_shared_discriminator_takes_the_mean_over_sources(make):
    model, loader = make("--model cycle_gan --dataset_mode cross_modality --sources mri,pet --input_nc 1 --output_nc 1 "
                         "--pool_size 0")
    model.set_input(next(iter(loader)))
    model.forward()
    model.backward_D_A()
    found = [p.grad.clone() for p in model.netD_A.parameters()]
    single = []
    for source in ("mri", "pet"):
        model.optimizer_D.zero_grad()
        model.backward_D_basic(model.netD_A, model.real_B, getattr(model, f"fake_B_{source}"))
        single.append([p.grad.clone() for p in model.netD_A.parameters()])
    for mean, a, b in zip(found, *single, strict=True):
        torch.testing.assert_close(mean, (a + b) / 2)
