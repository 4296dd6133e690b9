"""What every model is: the toolkit's contract, which plug-in files and the commands rely on.

A model takes a batch (dict) in `set_input`, does one training step in `optimize_parameters`, and names its losses,
networks and images so that the commands can print, save and show them.
"""
import copy
import logging
import weakref
from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from duiit.models import networks
from duiit.models.acceleration import Acceleration
from duiit.models.parts.averages import Averages
from duiit.util import checkpoint, distributed
from duiit.util.errors import UserError
from duiit.util.image_pool import ImagePool

log = logging.getLogger(__name__)
AVERAGED = "averaged_"                  # before the name of a network in a file: its weights averaged over the steps


class BaseModel(ABC):
    """Subclasses fill loss_names (`self.loss_<name>`), model_names (`self.net<name>`), visual_names (`self.<name>`)
    and optimizers in __init__, and implement set_input, forward and optimize_parameters.

    share_done: share of the training that is done, in [0, 1], which the training loop keeps; 1 for whoever makes steps
    without it. measuring: True in the steps whose gradients are to be told apart by the terms of the loss."""

    share_done = 1.0
    measuring = False
    averages: Averages | None = None        # of the generators, with --ema

    def __init__(self, opt: Namespace) -> None:
        self.opt = opt
        self.isTrain = opt.isTrain
        self.gpu_ids = opt.gpu_ids
        self.device = torch.device(opt.device)
        self.save_dir = str(Path(opt.checkpoints_dir) / opt.name)
        self.loss_names: list[str] = []
        self.model_names: list[str] = []
        self.visual_names: list[str] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self.schedulers: list[Any] = []
        self.image_paths: list[str] = []
        self.state_names: list[str] = []    # attributes with a state_dict of their own that a run must go on with
        self.metric: float | None = None    # a validation error that lr_policy plateau has not seen yet
        self.restored = False               # True: a training state brings the weights, so setup loads none
        self.gradient_norms: OrderedDict[str, torch.Tensor] = OrderedDict()
        # Of the terms of the loss, in a step that is measured.
        self.term_norms: OrderedDict[str, torch.Tensor] = OrderedDict()

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        return parser

    @classmethod
    def check_options(cls, opt: Namespace) -> None:
        """Raises UserError for options of a training that cannot work, whatever the data are: called before any of
        them is read. Here: nothing is known to be wrong."""
        return

    @classmethod
    def check_files(cls, opt: Namespace) -> None:
        """Raises UserError for files that a training needs and that are not there, or not what they should be: called
        when it begins, before its data are read."""
        return

    @abstractmethod
    def set_input(self, input: dict[str, Any]) -> None:             # noqa: A002 - the toolkit's name
        """Takes a batch from the data set."""

    @abstractmethod
    def forward(self) -> None:
        """Runs the networks on the batch."""

    @abstractmethod
    def optimize_parameters(self) -> None:
        """One training step on the batch."""

    # -- a run's life ------------------------------------------------------------------------------------------

    def setup(self, opt: Namespace) -> None:
        """Schedules, weights from disk where they are needed, and a word on the networks."""
        for name in self.model_names:
            self.net(name).to(self.device)
        if self.isTrain:
            self._speed_up(opt)
            self.schedulers = [networks.get_scheduler(o, opt) for o in self.optimizers]
            # By a weak reference: model -> optimizer -> hook -> model would be a circle, and networks that nobody needs
            # any more would stay in memory until Python's collector comes by, which can take long.
            model = weakref.proxy(self)
            for name, optimizer in self._optimizers_by_name().items():
                optimizer.register_step_pre_hook(lambda *step, name=name: model._before_step(name, *step))
        if not self.isTrain or (opt.continue_train and not self.restored):
            self.load_networks(f"iter_{opt.load_iter}" if opt.load_iter > 0 else opt.epoch)
        for name in self.model_names if self.isTrain else ():
            distributed.synchronise(_bare(self.net(name)))
        self.print_networks(opt.verbose)

    def _speed_up(self, opt: Namespace) -> None:
        """Hands networks and optimizers over to those who know how a step is computed."""
        self.acceleration = Acceleration(opt, self.device)
        self.state_names.append("acceleration")
        if opt.ema:
            self.averages = Averages({n: self.net(n) for n in self.model_names if n.startswith("G")}, opt.ema)
            self.state_names.append("averages")
        for name in self.model_names:
            self.acceleration.prepare(self.net(name))
        for optimizer in self.optimizers:
            self.acceleration.prepare_optimizer(optimizer)

    def _optimizers_by_name(self) -> dict[str, torch.optim.Optimizer]:
        """{name: optimizer}: G for `self.optimizer_G`, as the toolkit's models keep them, and its number for one that
        stands in the list alone."""
        attributes = {id(value): name for name, value in reversed(vars(self).items())}
        return {attributes.get(id(o), str(number)).removeprefix("optimizer_"): o
                for number, o in enumerate(self.optimizers)}

    def _before_step(self, name: str, optimizer: torch.optim.Optimizer, args: tuple[Any, ...],
                     kwargs: dict[str, Any]) -> None:
        """What every optimizer's step begins with: gradients of all processes, and how large they are together."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        distributed.average(gradients)
        norm = self.acceleration.ready(optimizer, gradients)
        if norm is None:
            self.gradient_norms.pop(name, None)
        else:
            self.gradient_norms[name] = norm

    def net(self, name: str) -> Any:
        return getattr(self, "net" + name)

    def eval(self) -> None:
        for name in self.model_names:
            self.net(name).eval()

    def train(self) -> None:
        for name in self.model_names:
            self.net(name).train()

    def test(self) -> None:
        """Forward without gradients, and whatever is to be shown besides."""
        with torch.no_grad():
            self.forward()
            self.compute_visuals()

    def compute_visuals(self) -> None:              # noqa: B027 - most models have none
        """Further images to show; nothing unless a model has some."""

    def validate(self, dataset: Iterable[Mapping[str, Any]]) -> dict[str, float]:
        """Errors on held-out items as {name: value}; the first is the one by which the best epoch is chosen."""
        return {}

    @property
    def validates(self) -> bool:
        """Whether `validate` has errors to give, where there are labelled items."""
        return type(self).validate is not BaseModel.validate

    def get_image_paths(self) -> list[str]:
        """Files of the batch's images, for messages and result pages."""
        return self.image_paths

    def update_learning_rate(self) -> None:
        """One step of the schedules; called at the end of an epoch."""
        before = self.optimizers[0].param_groups[0]["lr"]
        for scheduler in self.schedulers:
            if self.opt.lr_policy != "plateau":
                scheduler.step()
            elif self.metric is not None:
                scheduler.step(self.metric)
        self.metric = None
        after = self.optimizers[0].param_groups[0]["lr"]
        if after != before:
            log.debug("learning rate %.7f -> %.7f", before, after)

    def get_current_visuals(self) -> OrderedDict[str, torch.Tensor]:
        """{name: (N, C, H, W) in [-1, 1]} of the last batch."""
        return OrderedDict((name, getattr(self, name)) for name in self.visual_names)

    def get_current_losses(self) -> OrderedDict[str, float]:
        """{name: float} of the last step. Waits for the GPU, so it is called now and then only."""
        losses = ((name, getattr(self, "loss_" + name)) for name in self.loss_names)
        return OrderedDict((n, v.detach().item() if isinstance(v, torch.Tensor) else float(v)) for n, v in losses)

    def get_current_norms(self) -> OrderedDict[str, float]:
        """{norm_<optimizer>: length of the gradient of its last step, over all its networks}, and norm_<term> where the
        step was measured."""
        norms = {**self.gradient_norms, **self.term_norms}
        return OrderedDict((f"norm_{name}", float(norm)) for name, norm in norms.items())

    def watched(self) -> dict[str, torch.Tensor]:
        """({name: scalar tensor}) of the last step, all of which must be finite: losses and gradient norms."""
        losses = {f"loss {name}": getattr(self, "loss_" + name) for name in self.loss_names}
        norms = {f"gradient of {name}": norm for name, norm in self.gradient_norms.items()}
        return {k: v.detach().float().mean() for k, v in {**losses, **norms}.items() if isinstance(v, torch.Tensor)}

    # -- undoing a step ----------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """What a step changes, copied where it is, for `undo`."""
        pools = {name: list(pool.images) for name, pool in self._pools()}
        nets = {n: {k: v.clone() for k, v in self.net(n).state_dict().items()} for n in self.model_names}
        return {"nets": nets, "optimizers": [copy.deepcopy(o.state_dict()) for o in self.optimizers], "pools": pools}

    def undo(self, snapshot: Mapping[str, Any]) -> None:
        """Takes everything that was learned since `snapshot` back."""
        for name, weights in snapshot["nets"].items():
            self.net(name).load_state_dict(weights)
        for optimizer, state in zip(self.optimizers, snapshot["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        for name, images in snapshot["pools"].items():
            getattr(self, name).images = images

    # -- on disk -----------------------------------------------------------------------------------------------

    def save_networks(self, suffix: str) -> None:
        """Writes <suffix>_net_<name>.pth for each network: a plain state dict, on the CPU."""
        found = {name: _bare(self.net(name)).state_dict() for name in self.model_names}
        averaged = self.averages.weights() if self.averages else {}
        for name, weights in [*found.items(), *((AVERAGED + name, w) for name, w in averaged.items())]:
            state = {k: v.detach().cpu() for k, v in weights.items()}
            checkpoint.save(state, Path(self.save_dir) / f"{suffix}_net_{name}.pth")

    def load_networks(self, suffix: str) -> None:
        """Reads what save_networks wrote, with --averaged the averaged generators. Raises UserError for a missing,
        damaged or unfitting file."""
        for name in self.model_names:
            averaged = getattr(self.opt, "averaged", False) and name.startswith("G")
            path = Path(self.save_dir) / f"{suffix}_net_{AVERAGED if averaged else ''}{name}.pth"
            if averaged and not path.is_file():
                raise UserError(f"--averaged: there is no {path}; runs that were trained with --ema have it")
            checkpoint.load_weights(_bare(self.net(name)), path, self.device)
            log.debug("loaded %s", path)

    def training_state(self) -> dict[str, Any]:
        """What a run needs besides the weights to go on as if it had not been stopped, the same in every process."""
        return {"optimizers": [o.state_dict() for o in self.optimizers],
                "schedulers": [s.state_dict() for s in self.schedulers],
                "others": {name: getattr(self, name).state_dict() for name in self.state_names}}

    def pool_state(self) -> dict[str, Any]:
        """What each process has of its own: the image pools."""
        return {name: pool.state_dict() for name, pool in self._pools()}

    def _pools(self) -> list[tuple[str, ImagePool]]:
        """(name, ImagePool) of each. They are looked for, not listed: a model written for the toolkit just makes
        `self.fake_pool = ImagePool(50)`, and its runs are to go on exactly as well."""
        return [(name, value) for name, value in vars(self).items() if isinstance(value, ImagePool)]

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Takes up what training_state gave, onto networks that have their weights already."""
        for mine, saved in zip(self.optimizers, state["optimizers"], strict=True):
            mine.load_state_dict(saved)
        for mine, saved in zip(self.schedulers, state["schedulers"], strict=True):
            # A cosine of before was a schedule of another class, without these; they hold no state.
            without = isinstance(mine, torch.optim.lr_scheduler.LambdaLR) and "lr_lambdas" not in saved
            mine.load_state_dict({**saved, "lr_lambdas": [None] * len(mine.lr_lambdas)} if without else saved)
        for name, saved in state["others"].items():
            getattr(self, name).load_state_dict(saved)

    def load_pool_state(self, state: Mapping[str, Any]) -> None:
        for name, saved in state.items():
            getattr(self, name).load_state_dict(saved)

    def print_networks(self, verbose: bool) -> None:
        for name in self.model_names:
            net = self.net(name)
            log.debug("%s", net) if verbose else None
            log.debug("network %s: %.3f M parameters", name, sum(p.numel() for p in net.parameters()) / 1e6)

    def set_requires_grad(self, nets: Any, requires_grad: bool = False) -> None:
        for net in nets if isinstance(nets, list) else [nets]:
            if net is not None:
                for parameter in net.parameters():
                    parameter.requires_grad = requires_grad


def _bare(net: torch.nn.Module) -> torch.nn.Module:
    """The network itself, without a DataParallel or DDP wrapper round it."""
    return net.module if isinstance(net, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)) else net
