"""What models have in common whose predictor's trunk learns from target and source images alike (multitask, dann).

Only the trunk is shared with something else, which a subclass adds; netP itself is an ordinary predictor, so a run is
tested, used and exported like one.
"""
from abc import abstractmethod
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from duiit.models import networks
from duiit.models.base_model import BaseModel
from duiit.models.parts import prediction
from duiit.models.parts.pair import Source, sources_of
from duiit.util.errors import UserError


class SharedTrunkModel(BaseModel):
    """A subclass makes netP, what it adds and the optimizer in `_make`, and implements optimize_parameters.
    Its sources are of the class `kind`."""

    kind = Source

    netP: networks.PredictorNet
    real_B: torch.Tensor

    @abstractmethod
    def _make(self, opt: Namespace) -> None:
        """Makes netP, what is added to it, and in training the optimizer."""

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(dataset_mode="cross_modality", input_nc=1, output_nc=1)
        return prediction.add_options(parser)

    def __init__(self, opt: Namespace) -> None:
        super().__init__(opt)
        self.sources: list[Any] = sources_of(self, self.kind)
        target, source = ("A", "B") if opt.direction == "BtoA" else ("B", "A")
        self.keys = [target, *(f"{source}{s}" for s in self.sources)]
        self.visual_names = ["real_B", *(f"real_A{s}" for s in self.sources)]
        self.model_names = ["P"]
        if self.isTrain:
            self._check(opt)
            self.criterionP = networks.PredictionLoss(opt.task, opt.loss_P).to(self.device)
        self._make(opt)

    def _check(self, opt: Namespace) -> None:
        if not opt.sources:
            raise UserError(f"--dataset_mode {opt.dataset_mode}: has no source images, and --model {opt.model} learns "
                            "from them too; give --dataset_mode cross_modality")
        self.check_options(opt)

    @classmethod
    def check_options(cls, opt: Namespace) -> None:
        if opt.input_nc != opt.output_nc:
            raise UserError(f"--input_nc {opt.input_nc} and --output_nc {opt.output_nc}: source and target images go "
                            "through the same network; give both the same number")
        prediction.check_crop(opt)

    @classmethod
    def check_files(cls, opt: Namespace) -> None:
        prediction.check_weights(opt)

    # -- one step ----------------------------------------------------------------------------------------------

    def set_input(self, input: dict[str, Any]) -> None:             # noqa: A002
        """{A, B (N, C, H, W) in [-1, 1], A_label, B_label (N,), A_paths, B_paths}; with several sources A_<source>, …
        BtoA swaps the letters."""
        self.images = [input[key].to(self.device, non_blocking=True) for key in self.keys]
        self.labels = [input[f"{key}_label"].to(self.device, non_blocking=True) for key in self.keys]
        self.real_B, *of_sources = self.images
        for source, images in zip(self.sources, of_sources, strict=True):
            source.y = images
        self.image_paths = input[f"{self.keys[0]}_paths"]

    def forward(self) -> None:
        self.answer = self.netP(self.real_B)

    def features(self) -> torch.Tensor:
        """The trunk's features of all images of the step, target first: (modalities * N, feature_nc).

        They go through it as one batch. Batch norm then does to a target image in training what it does when testing,
        where its running statistics are those of the same mixture; in batches of their own each modality would be
        normalised by itself, and no image by the running statistics that are kept.
        """
        if len({images.shape for images in self.images}) > 1:
            raise UserError(f"--preprocess {self.opt.preprocess}: source and target images of other sizes do not go "
                            "through one network together; use a --preprocess that crops")
        return self.netP.features(torch.cat(self.images))

    # -- for the commands --------------------------------------------------------------------------------------

    def validate(self, dataset: Iterable[Mapping[str, Any]]) -> dict[str, float]:
        return prediction.validate(self.netP, dataset, self.opt.task, self.device, self.opt.val_by)

    def predictor(self) -> networks.PredictorNet:
        """The network that reads the label from target images."""
        return self.netP
