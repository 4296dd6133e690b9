"""Models that a plug-in builds on CycleGANModel as it would on the toolkit's: they override its methods, read its names
and set them."""
import pytest
import torch

from duiit.models.cycle_gan_model import CycleGANModel
from duiit.util.image_pool import ImagePool

WORDS = "--model cycle_gan --input_nc 1 --output_nc 1 --lambda_identity 0"
GENERATOR = torch.Generator().manual_seed(3)
BATCH = {"A": torch.rand(2, 1, 32, 32, generator=GENERATOR) * 2 - 1, "A_paths": ["a", "b"],
         "B": torch.rand(2, 1, 32, 32, generator=GENERATOR) * 2 - 1, "B_paths": ["c", "d"]}


def weights(model):
    return {f"{n}.{k}": v.clone() for n in model.model_names for k, v in model.net(n).state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


@pytest.fixture
def after_two_steps(options):
    def run(kind, words=""):
        torch.manual_seed(0)
        opt = options(f"{WORDS} {words}")
        model = kind(opt)
        model.setup(opt)
        for _ in range(2):
            model.set_input(BATCH)
            model.optimize_parameters()
        return model
    return run


class OwnLoss(CycleGANModel):
    """The toolkit's backward_G, word by word: everything in one graph, of images that forward made."""

    def backward_G(self):
        opt = self.opt
        self.loss_G_A = self.criterionGAN(self.netD_A(self.fake_B), True)
        self.loss_G_B = self.criterionGAN(self.netD_B(self.fake_A), True)
        self.loss_cycle_A = self.criterionCycle(self.rec_A, self.real_A) * opt.lambda_A
        self.loss_cycle_B = self.criterionCycle(self.rec_B, self.real_B) * opt.lambda_B
        self.loss_idt_A = self.loss_idt_B = 0
        self.loss_G = self.loss_G_A + self.loss_G_B + self.loss_cycle_A + self.loss_cycle_B
        self.loss_G.backward()


class OwnStep(CycleGANModel):
    """The toolkit's optimize_parameters."""

    def optimize_parameters(self):
        self.forward()
        self.set_requires_grad([self.netD_A, self.netD_B], False)
        self.optimizer_G.zero_grad()
        self.backward_G()
        self.optimizer_G.step()
        self.set_requires_grad([self.netD_A, self.netD_B], True)
        self.optimizer_D.zero_grad()
        self.backward_D_A()
        self.backward_D_B()
        self.optimizer_D.step()


class OwnForward(CycleGANModel):
    """The toolkit's forward, with the translation halved."""

    factor = 0.5

    def forward(self):
        self.fake_B = self.netG_A(self.real_A) * self.factor
        self.rec_A = self.netG_B(self.fake_B)
        self.fake_A = self.netG_B(self.real_B)
        self.rec_B = self.netG_A(self.fake_A)


class Halved(CycleGANModel):
    """Changes what the forward above it made."""

    def forward(self):
        super().forward()
        self.fake_B = self.fake_B * 0.5


class OwnNetwork(CycleGANModel):
    """Puts another network and another pool in the place of ours."""

    def __init__(self, opt):
        super().__init__(opt)
        self.netG_A = torch.nn.Conv2d(1, 1, 3, padding=1)
        self.optimizer_G = torch.optim.SGD([*self.netG_A.parameters(), *self.netG_B.parameters()], lr=0.1)
        self.optimizers[0] = self.optimizer_G
        self.fake_B_pool = ImagePool(1)


def test_an_own_loss_finds_the_images_of_its_batch(after_two_steps):
    plain, own = after_two_steps(CycleGANModel), after_two_steps(OwnLoss)
    assert own.get_current_losses() == pytest.approx(plain.get_current_losses(), rel=1e-3)
    for key, value in weights(plain).items():       # one sum of gradients or the other: rounding, through Adam's root
        torch.testing.assert_close(weights(own)[key], value, rtol=0.05, atol=5e-3)


def test_an_own_step_is_ours_if_it_does_the_same(after_two_steps):
    assert same(weights(after_two_steps(OwnStep)), weights(after_two_steps(CycleGANModel)))


def test_the_loss_is_of_the_images_that_an_own_forward_made(after_two_steps):
    model = after_two_steps(OwnForward)
    assert not same(weights(model), weights(after_two_steps(CycleGANModel)))
    model.set_input(BATCH)
    model.forward()
    expected = model.criterionGAN(model.netD_A(0.5 * model.netG_A(BATCH["A"])), True)
    model.backward_G()
    torch.testing.assert_close(model.loss_G_A, expected)


def test_what_forward_made_can_be_changed(after_two_steps):
    model = after_two_steps(Halved)
    model.set_input(BATCH)
    model.forward()
    translated = model.netG_A(BATCH["A"])
    torch.testing.assert_close(model.fake_B, 0.5 * translated)
    torch.testing.assert_close(model.rec_A, model.netG_B(translated))       # of the translation before the change


def test_a_network_and_a_pool_that_are_put_in_place_are_used(after_two_steps):
    model = after_two_steps(OwnNetwork)
    torch.manual_seed(0)
    assert not torch.equal(model.netG_A.weight.grad, torch.zeros_like(model.netG_A.weight))
    assert len(model.fake_B_pool.images) == 1 and model.pairs[0].G is model.netG_A
    model.set_input(BATCH)
    model.test()
    torch.testing.assert_close(model.fake_B, model.netG_A(BATCH["A"]))
    assert not model.fake_B.requires_grad and not model.rec_B.requires_grad
    assert set(model.pool_state()) == {"fake_A_pool", "fake_B_pool"}
    assert list(model.gradient_norms) == ["G", "D"]


def test_images_of_the_batch_before_are_forgotten(after_two_steps):
    model = after_two_steps(CycleGANModel)
    before = model.fake_B
    model.set_input({**BATCH, "A": BATCH["B"]})
    assert model.fake_B is not before and not torch.equal(model.fake_B, before)


def test_a_name_that_nobody_has_is_an_attribute_error(after_two_steps):
    model = after_two_steps(CycleGANModel)
    with pytest.raises(AttributeError, match="'CycleGANModel' object has no attribute 'fake_C'"):
        _ = model.fake_C
    assert not hasattr(model, "netG_A_mri")
