"""What every model is: the toolkit's contract, which plug-in files and the commands rely on.

A model takes a batch (dict) in `set_input`, does one training step in `optimize_parameters`, and names its losses,
networks and images so that the rest of the house can print, save and show them.
"""
import logging
from abc import ABC, abstractmethod
from collections import OrderedDict
from pathlib import Path

import torch

from models import networks
from util import checkpoint
from util.image_pool import ImagePool

log = logging.getLogger(__name__)


class BaseModel(ABC):
    """Subclasses fill loss_names (`self.loss_<name>`), model_names (`self.net<name>`), visual_names (`self.<name>`)
    and optimizers in __init__, and implement set_input, forward and optimize_parameters."""

    def __init__(self, opt):
        self.opt = opt
        self.isTrain = opt.isTrain
        self.gpu_ids = opt.gpu_ids
        self.device = torch.device(opt.device)
        self.save_dir = str(Path(opt.checkpoints_dir) / opt.name)
        self.loss_names, self.model_names, self.visual_names = [], [], []
        self.optimizers, self.schedulers, self.image_paths = [], [], []
        self.metric = 0                     # what lr_policy plateau watches: the latest validation error

    @staticmethod
    def modify_commandline_options(parser, is_train):
        return parser

    @abstractmethod
    def set_input(self, input):             # noqa: A002 - the toolkit's name
        """Takes a batch from the data set."""

    @abstractmethod
    def forward(self):
        """Runs the networks on the batch."""

    @abstractmethod
    def optimize_parameters(self):
        """One training step on the batch."""

    # -- a run's life ------------------------------------------------------------------------------------------

    def setup(self, opt):
        """Schedules, weights from disk where they are needed, and a word on the networks."""
        for name in self.model_names:
            self.net(name).to(self.device)
        if self.isTrain:
            self.schedulers = [networks.get_scheduler(o, opt) for o in self.optimizers]
        if not self.isTrain or opt.continue_train:
            self.load_networks(f"iter_{opt.load_iter}" if opt.load_iter > 0 else opt.epoch)
        self.print_networks(opt.verbose)

    def net(self, name):
        return getattr(self, "net" + name)

    def eval(self):
        for name in self.model_names:
            self.net(name).eval()

    def train(self):
        for name in self.model_names:
            self.net(name).train()

    def test(self):
        """Forward without gradients, and whatever is to be shown besides."""
        with torch.no_grad():
            self.forward()
            self.compute_visuals()

    def compute_visuals(self):              # noqa: B027 - most models have none
        """Further images to show; nothing unless a model has some."""

    def validate(self, dataset):
        """Errors on held-out items as {name: value}; the first is the one by which the best epoch is chosen."""
        return {}

    def get_image_paths(self):
        """Files of the batch's images, for messages and result pages."""
        return self.image_paths

    def update_learning_rate(self):
        """One step of the schedules; called at the end of an epoch."""
        before = self.optimizers[0].param_groups[0]["lr"]
        for scheduler in self.schedulers:
            if self.opt.lr_policy == "plateau":
                scheduler.step(self.metric)
            else:
                scheduler.step()
        after = self.optimizers[0].param_groups[0]["lr"]
        if after != before:
            log.debug("learning rate %.7f -> %.7f", before, after)

    def get_current_visuals(self):
        """{name: (N, C, H, W) in [-1, 1]} of the last batch."""
        return OrderedDict((name, getattr(self, name)) for name in self.visual_names)

    def get_current_losses(self):
        """{name: float} of the last step. Waits for the GPU, so it is called now and then only."""
        losses = ((name, getattr(self, "loss_" + name)) for name in self.loss_names)
        return OrderedDict((n, v.detach().item() if isinstance(v, torch.Tensor) else float(v)) for n, v in losses)

    # -- on disk -----------------------------------------------------------------------------------------------

    def save_networks(self, suffix):
        """Writes <suffix>_net_<name>.pth for each network: a plain state dict, on the CPU."""
        for name in self.model_names:
            state = {k: v.detach().cpu() for k, v in _bare(self.net(name)).state_dict().items()}
            checkpoint.save(state, Path(self.save_dir) / f"{suffix}_net_{name}.pth")

    def load_networks(self, suffix):
        """Reads what save_networks wrote. Raises UserError for a missing, damaged or unfitting file."""
        for name in self.model_names:
            path = Path(self.save_dir) / f"{suffix}_net_{name}.pth"
            checkpoint.load_weights(_bare(self.net(name)), path, self.device)
            log.debug("loaded %s", path)

    def training_state(self):
        """What a run needs besides the weights to go on as if it had not been stopped."""
        return {"optimizers": [o.state_dict() for o in self.optimizers],
                "schedulers": [s.state_dict() for s in self.schedulers],
                "pools": {k: v.state_dict() for k, v in vars(self).items() if isinstance(v, ImagePool)},
                "metric": float(self.metric)}

    def load_training_state(self, state):
        """Takes up what training_state gave, onto networks that have their weights already."""
        for mine, saved in zip(self.optimizers, state["optimizers"], strict=True):
            mine.load_state_dict(saved)
        for mine, saved in zip(self.schedulers, state["schedulers"], strict=True):
            mine.load_state_dict(saved)
        for name, saved in state["pools"].items():
            getattr(self, name).load_state_dict(saved)
        self.metric = state["metric"]

    def print_networks(self, verbose):
        for name in self.model_names:
            net = self.net(name)
            log.debug("%s", net) if verbose else None
            log.debug("network %s: %.3f M parameters", name, sum(p.numel() for p in net.parameters()) / 1e6)

    def set_requires_grad(self, nets, requires_grad=False):
        for net in nets if isinstance(nets, list) else [nets]:
            if net is not None:
                for parameter in net.parameters():
                    parameter.requires_grad = requires_grad


def _bare(net):
    """The network itself, without a DataParallel or DDP wrapper round it."""
    return net.module if isinstance(net, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)) else net
