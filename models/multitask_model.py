"""Multi-task learning: one trunk, a head for the target's labels and one for each source's.

    L = weight_target l(target) + weight_source mean over sources of l(source)

The trunk and the target's head are netP, an ordinary predictor. The heads of the sources (netH, or netH_<source> where
there are several) serve training alone and are left behind when the run is used. A baseline of the paper (Yang and Xie
2020), which starts it from a network trained on the target alone (`--weights_P`).
"""
from argparse import ArgumentParser, Namespace
from typing import Any

from duiit.models import networks
from duiit.models.parts import prediction
from duiit.models.shared_trunk import SharedTrunkModel
from duiit.util.errors import UserError


class MultitaskModel(SharedTrunkModel):
    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser = SharedTrunkModel.modify_commandline_options(parser, is_train)
        if is_train:
            prediction.add_training_options(parser, batch_size=32)
            parser.add_argument("--weight_source", type=float, default=0.05,
                                help="weight of the sources' prediction loss (the paper: 0.05 for MRI, 0.1 for PET)")
            parser.add_argument("--weight_target", type=float, default=0.95,
                                help="weight of the target's prediction loss (the paper: 0.95 with MRI, 0.9 with PET)")
        return parser

    def _check(self, opt: Namespace) -> None:
        super()._check(opt)
        for name in ("weight_source", "weight_target"):
            if getattr(opt, name) < 0:
                raise UserError(f"--{name} {getattr(opt, name)}: a weight cannot be below 0")
        prediction.refuse_without_labels(opt, "add a labels.csv")
        for modality in (opt.target, *self.sources):
            if self._stats_of(modality).get("known") == 0:
                raise UserError(f"{modality}: no training image has a label, and --model multitask learns from the "
                                "labels of each modality; add a labels.csv, or leave it out of --sources")

    def _make(self, opt: Namespace) -> None:
        self.netP = prediction.make_predictor(opt, opt.output_nc, *self._scores_of(opt.target)).to(self.device)
        if not self.isTrain:
            return
        self.loss_names = ["P", "P_target", "P_source"]
        for source, branch in zip(self.sources, self.branches, strict=True):
            with prediction.own_draws(opt):
                head = networks.LabelHead(self.netP.feature_nc, prediction.classes_of(opt), *self._scores_of(source))
            setattr(self, f"netH{branch}", head.to(self.device))
            self.model_names.append(f"H{branch}")
        self.optimizer_P = prediction.make_optimizer([self.net(n) for n in self.model_names], opt)
        self.optimizers = [self.optimizer_P]

    def _scores_of(self, modality: str) -> tuple[float, float]:
        """(mean, deviation) of a modality's own training labels: cohorts differ in age, and so do standard scores."""
        stats = self._stats_of(modality)
        return stats.get("mean", 0.0), stats.get("std", 1.0)

    def _stats_of(self, modality: str) -> Any:
        """What the data set found of a modality's labels; {} of a plug-in's, which says nothing."""
        return getattr(self.opt, "label_stats", {}).get(modality, {})

    def optimize_parameters(self) -> None:
        target, *sources = self.features().chunk(len(self.images))
        self.loss_P_target = self.criterionP(self.netP.answer(target), self.labels[0])
        losses = [self.criterionP(self.net(f"H{branch}")(features), labels)
                  for branch, features, labels in zip(self.branches, sources, self.labels[1:], strict=True)]
        self.loss_P_source = sum(losses) / len(losses)
        self.loss_P = self.opt.weight_target * self.loss_P_target + self.opt.weight_source * self.loss_P_source
        self.optimizer_P.zero_grad()
        self.loss_P.backward()
        self.optimizer_P.step()
