"""Domain-adversarial training (DANN; Ganin et al. 2016), a baseline of the paper: the predictor learns from labelled
source and target images, on features from which a domain classifier cannot tell where an image comes from.

    L = l / unit + CE(C(reverse(features, lambda_p)), domain)     lambda_p = lambda_dann (2 / (1 + exp(-gamma p)) - 1)

p goes from 0 to 1 over the training. The reversal turns the classifier's gradient round before it reaches the trunk: C
learns to tell the domains apart with its whole gradient, the trunk learns the opposite with lambda_p times that.
"""
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping

import torch
import torch.nn.functional as F

from duiit.models import networks
from duiit.models.parts import prediction
from duiit.models.shared_trunk import SharedTrunkModel
from duiit.util.bounds import WEIGHT


class DannModel(SharedTrunkModel):
    """netP is an ordinary predictor; netC, the domain classifier, tells the target and each source apart."""

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser = SharedTrunkModel.modify_commandline_options(parser, is_train)
        if is_train:
            prediction.add_training_options(parser, batch_size=64)
            parser.add_argument("--lambda_dann", type=WEIGHT, default=1.0,
                                help="how strongly features are pushed, in the end, to hide the modality")
            parser.add_argument("--gamma_dann", type=WEIGHT, default=10.0,
                                help="how early in the training that strength is reached")
        return parser

    def _check(self, opt: Namespace) -> None:
        super()._check(opt)
        prediction.refuse_without_labels(opt, "add a labels.csv")

    def _make(self, opt: Namespace) -> None:
        self.netP = prediction.make_predictor(opt, opt.output_nc).to(self.device)
        if not self.isTrain:
            return
        self.loss_names = ["P", "domain"]
        self.model_names.append("C")
        with prediction.own_random_numbers(opt):
            self.netC = networks.DomainClassifier(self.netP.feature_nc, len(self.keys)).to(self.device)
        # In standard scores both losses begin near 1, so that lambda_dann means the same whatever a label's unit is.
        # In squared years the label's gradient would be hundreds of times the domain's, and nothing would be adapted.
        self.unit = _unit(opt.task, opt.loss_P, float(self.netP.label_std))
        self.progress = Progress(opt)
        self.state_names.append("progress")
        self.optimizer_P = prediction.make_optimizer([self.netP, self.netC], opt)
        self.optimizers = [self.optimizer_P]

    def strength(self) -> float:
        """lambda_p of the step to come."""
        return self.opt.lambda_dann * networks.reversal_strength(self.progress.share(), self.opt.gamma_dann)

    def optimize_parameters(self) -> None:
        features = self.features()                                              # (modalities * N, feature_nc)
        self.loss_P = self.criterionP(self.netP.answer(features), torch.cat(self.labels))
        domains = torch.arange(len(self.images), device=self.device).repeat_interleave(len(self.images[0]))
        self.loss_domain = F.cross_entropy(self.netC(networks.reverse_gradient(features, self.strength())), domains)
        self.optimizer_P.zero_grad()
        (self.loss_P / self.unit + self.loss_domain).backward()
        self.optimizer_P.step()
        self.progress.step()


def _unit(task: str, loss: str, label_std: float) -> float:
    """What a prediction loss in label units is divided by to be one in standard scores."""
    if task == "classification":
        return 1.0
    return label_std ** 2 if loss == "mse" else label_std


class Progress:
    """Steps made, of those that the schedule has. It is part of the training state.

    The schedule is as long as the learning rate's: all epochs. `--max_steps` cuts a run short and may be changed when
    it goes on, so it must not shape what is computed.
    """

    def __init__(self, opt: Namespace) -> None:
        epochs = opt.n_epochs + opt.n_epochs_decay - opt.epoch_count + 1
        self.total = max(epochs * opt.facts.need("batches_in_epoch"), 1)
        self.done = 0

    def step(self) -> None:
        self.done += 1

    def share(self) -> float:
        """p: from 0 at the first step to 1 after the last."""
        return min(self.done / self.total, 1.0)

    def state_dict(self) -> dict[str, int]:
        return {"done": self.done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.done = state["done"]
