"""The predictor alone: a network that reads the label from target images, real ones and translated ones alike."""
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from typing import Any

from duiit.models import networks
from duiit.models.base_model import BaseModel
from duiit.models.parts import prediction


class PredictorModel(BaseModel):
    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(dataset_mode="labelled", input_nc=1, output_nc=1)
        prediction.add_options(parser)
        if is_train:
            prediction.add_training_options(parser, batch_size=64)     # the paper's for the mixture
        return parser

    @classmethod
    def check_options(cls, opt: Namespace) -> None:
        prediction.check_crop(opt)

    @classmethod
    def check_files(cls, opt: Namespace) -> None:
        prediction.check_weights(opt)

    def __init__(self, opt: Namespace) -> None:
        super().__init__(opt)
        self.loss_names, self.visual_names, self.model_names = ["P"], ["real_B"], ["P"]
        prediction.refuse_without_labels(opt, "add a labels.csv, or --extra or --raw folders that have one")
        self.check_options(opt)
        self.netP = prediction.make_predictor(opt, opt.output_nc).to(self.device)
        if self.isTrain:
            self.criterionP = networks.PredictionLoss(opt.task, opt.loss_P).to(self.device)
            self.optimizer_P = prediction.make_optimizer([self.netP], opt)
            self.optimizers = [self.optimizer_P]

    def set_input(self, input: dict[str, Any]) -> None:             # noqa: A002
        self.real_B = input["B"].to(self.device, non_blocking=True)
        self.label_B = input["B_label"].to(self.device, non_blocking=True)
        self.image_paths = input["B_paths"]

    def forward(self) -> None:
        self.answer = self.netP(self.real_B)

    def optimize_parameters(self) -> None:
        self.forward()
        self.optimizer_P.zero_grad()
        self.loss_P = self.criterionP(self.answer, self.label_B)
        self.loss_P.backward()
        self.optimizer_P.step()

    def validate(self, dataset: Iterable[Mapping[str, Any]]) -> dict[str, float]:
        return prediction.validate(self.netP, dataset, self.opt.task, self.device, self.opt.val_by)

    def predictor(self) -> networks.PredictorNet:
        """The network that reads the label from target images."""
        return self.netP
