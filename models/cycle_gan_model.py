"""CycleGAN: unpaired translation between sources y and a target x (section 3 of the paper, Eq. 1).

    L_trans = sum over sources of   L_adv(D_t, G) + L_adv(D_s, F) + lambda_A |F(G(y)) - y|_1 + lambda_B |G(F(x)) - x|_1

Each source has a G: source -> target, an F: target -> source and a discriminator D_s of its own (a Pair). All share
D_t, since what a good target image is does not depend on where it was translated from. To the toolkit, logs and
checkpoints the source is A and the target B, G is netG_A, F netG_B, D_t netD_A and
D_s netD_B (models/parts/pair.py has every name).
"""
import itertools
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from duiit.models import networks
from duiit.models.base_model import BaseModel
from duiit.models.parts.pair import Pair, sources_of
from duiit.util.bounds import WEIGHT
from duiit.util.errors import UserError
from duiit.util.image_pool import ImagePool


class CycleGANModel(BaseModel):
    netD_A: torch.nn.Module

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(no_dropout=True)        # as upstream: the CycleGAN paper uses none
        parser.add_argument("--upsample", default="transposed", choices=["transposed", "resize"],
                            help="how the generator enlarges: resize avoids checkerboards")
        if is_train:
            parser.add_argument("--lambda_A", type=WEIGHT, default=10.0, help="weight of the cycle A -> B -> A")
            parser.add_argument("--lambda_B", type=WEIGHT, default=10.0, help="weight of the cycle B -> A -> B")
            parser.add_argument("--lambda_identity", type=WEIGHT, default=0.5,
                                help="identity loss, relative to the cycle's weight; against inverted contrast")
        return parser

    def __init__(self, opt: Namespace) -> None:
        super().__init__(opt)
        self.pairs = sources_of(self, Pair)
        if opt.direction == "BtoA" and len(self.pairs) > 1:
            raise UserError("--direction BtoA: give one source with --sources, several can only be translated AtoB")
        if opt.isTrain:
            self.check_options(opt)
        self._name_things()
        self._make_generators(opt)
        if self.isTrain:
            self._make_discriminators(opt)
            self._make_training(opt)

    @classmethod
    def check_options(cls, opt: Namespace) -> None:
        networks.size_multiple(opt.netG)
        if "crop" in opt.preprocess:
            cls._check_size(opt, opt.crop_size, opt.crop_size)
        if opt.lambda_identity > 0 and opt.input_nc != opt.output_nc:
            raise UserError(f"--lambda_identity {opt.lambda_identity} needs as many channels in as out, but "
                            f"--input_nc is {opt.input_nc} and --output_nc {opt.output_nc}; set it to 0")

    @staticmethod
    def _check_size(opt: Namespace, height: int, width: int) -> None:
        """UserError where the networks cannot be trained on images of height x width."""
        networks.check_size(opt.netG, height, width)
        networks.check_discriminator_size(opt.netD, opt.n_layers_D, height, width)

    def _name_things(self) -> None:
        """What is logged, shown and saved, in the toolkit's order."""
        identity = self.isTrain and self.opt.lambda_identity > 0

        def of_all(*names: str) -> list[str]:
            return [name for pair in self.pairs for name in pair.named(*names)]

        self.loss_names = ["D_A", *of_all("G_A", "cycle_A", "idt_A", "D_B", "G_B", "cycle_B", "idt_B")]
        self.visual_names = [*of_all("real_A", "fake_B", "rec_A", *(["idt_B"] if identity else [])), "real_B",
                             *of_all("fake_A", "rec_B", *(["idt_A"] if identity else []))]
        self.model_names = [*of_all("G_A"), *of_all("G_B")]
        if self.isTrain:
            self.model_names += ["D_A", *of_all("D_B")]

    def _make_generators(self, opt: Namespace) -> None:
        for pair in self.pairs:
            pair.G = self._generator(opt.input_nc, opt.output_nc)
        for pair in self.pairs:
            pair.F = self._generator(opt.output_nc, opt.input_nc)

    def _generator(self, channels_in: int, channels_out: int) -> nn.Module:
        opt = self.opt
        return networks.define_G(channels_in, channels_out, opt.ngf, opt.netG, opt.norm, not opt.no_dropout,
                                 opt.init_type, opt.init_gain, self.gpu_ids, upsample=opt.upsample)

    def _make_discriminators(self, opt: Namespace) -> None:
        self.netD_A = self._discriminator(opt.output_nc)                       # D_t
        for pair in self.pairs:
            pair.D_s = self._discriminator(opt.input_nc)

    def _discriminator(self, channels: int) -> nn.Module:
        opt = self.opt
        return networks.define_D(channels, opt.ndf, opt.netD, opt.n_layers_D, opt.norm, opt.init_type, opt.init_gain,
                                 self.gpu_ids)

    def _make_training(self, opt: Namespace) -> None:
        for pair in self.pairs:
            pair.fake_y_pool = ImagePool(opt.pool_size)
            pair.fake_x_pool = ImagePool(opt.pool_size)
        self.criterionGAN = networks.GANLoss(opt.gan_mode).to(self.device)
        self.criterionCycle = torch.nn.L1Loss()
        self.criterionIdt = torch.nn.L1Loss()
        self.discriminators = [self.netD_A, *(pair.D_s for pair in self.pairs)]
        self.optimizer_G = self._adam([*(pair.G for pair in self.pairs), *(pair.F for pair in self.pairs)], opt.lr)
        self.optimizer_D = self._adam(self.discriminators, opt.lr)
        self.optimizers = [self.optimizer_G, self.optimizer_D]

    def _adam(self, nets: Iterable[nn.Module], lr: float) -> torch.optim.Adam:
        parameters = itertools.chain(*(net.parameters() for net in nets))
        return torch.optim.Adam(parameters, lr=lr, betas=(self.opt.beta1, 0.999), fused=True)

    # -- one step ----------------------------------------------------------------------------------------------

    def set_input(self, input: Mapping[str, Any]) -> None:     # noqa: A002
        """{A, B (N, C, H, W) in [-1, 1], A_paths, …}, and A_label, B_label (N,) where there are labels. BtoA swaps the
        letters, labels included; with several sources their keys are A_<source>, A_<source>_label, …"""
        a, b = ("B", "A") if self.opt.direction == "BtoA" else ("A", "B")
        for pair in self.pairs:
            pair.forget()
            pair.y = input[f"{a}{pair}"].to(self.device, non_blocking=True)
            pair.r_y = self._labels(input, f"{a}{pair}")
        self.real_B = input[b].to(self.device, non_blocking=True)                                          # x
        self.label_B = self._labels(input, b)                                                              # r_x
        self.image_paths = input[f"{a}{self.pairs[0]}_paths"]
        if self.isTrain and "crop" not in self.opt.preprocess:          # then each image has its own size
            for image in (self.real_B, *(pair.y for pair in self.pairs)):
                self._check_size(self.opt, *image.shape[-2:])

    def _labels(self, batch: Mapping[str, Any], key: str) -> torch.Tensor | None:
        """(N,), or None: labels are optional, data sets written for the toolkit have none."""
        labels = batch.get(f"{key}_label")
        return labels.to(self.device, non_blocking=True) if labels is not None else None

    def forward(self) -> None:
        """The translations of the batch: fake_B, rec_A, fake_A and rec_B of every pair.

        Where gradients are recorded each is made when it is first asked for (see __getattr__), by a term of the loss
        or by a plug-in's own backward_G. A plug-in's own forward makes them itself, and the loss is of those.
        """
        for pair in self.pairs:
            pair.forget()
            if not torch.is_grad_enabled():
                pair.translate()
                pair.translate_back()

    def __getattr__(self, name: str) -> Any:
        """A translation that is asked for and not there yet; Python comes here for attributes that it did not find."""
        for pair in vars(self).get("pairs", ()):
            if name in pair.passes():
                pair.passes()[name]()
                return vars(self)[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def backward_G(self) -> None:
        """Gradients of the generators' loss, and its value as loss_G.

        Its terms have nothing in common but the weights, so each is computed and differentiated before the next: only
        the activations of two passes through a generator are in memory at once, whatever the number of sources.
        """
        self.loss_G: torch.Tensor | float = 0.0
        self.term_norms.clear()
        for term in self.generator_terms():
            term.backward()
            self.loss_G += term.detach()

    def generator_terms(self) -> Iterator[torch.Tensor]:
        """Yields scalars that sum up to L_trans (Eq. 1) of this batch, over all sources; each part is kept as
        `loss_<name>`. A subclass adds what its generators are to minimise besides."""
        for pair in self.pairs:
            yield self.source_term(pair)
            yield self.target_term(pair)
            pair.loss_idt_x = pair.loss_idt_y = 0.0
            if self.opt.lambda_identity > 0:
                yield self._identity_x_term(pair)
                yield self._identity_y_term(pair)

    def source_term(self, pair: Pair) -> torch.Tensor:
        """Of Eq. 1 what starts from the source's images: L_adv(D_t, G) + lambda_A |F(G(y)) - y|_1."""
        pair.loss_G = self.criterionGAN(self.netD_A(pair.fake_x), True)
        pair.loss_cycle_y = self.criterionCycle(pair.rec_y, pair.y) * self.opt.lambda_A
        self._measure(f"adversarial{pair}", pair.loss_G, pair.G)
        self._measure(f"cycle{pair}", pair.loss_cycle_y, pair.G)
        return pair.loss_G + pair.loss_cycle_y

    def target_term(self, pair: Pair) -> torch.Tensor:
        """Of Eq. 1 what starts from the target's images: L_adv(D_s, F) + lambda_B |G(F(x)) - x|_1."""
        pair.loss_F = self.criterionGAN(pair.D_s(pair.fake_y), True)
        pair.loss_cycle_x = self.criterionCycle(pair.rec_x, pair.x) * self.opt.lambda_B
        return pair.loss_F + pair.loss_cycle_x

    def _identity_x_term(self, pair: Pair) -> torch.Tensor:
        """lambda_identity lambda_B |G(x) - x|_1: not in the paper, and the toolkit's default."""
        pair.idt_x = pair.G(pair.x)                                     # (N, output_nc, H, W)
        pair.loss_idt_x = self.criterionIdt(pair.idt_x, pair.x) * self.opt.lambda_B * self.opt.lambda_identity
        return pair.loss_idt_x

    def _identity_y_term(self, pair: Pair) -> torch.Tensor:
        """lambda_identity lambda_A |F(y) - y|_1."""
        pair.idt_y = pair.F(pair.y)                                     # (N, input_nc, H, W)
        pair.loss_idt_y = self.criterionIdt(pair.idt_y, pair.y) * self.opt.lambda_A * self.opt.lambda_identity
        return pair.loss_idt_y

    def _measure(self, name: str, term: torch.Tensor, generator: nn.Module) -> None:
        """In the steps that are measured: the length of the gradient of one term of the loss, as norm_<name>."""
        if self.measuring and term.requires_grad:
            gradients = torch.autograd.grad(term, list(generator.parameters()), retain_graph=True, allow_unused=True)
            found = [g for g in gradients if g is not None]
            if found:                           # a detached translation's term does not reach the generator
                self.term_norms[name] = torch.nn.utils.get_total_norm(found)

    def backward_D_basic(self, netD: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """Half the sum of the discriminator's loss on real and on translated images; the half slows it down."""
        loss = (self.criterionGAN(netD(real), True) + self.criterionGAN(netD(fake.detach()), False)) * 0.5
        if self.opt.gan_mode == "wgangp":
            loss = loss + networks.cal_gradient_penalty(netD, real, fake.detach(), self.device)[0]
        loss.backward()
        return loss

    def backward_D_A(self) -> None:
        """D_t sees each source's translations; the mean keeps its scale whatever their number."""
        before = [(p, p.grad) for p in self.netD_A.parameters()]        # of the batches before, with --accumulate
        self.netD_A.zero_grad()
        losses = [self.backward_D_basic(self.netD_A, self.real_B, pair.fake_x_pool.query(pair.fake_x))
                  for pair in self.pairs]
        for parameter, gradient in before:
            if parameter.grad is not None and len(losses) > 1:
                parameter.grad /= len(losses)
            if parameter.grad is not None and gradient is not None:
                parameter.grad += gradient
        self.loss_D_A = sum(losses) / len(losses)

    def backward_D_B(self) -> None:
        for pair in self.pairs:
            pair.loss_D_s = self.backward_D_basic(pair.D_s, pair.y, pair.fake_y_pool.query(pair.fake_y))

    def optimize_parameters(self) -> None:
        self.forward()
        self.set_requires_grad(self.discriminators, False)
        self.optimizer_G.zero_grad()
        self.backward_G()
        self.optimizer_G.step()
        self.set_requires_grad(self.discriminators, True)
        self.optimizer_D.zero_grad()
        self.backward_D_A()
        self.backward_D_B()
        self.optimizer_D.step()

    # -- for the commands --------------------------------------------------------------------------------------

    def translator(self, source: str) -> nn.Module:
        """The generator that turns images of `source` into target images."""
        return self._pair(source).G

    def back_translator(self, source: str) -> nn.Module:
        """The generator that turns target images into images of `source`."""
        return self._pair(source).F

    def _pair(self, source: str) -> Pair:
        if len(self.pairs) == 1:            # whatever it is called: a run of the toolkit does not say
            return self.pairs[0]
        found = [pair for pair in self.pairs if pair.modality == source]
        if not found:
            raise UserError(f"--source {source}: the run translates {', '.join(p.modality for p in self.pairs)}")
        return found[0]
