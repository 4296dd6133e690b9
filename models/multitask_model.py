"""Multi-task learning: one trunk, a head for the target's labels and one for each source's.

    L = weight_target l(target) + weight_source mean over sources of l(source)

The trunk and the target's head are netP, an ordinary predictor. The heads of the sources (netH, or netH_<source> where
there are several) serve training alone and are left behind when the run is used. A baseline of the paper (Yang and Xie
2020), which starts it from a network trained on the target alone (`--weights_P`).
"""
from argparse import ArgumentParser, Namespace

from duiit.models import networks
from duiit.models.parts import prediction
from duiit.models.parts.pair import Published, Source
from duiit.models.shared_trunk import SharedTrunkModel
from duiit.util.bounds import WEIGHT
from duiit.util.errors import UserError


class LabelledSource(Source):
    """A source with a head of its own on the trunk."""

    H = Published("netH")


class MultitaskModel(SharedTrunkModel):
    kind = LabelledSource

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser = SharedTrunkModel.modify_commandline_options(parser, is_train)
        if is_train:
            prediction.add_training_options(parser, batch_size=32)
            parser.add_argument("--weight_source", type=WEIGHT, default=0.05,
                                help="weight of the sources' prediction loss (the paper: 0.05 for MRI, 0.1 for PET)")
            parser.add_argument("--weight_target", type=WEIGHT, default=0.95,
                                help="weight of the target's prediction loss (the paper: 0.95 with MRI, 0.9 with PET)")
        return parser

    def _check(self, opt: Namespace) -> None:
        super()._check(opt)
        prediction.refuse_without_labels(opt, "add a labels.csv")
        for modality, stats in opt.facts.need("label_stats").items():
            if not stats["known"]:
                raise UserError(f"{modality}: no training image has a label, and --model multitask learns from the "
                                "labels of each modality; add a labels.csv, or leave it out of --sources")

    def _make(self, opt: Namespace) -> None:
        score = self._score_of(opt.target) if self.isTrain else None
        self.netP = prediction.make_predictor(opt, opt.output_nc, score).to(self.device)
        if not self.isTrain:
            return
        self.loss_names = ["P", "P_target", "P_source"]
        for source in self.sources:
            with prediction.own_random_numbers(opt):
                head = networks.LabelHead(self.netP.feature_nc, prediction.classes_of(opt),
                                          *self._score_of(source.modality))
            source.H = head.to(self.device)
            self.model_names.append(f"H{source}")
        self.optimizer_P = prediction.make_optimizer([self.net(n) for n in self.model_names], opt)
        self.optimizers = [self.optimizer_P]

    def _score_of(self, modality: str) -> tuple[float, float]:
        """(mean, deviation) of a modality's own training labels: cohorts differ in age, and so do standard scores.
        Classes have none."""
        stats = self.opt.facts.need("label_stats")[modality]
        return (stats["mean"], stats["std"]) if self.opt.task == "regression" else (0.0, 1.0)

    def optimize_parameters(self) -> None:
        target, *of_sources = self.features().chunk(len(self.images))
        self.loss_P_target = self.criterionP(self.netP.answer(target), self.labels[0])
        losses = [self.criterionP(source.H(features), labels)
                  for source, features, labels in zip(self.sources, of_sources, self.labels[1:], strict=True)]
        self.loss_P_source = sum(losses) / len(losses)
        self.loss_P = self.opt.weight_target * self.loss_P_target + self.opt.weight_source * self.loss_P_source
        self.optimizer_P.zero_grad()
        self.loss_P.backward()
        self.optimizer_P.step()
