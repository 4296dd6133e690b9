"""DUIIT: translation and prediction learned together (Eqs. 2 and 3 of the paper).

    L_pred = sum_s l(P(G(y)), r_y) + sum_t l(P(x), r_x)            L = L_trans + lambda_pred L_pred

Each sum is taken as the mean over the labelled images of its modality in the batch.

The point is that L_pred reaches the generator: translated images are pushed to keep what their label can be read from.
`--guidance` says through which predictor: `joint` (the paper: P learns from both terms while G is pushed through it),
`real` (P learns from real target images only, and G is pushed through that P, so the two cannot agree on a code of
their own), `detached` (no push: a CycleGAN with a predictor trained beside it).

The paper does not say how P normalises the images that it pushes G with. `--push batch` is the plain reading of Eq. 3:
one pass of P in training mode teaches P and pushes G. Batch norm over the few images of a batch, whose labels differ
more than the images do, then multiplies the gradient, the more the less P has learned, and lets G answer to its batch
rather than to its image. `--push running` gives P its lesson on detached translations and pushes G through P as it
would answer for a new image. `--push_ramp` lets the push set in with the training rather than through a P that knows
nothing yet.

Whatever the push, P's running statistics are those of real target images alone, which is what P reads when it is
validated, saved, calibrated and used: translations teach its weights and leave no trace in its statistics.
"""
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from duiit.models import networks
from duiit.models.cycle_gan_model import CycleGANModel
from duiit.models.parts import prediction
from duiit.models.parts.pair import Pair
from duiit.util.bounds import SHARE, WEIGHT


class DuiitModel(CycleGANModel):
    label_B: torch.Tensor | None

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser = CycleGANModel.modify_commandline_options(parser, is_train)
        parser.set_defaults(dataset_mode="cross_modality", input_nc=1, output_nc=1)
        prediction.add_options(parser)
        if is_train:
            # Eq. 1 has no identity term, and the paper trains with batches of 16.
            parser.set_defaults(lambda_identity=0.0, batch_size=16)
            parser.add_argument("--lambda_pred", type=WEIGHT, default=0.001,
                                help="weight of the prediction loss, which is in squared label units")
            parser.add_argument("--guidance", default="joint", choices=["joint", "real", "detached"],
                                help="through which predictor the generator is pushed to keep the label")
            parser.add_argument("--push", default="running", choices=["running", "batch"],
                                help="statistics of the predictor's batch norm through which the generator is pushed: "
                                     "running ones, as for a new image, or the batch's (Eq. 3 to the letter)")
            parser.add_argument("--push_ramp", type=SHARE, default=1 / 3, metavar="SHARE",
                                help="share of the epochs in which the push grows from nothing to --lambda_pred "
                                     "(0: full from the start)")
            parser.add_argument("--lr_P", type=WEIGHT, default=0.001, help="learning rate of the predictor")
        return parser

    @classmethod
    def check_options(cls, opt: Namespace) -> None:
        super().check_options(opt)
        if opt.lambda_pred > 0:
            prediction.check_crop(opt)

    @classmethod
    def check_files(cls, opt: Namespace) -> None:
        prediction.check_weights(opt)

    def __init__(self, opt: Namespace) -> None:
        super().__init__(opt)
        self.model_names.append("P")
        self.netP = prediction.make_predictor(opt, opt.output_nc).to(self.device)
        if self.isTrain:
            if opt.lambda_pred > 0:
                prediction.refuse_without_labels(opt, "add a labels.csv, or train without one by --lambda_pred 0")
            self.loss_names += ["P_real", "P_fake"]
            self.loss_P_real = self.loss_P_fake = 0.0
            self.criterionP = networks.PredictionLoss(opt.task, opt.loss_P).to(self.device)
            self.optimizer_P = self._adam([self.netP], opt.lr_P)
            self.optimizers.append(self.optimizer_P)

    def generator_terms(self) -> Iterator[torch.Tensor]:
        """Yields scalars that sum up to L (Eq. 3) of this batch: lambda_pred L_pred and the terms of L_trans. Where G
        is pushed apart from P's lesson on the same translations, both are among them."""
        self.loss_P_real = self.loss_P_fake = 0.0
        if self.opt.lambda_pred > 0 and self.label_B is not None:
            self.loss_P_real = self.criterionP(self.netP(self.real_B), self.label_B)       # l(P(x), r_x)
            yield self.opt.lambda_pred * self.loss_P_real
        elif self.opt.lambda_pred > 0:      # no lesson for P's weights, but its statistics are to be of these images
            with torch.no_grad():
                self.netP(self.real_B)
        yield from super().generator_terms()

    def source_term(self, pair: Pair) -> torch.Tensor:
        """With L_pred's share of the translated images, lambda_pred l(P(G(y)), r_y): the mean over the labelled ones of
        this source (Eq. 2, first sum)."""
        translation = super().source_term(pair)
        if self.opt.lambda_pred == 0 or pair.r_y is None:
            return translation
        prediction_term = self.opt.lambda_pred * self._fake_loss(pair.fake_x, pair.r_y)
        self._measure(f"prediction{pair}", prediction_term, pair.G)
        return translation + prediction_term

    def _fake_loss(self, fake: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """What the translations (N, C, H, W) of one source add to L_pred: P's lesson, G's push, or both in one."""
        if self.opt.guidance == "joint" and self.opt.push == "batch":
            return self._lesson(self._ramped(fake), label)
        if self.opt.guidance == "real":
            return self._push(self._ramped(fake), label)
        lesson = self._lesson(fake.detach(), label)
        return lesson if self.opt.guidance == "detached" else lesson + self._push(self._ramped(fake), label)

    def _ramped(self, fake: torch.Tensor) -> torch.Tensor:
        """The same image, whose gradient is that of the push at this point of the training."""
        ramp = self.opt.push_ramp
        strength = min(1.0, self.share_done / ramp) if ramp else 1.0
        return fake if strength == 1 else fake.detach() + strength * (fake - fake.detach())

    def _lesson(self, fake: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        with networks.running_statistics_kept(self.netP):
            loss = self.criterionP(self.netP(fake), label)
        self.loss_P_fake += loss.detach()
        return loss

    def _push(self, fake: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """l(P(G(y)), r_y) for G alone: nothing of it reaches P's weights or statistics."""
        self.set_requires_grad(self.netP, False)
        self.netP.train(self.opt.push == "batch")
        with networks.running_statistics_kept(self.netP):
            loss = self.criterionP(self.netP(fake), label)
        self.netP.train()
        self.set_requires_grad(self.netP, True)
        if self.opt.guidance == "real":
            self.loss_P_fake += loss.detach()
        return loss

    def optimize_parameters(self) -> None:
        self.optimizer_P.zero_grad()
        super().optimize_parameters()
        self.optimizer_P.step()

    @property
    def validates(self) -> bool:
        return self.opt.lambda_pred > 0

    def validate(self, dataset: Iterable[Mapping[str, Any]]) -> dict[str, float]:
        if self.opt.lambda_pred <= 0:
            return {}
        return prediction.validate(self.netP, dataset, self.opt.task, self.device, self.opt.val_by)

    def predictor(self) -> networks.PredictorNet:
        """The network that reads the label from target images."""
        return self.netP
