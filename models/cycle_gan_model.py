"""CycleGAN: unpaired translation between source A and target B (Eq. 1 of the paper).

    L_trans = L_adv(D_A, G_A) + L_adv(D_B, G_B) + lambda_A |G_B(G_A(a)) - a|_1 + lambda_B |G_A(G_B(b)) - b|_1

Under upstream's names: G_A: A -> B, G_B: B -> A, D_A judges domain B, D_B judges domain A, and idt_A = G_A(b).
With several sources each has networks of its own, G_A_<source>, G_B_<source>, D_B_<source>, and all share D_A, since
what a good target image is does not depend on where it was translated from.
"""
import itertools

import torch

from models import networks
from models.base_model import BaseModel
from util.errors import UserError
from util.image_pool import ImagePool


class CycleGANModel(BaseModel):
    @staticmethod
    def modify_commandline_options(parser, is_train):
        parser.set_defaults(no_dropout=True)        # as upstream: the CycleGAN paper uses none
        parser.add_argument("--upsample", default="transposed", choices=["transposed", "resize"],
                            help="how the generator enlarges: resize avoids checkerboards")
        if is_train:
            parser.add_argument("--lambda_A", type=float, default=10.0, help="weight of the cycle A -> B -> A")
            parser.add_argument("--lambda_B", type=float, default=10.0, help="weight of the cycle B -> A -> B")
            parser.add_argument("--lambda_identity", type=float, default=0.5,
                                help="identity loss, relative to the cycle's weight; against inverted contrast")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        sources = opt.sources.split(",") if opt.sources else []
        # The ending of each source's names: none when there is one source, so that the names are upstream's.
        self.branches = [f"_{s}" for s in sources] if len(sources) > 1 else [""]
        if opt.direction == "BtoA" and len(self.branches) > 1:
            raise UserError("--direction BtoA: give one source with --sources, several can only be translated AtoB")
        self._check(opt)
        self._name_things()
        self._make_generators(opt)
        if self.isTrain:
            self._make_critics(opt)
            self._make_training(opt)

    def _check(self, opt):
        if opt.isTrain:
            size = opt.crop_size if "crop" in opt.preprocess else None
            if size:
                networks.check_size(opt.netG, size, size)
                networks.check_critic_size(opt.netD, opt.n_layers_D, size, size)
            if opt.lambda_identity > 0 and opt.input_nc != opt.output_nc:
                raise UserError(f"--lambda_identity {opt.lambda_identity} needs as many channels in as out, but "
                                f"--input_nc is {opt.input_nc} and --output_nc {opt.output_nc}; set it to 0")

    def _name_things(self):
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

    def _make_generators(self, opt):
        flipped = opt.direction == "BtoA"
        nc_a, nc_b = (opt.output_nc, opt.input_nc) if flipped else (opt.input_nc, opt.output_nc)
        self.nc_a, self.nc_b = nc_a, nc_b
        for name, (nc_in, nc_out) in (("G_A", (nc_a, nc_b)), ("G_B", (nc_b, nc_a))):
            for b in self.branches:
                net = networks.define_G(nc_in, nc_out, opt.ngf, opt.netG, opt.norm, not opt.no_dropout, opt.init_type,
                                        opt.init_gain, self.gpu_ids, upsample=opt.upsample)
                setattr(self, f"net{name}{b}", net)

    def _make_critics(self, opt):
        for name, channels in [("D_A", self.nc_b)] + [(f"D_B{b}", self.nc_a) for b in self.branches]:
            net = networks.define_D(channels, opt.ndf, opt.netD, opt.n_layers_D, opt.norm, opt.init_type, opt.init_gain,
                                    self.gpu_ids)
            setattr(self, f"net{name}", net)

    def _make_training(self, opt):
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

    def _adam(self, names, opt):
        parameters = itertools.chain(*(self.net(n).parameters() for n in names))
        return torch.optim.Adam(parameters, lr=opt.lr, betas=(opt.beta1, 0.999), fused=True)

    # -- one step ----------------------------------------------------------------------------------------------

    def set_input(self, input):             # noqa: A002
        a, b = ("B", "A") if self.opt.direction == "BtoA" else ("A", "B")
        for branch in self.branches:
            setattr(self, f"real_A{branch}", input[a + branch].to(self.device, non_blocking=True))
            self._take_labels("A" + branch, input, a + branch)
        self.real_B = input[b].to(self.device, non_blocking=True)
        self._take_labels("B", input, b)
        self.image_paths = input[f"{a}{self.branches[0]}_paths"]

    def _take_labels(self, name, batch, key):
        """Labels are optional: data sets written for the toolkit have none."""
        labels = batch.get(f"{key}_label")
        setattr(self, f"label_{name}", labels.to(self.device, non_blocking=True) if labels is not None else None)

    def forward(self):
        for b in self.branches:
            G_A, G_B, real_A = self.net(f"G_A{b}"), self.net(f"G_B{b}"), getattr(self, f"real_A{b}")
            fake_B = G_A(real_A)                                    # (N, output_nc, H, W)
            fake_A = G_B(self.real_B)                               # (N, input_nc, H, W)
            for name, image in (("fake_B", fake_B), ("rec_A", G_B(fake_B)), ("fake_A", fake_A), ("rec_B", G_A(fake_A))):
                setattr(self, name + b, image)

    def generator_loss(self):
        """L_trans (Eq. 1) of this batch, summed over the sources; each term is kept as `loss_<name>`."""
        return sum(self._translation_loss(b) for b in self.branches)

    def _translation_loss(self, b):
        opt, real_A = self.opt, getattr(self, f"real_A{b}")
        terms = {
            f"G_A{b}": self.criterionGAN(self.netD_A(getattr(self, f"fake_B{b}")), True),
            f"G_B{b}": self.criterionGAN(self.net(f"D_B{b}")(getattr(self, f"fake_A{b}")), True),
            f"cycle_A{b}": self.criterionCycle(getattr(self, f"rec_A{b}"), real_A) * opt.lambda_A,
            f"cycle_B{b}": self.criterionCycle(getattr(self, f"rec_B{b}"), self.real_B) * opt.lambda_B,
            f"idt_A{b}": 0.0, f"idt_B{b}": 0.0,
        }
        if opt.lambda_identity > 0:
            idt_A, idt_B = self.net(f"G_A{b}")(self.real_B), self.net(f"G_B{b}")(real_A)
            setattr(self, f"idt_A{b}", idt_A)
            setattr(self, f"idt_B{b}", idt_B)
            terms[f"idt_A{b}"] = self.criterionIdt(idt_A, self.real_B) * opt.lambda_B * opt.lambda_identity
            terms[f"idt_B{b}"] = self.criterionIdt(idt_B, real_A) * opt.lambda_A * opt.lambda_identity
        for name, value in terms.items():
            setattr(self, f"loss_{name}", value)
        return sum(terms.values())

    def backward_G(self):
        self.loss_G = self.generator_loss()
        self.loss_G.backward()

    def backward_D_basic(self, netD, real, fake):
        """Half the sum of the critic's loss on real and on translated images; the half slows critics down."""
        loss = (self.criterionGAN(netD(real), True) + self.criterionGAN(netD(fake.detach()), False)) * 0.5
        if self.opt.gan_mode == "wgangp":
            loss = loss + networks.cal_gradient_penalty(netD, real, fake.detach(), self.device)[0]
        loss.backward()
        return loss

    def backward_D_A(self):
        """The shared critic sees each source's translations; the mean keeps its scale whatever their number."""
        losses = [self.backward_D_basic(self.netD_A, self.real_B, getattr(self, f"fake_B_pool{b}").query(
            getattr(self, f"fake_B{b}"))) for b in self.branches]
        if len(losses) > 1:
            for parameter in self.netD_A.parameters():
                parameter.grad /= len(losses)
        self.loss_D_A = sum(losses) / len(losses)

    def backward_D_B(self):
        for b in self.branches:
            fake = getattr(self, f"fake_A_pool{b}").query(getattr(self, f"fake_A{b}"))
            loss = self.backward_D_basic(self.net(f"D_B{b}"), getattr(self, f"real_A{b}"), fake)
            setattr(self, f"loss_D_B{b}", loss)

    def optimize_parameters(self):
        self.forward()
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

    def translator(self, source):
        """The generator that turns images of `source` into target images."""
        return self.net(f"G_A_{source}" if len(self.branches) > 1 else "G_A")

    def back_translator(self, source):
        """The generator that turns target images into images of `source`."""
        return self.net(f"G_B_{source}" if len(self.branches) > 1 else "G_B")
