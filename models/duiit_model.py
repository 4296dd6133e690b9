"""DUIIT: translation and prediction learned together (Eqs. 2 and 3 of the paper).

    L_pred = sum_s l(P(G(y)), r_y) + sum_t l(P(x), r_x)            L = L_trans + lambda_pred L_pred

The point is that L_pred reaches the generator: translated images are pushed to keep what their label can be read from.
`--guidance` says through which predictor: `joint` (the paper: P learns from both terms while G is pushed through it),
`real` (P learns from real target images only, and G is pushed through that P, so the two cannot agree on a code of
their own), `detached` (no push: a CycleGAN with a predictor trained beside it).
"""
from models import networks, prediction
from models.cycle_gan_model import CycleGANModel
from util.errors import UserError


class DuiitModel(CycleGANModel):
    @staticmethod
    def modify_commandline_options(parser, is_train):
        parser = CycleGANModel.modify_commandline_options(parser, is_train)
        parser.set_defaults(dataset_mode="cross_modality", input_nc=1, output_nc=1)
        prediction.add_options(parser)
        if is_train:
            # Eq. 1 has no identity term, and the paper trains with batches of 16.
            parser.set_defaults(lambda_identity=0.0, batch_size=16)
            parser.add_argument("--lambda_pred", type=float, default=0.001,
                                help="weight of the prediction loss, which is in squared label units")
            parser.add_argument("--guidance", default="joint", choices=["joint", "real", "detached"],
                                help="through which predictor the generator is pushed to keep the label")
            parser.add_argument("--lr_P", type=float, default=0.001, help="learning rate of the predictor")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.model_names.append("P")
        self.netP = prediction.make_predictor(opt, opt.output_nc).to(self.device)
        if self.isTrain:
            if opt.lambda_pred < 0:
                raise UserError(f"--lambda_pred {opt.lambda_pred}: a weight cannot be below 0")
            if opt.lambda_pred > 0:
                prediction.refuse_without_labels(opt, "add a labels.csv, or train without one by --lambda_pred 0")
                prediction.check_crop(opt)
            self.loss_names += ["P_real", "P_fake"]
            self.criterionP = networks.PredictionLoss(opt.task, opt.loss_P).to(self.device)
            self.optimizer_P = self._adam(["P"], opt)
            for group in self.optimizer_P.param_groups:
                group["lr"] = opt.lr_P
            self.optimizers.append(self.optimizer_P)

    def generator_terms(self):
        """Yields scalars that sum up to L (Eq. 3) of this batch: lambda_pred L_pred and the terms of L_trans."""
        self.loss_P_real = self.loss_P_fake = 0.0
        if self.opt.lambda_pred > 0 and self.label_B is not None:
            self.loss_P_real = self.criterionP(self.netP(self.real_B), self.label_B)
            yield self.opt.lambda_pred * self.loss_P_real
        yield from super().generator_terms()

    def _cycle_A_term(self, b):
        """With L_pred's share of the translated images: the mean over the labelled ones of this source."""
        translation = super()._cycle_A_term(b)
        if self.opt.lambda_pred == 0 or getattr(self, f"label_A{b}") is None:
            return translation
        loss = self._fake_loss(getattr(self, f"fake_B{b}"), getattr(self, f"label_A{b}"))
        self.loss_P_fake += loss.detach()
        return translation + self.opt.lambda_pred * loss

    def _fake_loss(self, fake, label):
        if self.opt.guidance == "joint":
            return self.criterionP(self.netP(fake), label)
        if self.opt.guidance == "detached":
            return self.criterionP(self.netP(fake.detach()), label)
        # real: P as it would answer for a new patient (running statistics), and nothing of this reaches P's weights.
        self.set_requires_grad(self.netP, False)
        self.netP.eval()
        loss = self.criterionP(self.netP(fake), label)
        self.netP.train()
        self.set_requires_grad(self.netP, True)
        return loss

    def optimize_parameters(self):
        self.optimizer_P.zero_grad()
        super().optimize_parameters()
        self.optimizer_P.step()

    def validate(self, dataset):
        return prediction.validate(self.netP, dataset, self.opt.task, self.device) if self.opt.lambda_pred > 0 else {}

    def predictor(self):
        """The network that reads the label from target images."""
        return self.netP
