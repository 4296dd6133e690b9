"""CycleGAN: unpaired translation between source A and target B (Eq. 1 of the paper).

    L_trans = L_adv(D_A, G_A) + L_adv(D_B, G_B) + lambda_A |G_B(G_A(a)) - a|_1 + lambda_B |G_A(G_B(b)) - b|_1

Under upstream's names: G_A: A -> B, G_B: B -> A, D_A judges domain B, D_B judges domain A, and idt_A = G_A(b).
With several sources each has networks of its own, G_A_<source>, G_B_<source>, D_B_<source>, and all share D_A, since
what a good target image is does not depend on where it was translated from.
"""
import itertools
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from duiit.models import networks
from duiit.models.base_model import BaseModel
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
            parser.add_argument("--lambda_A", type=float, default=10.0, help="weight of the cycle A -> B -> A")
            parser.add_argument("--lambda_B", type=float, default=10.0, help="weight of the cycle B -> A -> B")
            parser.add_argument("--lambda_identity", type=float, default=0.5,
                                help="identity loss, relative to the cycle's weight; against inverted contrast")
        return parser

    def __init__(self, opt: Namespace) -> None:
        super().__init__(opt)
        sources = opt.sources.split(",") if opt.sources else []
        # The ending of each source's names: none when there is one source, so that the names are upstream's.
        self.branches = [f"_{s}" for s in sources] if len(sources) > 1 else [""]
        if opt.direction == "BtoA" and len(self.branches) > 1:
            raise UserError("--direction BtoA: give one source with --sources, several can only be translated AtoB")
        if opt.isTrain:
            self._check(opt)
        self._name_things()
        self._make_generators(opt)
        if self.isTrain:
            self._make_critics(opt)
            self._make_training(opt)

    def _check(self, opt: Namespace) -> None:
        if "crop" in opt.preprocess:
            self._check_size(opt.crop_size, opt.crop_size)
        if opt.lambda_identity > 0 and opt.input_nc != opt.output_nc:
            raise UserError(f"--lambda_identity {opt.lambda_identity} needs as many channels in as out, but "
                            f"--input_nc is {opt.input_nc} and --output_nc {opt.output_nc}; set it to 0")

    def _check_size(self, height: int, width: int) -> None:
        """UserError where the networks cannot be trained on images of height x width."""
        networks.check_size(self.opt.netG, height, width)
        networks.check_critic_size(self.opt.netD, self.opt.n_layers_D, height, width)

    def _name_things(self) -> None:
        identity = self.isTrain and self.opt.lambda_identity > 0
        self.loss_names = ["D_A"]
        self.visual_names = []
        for b in self.branches:
            self.loss_names += [f"G_A{b}", f"cycle_A{b}", f"idt_A{b}", f"D_B{b}", f"G_B{b}", f"cycle_B{b}", f"idt_B{b}"]
            self.visual_names += [f"real_A{b}", f"fake_B{b}", f"rec_A{b}", *([f"idt_B{b}"] if identity else [])]
        self.visual_names.append("real_B")
        for b in self.branches:
            self.visual_names += [f"fake_A{b}", f"rec_B{b}", *([f"idt_A{b}"] if identity else [])]
        self.model_names = [f"G_A{b}" for b in self.branches] + [f"G_B{b}" for b in self.branches]
        if self.isTrain:
            self.model_names += ["D_A"] + [f"D_B{b}" for b in self.branches]

    def _make_generators(self, opt: Namespace) -> None:
        for name, channels in (("G_A", (opt.input_nc, opt.output_nc)), ("G_B", (opt.output_nc, opt.input_nc))):
            for b in self.branches:
                net = networks.define_G(*channels, opt.ngf, opt.netG, opt.norm, not opt.no_dropout, opt.init_type,
                                        opt.init_gain, self.gpu_ids, upsample=opt.upsample)
                setattr(self, f"net{name}{b}", net)

    def _make_critics(self, opt: Namespace) -> None:
        for name, channels in [("D_A", opt.output_nc)] + [(f"D_B{b}", opt.input_nc) for b in self.branches]:
            net = networks.define_D(channels, opt.ndf, opt.netD, opt.n_layers_D, opt.norm, opt.init_type, opt.init_gain,
                                    self.gpu_ids)
            setattr(self, f"net{name}", net)

    def _make_training(self, opt: Namespace) -> None:
        for b in self.branches:
            setattr(self, f"fake_A_pool{b}", ImagePool(opt.pool_size))
            setattr(self, f"fake_B_pool{b}", ImagePool(opt.pool_size))
        self.criterionGAN = networks.GANLoss(opt.gan_mode).to(self.device)
        self.criterionCycle = torch.nn.L1Loss()
        self.criterionIdt = torch.nn.L1Loss()
        critics = [n for n in self.model_names if n.startswith("D_")]
        generators = [n for n in self.model_names if n.startswith("G_")]
        self.critics = [self.net(n) for n in critics]
        self.optimizer_G = self._adam(generators, opt)
        self.optimizer_D = self._adam(critics, opt)
        self.optimizers = [self.optimizer_G, self.optimizer_D]

    def _adam(self, names: Iterable[str], opt: Namespace) -> torch.optim.Adam:
        parameters = itertools.chain(*(self.net(n).parameters() for n in names))
        return torch.optim.Adam(parameters, lr=opt.lr, betas=(opt.beta1, 0.999), fused=True)

    # -- one step ----------------------------------------------------------------------------------------------

    def set_input(self, input: dict[str, Any]) -> None:             # noqa: A002
        """{A, B (N, C, H, W) in [-1, 1], A_paths, …}, and A_label, B_label (N,) where there are labels. BtoA swaps the
        letters, labels included; with several sources their keys are A_<source>, A_<source>_label, …"""
        a, b = ("B", "A") if self.opt.direction == "BtoA" else ("A", "B")
        for branch in self.branches:
            setattr(self, f"real_A{branch}", input[a + branch].to(self.device, non_blocking=True))
            self._take_labels("A" + branch, input, a + branch)
        self.real_B = input[b].to(self.device, non_blocking=True)
        self._take_labels("B", input, b)
        self.image_paths = input[f"{a}{self.branches[0]}_paths"]
        if self.isTrain and "crop" not in self.opt.preprocess:          # then each image has its own size
            for image in (self.real_B, *(getattr(self, f"real_A{branch}") for branch in self.branches)):
                self._check_size(*image.shape[-2:])

    def _take_labels(self, name: str, batch: Mapping[str, Any], key: str) -> None:
        """Labels are optional: data sets written for the toolkit have none."""
        labels = batch.get(f"{key}_label")
        setattr(self, f"label_{name}", labels.to(self.device, non_blocking=True) if labels is not None else None)

    def forward(self) -> None:
        for b in self.branches:
            self._forward_A(b)
            self._forward_B(b)

    def _forward_A(self, b: str) -> None:
        """From a real source image: fake_B (N, output_nc, H, W) and rec_A (N, input_nc, H, W)."""
        fake = self.net(f"G_A{b}")(getattr(self, f"real_A{b}"))
        setattr(self, f"fake_B{b}", fake)
        setattr(self, f"rec_A{b}", self.net(f"G_B{b}")(fake))

    def _forward_B(self, b: str) -> None:
        """From a real target image: fake_A (N, input_nc, H, W) and rec_B (N, output_nc, H, W)."""
        fake = self.net(f"G_B{b}")(self.real_B)
        setattr(self, f"fake_A{b}", fake)
        setattr(self, f"rec_B{b}", self.net(f"G_A{b}")(fake))

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
        opt = self.opt
        for b in self.branches:
            yield self._cycle_A_term(b)
            yield self._cycle_B_term(b)
            setattr(self, f"loss_idt_A{b}", 0.0)
            setattr(self, f"loss_idt_B{b}", 0.0)
            if opt.lambda_identity > 0:
                yield self._identity_term(f"idt_A{b}", self.net(f"G_A{b}"), self.real_B, opt.lambda_B)
                yield self._identity_term(f"idt_B{b}", self.net(f"G_B{b}"), getattr(self, f"real_A{b}"), opt.lambda_A)

    def _cycle_A_term(self, b: str) -> torch.Tensor:
        self._forward_A(b)
        fake, rec, real = (getattr(self, name + b) for name in ("fake_B", "rec_A", "real_A"))
        term = self._adversarial_and_cycle(f"A{b}", self.netD_A, fake, rec, real, self.opt.lambda_A)
        self._measure(f"adversarial{b}", getattr(self, f"loss_G_A{b}"), self.net(f"G_A{b}"))
        self._measure(f"cycle{b}", getattr(self, f"loss_cycle_A{b}"), self.net(f"G_A{b}"))
        return term

    def _cycle_B_term(self, b: str) -> torch.Tensor:
        self._forward_B(b)
        fake, rec = (getattr(self, name + b) for name in ("fake_A", "rec_B"))
        return self._adversarial_and_cycle(f"B{b}", self.net(f"D_B{b}"), fake, rec, self.real_B, self.opt.lambda_B)

    def _adversarial_and_cycle(self, name: str, critic: torch.nn.Module, fake: torch.Tensor, rec: torch.Tensor,
                               real: torch.Tensor, weight: float) -> torch.Tensor:
        adversarial = self.criterionGAN(critic(fake), True)
        cycle = self.criterionCycle(rec, real) * weight
        setattr(self, f"loss_G_{name}", adversarial)
        setattr(self, f"loss_cycle_{name}", cycle)
        return adversarial + cycle

    def _measure(self, name: str, term: torch.Tensor, generator: torch.nn.Module) -> None:
        """In the steps that are measured: the length of the gradient of one term of the loss, as norm_<name>."""
        if self.measuring and term.requires_grad:
            gradients = torch.autograd.grad(term, list(generator.parameters()), retain_graph=True, allow_unused=True)
            found = [g for g in gradients if g is not None]
            if found:                           # a detached translation's term does not reach the generator
                self.term_norms[name] = torch.nn.utils.get_total_norm(found)

    def _identity_term(self, name: str, generator: torch.nn.Module, real: torch.Tensor, weight: float) -> torch.Tensor:
        image = generator(real)
        loss = self.criterionIdt(image, real) * weight * self.opt.lambda_identity
        setattr(self, name, image)
        setattr(self, f"loss_{name}", loss)
        return loss

    def backward_D_basic(self, netD: torch.nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """Half the sum of the critic's loss on real and on translated images; the half slows critics down."""
        loss = (self.criterionGAN(netD(real), True) + self.criterionGAN(netD(fake.detach()), False)) * 0.5
        if self.opt.gan_mode == "wgangp":
            loss = loss + networks.cal_gradient_penalty(netD, real, fake.detach(), self.device)[0]
        loss.backward()
        return loss

    def backward_D_A(self) -> None:
        """The shared critic sees each source's translations; the mean keeps its scale whatever their number."""
        losses = [self.backward_D_basic(self.netD_A, self.real_B, getattr(self, f"fake_B_pool{b}").query(
            getattr(self, f"fake_B{b}"))) for b in self.branches]
        if len(losses) > 1:
            for parameter in self.netD_A.parameters():
                if parameter.grad is not None:
                    parameter.grad /= len(losses)
        self.loss_D_A = sum(losses) / len(losses)

    def backward_D_B(self) -> None:
        for b in self.branches:
            fake = getattr(self, f"fake_A_pool{b}").query(getattr(self, f"fake_A{b}"))
            loss = self.backward_D_basic(self.net(f"D_B{b}"), getattr(self, f"real_A{b}"), fake)
            setattr(self, f"loss_D_B{b}", loss)

    def optimize_parameters(self) -> None:
        if type(self).backward_G is not CycleGANModel.backward_G:
            self.forward()                  # a plug-in's own loss finds fake_B and the others ready, as upstream's does
        self.set_requires_grad(self.critics, False)
        self.optimizer_G.zero_grad()
        self.backward_G()
        self.optimizer_G.step()
        self.set_requires_grad(self.critics, True)
        self.optimizer_D.zero_grad()
        self.backward_D_A()
        self.backward_D_B()
        self.optimizer_D.step()

    # -- for the commands --------------------------------------------------------------------------------------

    def translator(self, source: str) -> torch.nn.Module:
        """The generator that turns images of `source` into target images."""
        return self.net(f"G_A_{source}" if len(self.branches) > 1 else "G_A")

    def back_translator(self, source: str) -> torch.nn.Module:
        """The generator that turns target images into images of `source`."""
        return self.net(f"G_B_{source}" if len(self.branches) > 1 else "G_B")
