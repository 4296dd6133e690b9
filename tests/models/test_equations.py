"""The models against a second, plain implementation of the paper's equations.

Nothing of models/ is used here but the factories of networks: the losses, the pool, the discriminators' and the
predictor's steps are written down from section 3, each as one sum in one graph. Both make several steps on
the same batches, in double precision, and end with the same weights.
"""
import copy
import random

import pytest
import torch

from duiit.models import create_model
from duiit.util.facts import Facts

SOURCES = ["mri", "pet"]
STEPS, BATCH = 4, 3
SCORE = Facts(labels_known=9, label_mean=50.0, label_std=10.0)


def batches(seed=0):
    """x, y of each source, r_x, r_y of each source: images in [-1, 1] and labels, some unknown."""
    drawn = torch.Generator().manual_seed(seed)

    def images():
        return torch.rand(BATCH, 1, 32, 32, generator=drawn, dtype=torch.float64) * 2 - 1

    def labels():
        values = torch.rand(BATCH, generator=drawn, dtype=torch.float64) * 40 + 30
        return torch.where(torch.arange(BATCH) == int(values[0]) % BATCH, torch.nan, values)
    return [(images(), [images() for _ in SOURCES], labels(), [labels() for _ in SOURCES]) for _ in range(STEPS)]


# ---- the equations --------------------------------------------------------------------------------------------------

class Plain:
    """Section 3: one G, F, D_s a source; D_t and P."""

    def __init__(self, model, opt):
        self.opt = opt
        nets = {n: copy.deepcopy(model.net(n)) for n in model.model_names}
        self.G, self.F, self.D_s = ([nets[f"{kind}_{s}"] for s in SOURCES] for kind in ("G_A", "G_B", "D_B"))
        self.D_t, self.P, self.nets = nets["D_A"], nets.get("P"), nets
        self.of_G, self.of_D = self.adam(*self.G, *self.F), self.adam(self.D_t, *self.D_s)
        self.of_P = self.adam(self.P, lr=opt.lr_P) if self.P else None
        self.past_x, self.past_y = [[] for _ in SOURCES], [[] for _ in SOURCES]

    def adam(self, *nets, lr=None):
        return torch.optim.Adam([p for net in nets for p in net.parameters()], lr or self.opt.lr, (0.5, 0.999))

    def step(self, x, ys, r_x, r_ys):
        fakes_x, fakes_y = self.generators(x, ys, r_x, r_ys)
        self.discriminators(x, ys, fakes_x, fakes_y)

    def generators(self, x, ys, r_x, r_ys):
        """G and F descend L (Eq. 3), P its prediction terms, with the discriminators as they are."""
        fakes_x = [G(y) for G, y in zip(self.G, ys, strict=True)]
        fakes_y = [back(x) for back in self.F]
        lambda_y, lambda_x = self.opt.lambda_A, self.opt.lambda_B
        L = 0                                                                         # Eq. 1
        for G, back, D_s, y, fake_x, fake_y in zip(self.G, self.F, self.D_s, ys, fakes_x, fakes_y, strict=True):
            L = L + (self.D_t(fake_x) - 1).square().mean() + (D_s(fake_y) - 1).square().mean()
            L = L + lambda_y * (back(fake_x) - y).abs().mean() + lambda_x * (G(fake_y) - x).abs().mean()
        if self.P:
            L = L + self.opt.lambda_pred * self.prediction(x, fakes_x, r_x, r_ys)     # Eq. 3
        discriminators = [p for D in (self.D_t, *self.D_s) for p in D.parameters()]
        self.descend(L, [self.of_G, self.of_P] if self.P else [self.of_G], discriminators)
        return [f.detach() for f in fakes_x], [f.detach() for f in fakes_y]

    def prediction(self, x, fakes_x, r_x, r_ys):
        """L_pred (Eq. 2), whose gradient reaches P from real and translated images, and G through a P whose batch norm
        has running statistics (--guidance joint --push running). Only real images move these."""
        loss = squared(self.P(x), r_x)
        kept = {k: v.clone() for k, v in self.P.named_buffers()}
        for fake, r in zip(fakes_x, r_ys, strict=True):
            loss = loss + squared(self.P(fake.detach()), r)                           # what P learns
            for name, value in self.P.named_buffers():
                value.data = kept[name].clone()
            loss = loss + squared(frozen(self.P)(fake), r)                            # what G learns
        return loss

    def discriminators(self, x, ys, fakes_x, fakes_y):
        """Half the squared error on real and on past translations, the mean over sources for the one they share."""
        loss = 0
        for past, fake in zip(self.past_x, fakes_x, strict=True):
            loss = loss + self.discriminator(self.D_t, x, self.pooled(past, fake)) / len(ys)
        for D_s, y, past, fake in zip(self.D_s, ys, self.past_y, fakes_y, strict=True):
            loss = loss + self.discriminator(D_s, y, self.pooled(past, fake))
        self.descend(loss, [self.of_D])

    @staticmethod
    def discriminator(D, real, fake):
        return ((D(real) - 1).square().mean() + D(fake).square().mean()) / 2

    def pooled(self, past, fakes):
        """Shrivastava et al.: until the pool is full what comes in goes out; then half of it is exchanged."""
        given = []
        for fake in fakes.split(1):
            if len(past) < self.opt.pool_size:
                past.append(fake)
            elif random.uniform(0, 1) > 0.5:
                place = random.randint(0, self.opt.pool_size - 1)
                past[place], fake = fake, past[place]
            given.append(fake)
        return torch.cat(given)

    @staticmethod
    def descend(loss, optimizers, others=()):
        """One step of the optimizers down `loss`; the parameters in `others` have no part in it."""
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        for parameter in others:
            parameter.grad = None


def squared(answers, labels):
    """The mean squared error over the labelled images, in squared label units."""
    known = ~labels.isnan()
    return (answers[known] - labels[known]).square().mean()


def frozen(net):
    """A copy of a network that answers as for a new image; what is learned through it does not reach it."""
    return copy.deepcopy(net).eval().requires_grad_(False)


# ---- both -----------------------------------------------------------------------------------------------------------

@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("words", [
    "--model cycle_gan --input_nc 1 --output_nc 1 --lambda_identity 0",
    "--model duiit --lambda_pred 0.01 --guidance joint --push running --push_ramp 0"])
def test_steps_are_those_of_the_equations(options, double, words):
    opt = options(f"{words} --lambda_A 10 --lambda_B 5 --pool_size 4 --lr 0.0002 --batch_size {BATCH}",
                  sources=",".join(SOURCES), facts=SCORE)
    torch.manual_seed(0)
    model = create_model(opt)
    model.setup(opt)
    plain = Plain(model, opt)
    start = {n: copy.deepcopy(net.state_dict()) for n, net in plain.nets.items()}
    random.seed(0)
    for x, ys, r_x, r_ys in batches():
        plain.step(x, ys, r_x, r_ys)
    random.seed(0)
    for x, ys, r_x, r_ys in batches():
        of_sources = {f"A_{s}{key}": value for s, y, r in zip(SOURCES, ys, r_ys, strict=True)
                      for key, value in (("", y), ("_label", r), ("_paths", []))}
        model.set_input({"B": x, "B_label": r_x, "B_paths": [], **of_sources})
        model.optimize_parameters()
    for name, net in plain.nets.items():
        moved = False
        for key, value in model.net(name).state_dict().items():
            # Gradients are added up in another order. In double precision that is nothing, but for biases before an
            # instance norm: their true gradient is 0, and Adam makes steps of up to lr of any rounding that is left.
            tolerance = 2 * opt.lr * STEPS if idle(net, key) else 1e-9 * max(1.0, float(value.abs().max()))
            assert (net.state_dict()[key] - value).abs().max() <= tolerance, f"{name}.{key}"
            moved |= not torch.equal(start[name][key], value)
        assert moved, name


def idle(net, key):
    """True for the bias of a convolution whose output an instance norm takes the mean from."""
    layers = list(net.named_modules())
    norm_after = {name for (name, layer), (_, following) in zip(layers, layers[1:], strict=False)
                  if isinstance(following, torch.nn.InstanceNorm2d) and hasattr(layer, "bias")}
    return key.endswith(".bias") and key.removesuffix(".bias") in norm_after
