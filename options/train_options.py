"""Options of `duiit train`, and which of them may differ when a run goes on."""
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from duiit.options.base_options import BaseOptions
from duiit.options.command_options import OWN_TO_THE_CALL, CommandOptions
from duiit.options.parsing import ArgumentGroup, OptionParser
from duiit.util.bounds import COUNT, POSITIVE, WEIGHT, Bounded
from duiit.util.errors import UserError

# What a run may go on with another value of: where things are, how fast it goes, what is written and when it stops.
# Every other option is part of what is computed.
MAY_CHANGE = OWN_TO_THE_CALL | {
    "dataroot", "plugins", "nproc", "keep", "save_every_minutes", "save_latest_freq", "save_epoch_freq", "save_by_iter",
    "print_freq", "display_freq", "display_ncols", "display_id", "display_server", "display_env", "display_port",
    "display_winsize", "update_html_freq", "no_html", "max_steps", "early_stop", "on_nan"}


def changed(opt: Namespace, recorded: Mapping[str, Any]) -> list[str]:
    """Names of the options that are not what the run `recorded` and may not change."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(opt).items()}
    return [k for k, v in recorded.items() if k not in MAY_CHANGE and k in values and values[k] != v]


class TrainOptions(BaseOptions):
    isTrain = True
    phase = "train"

    def initialize(self, parser: OptionParser) -> OptionParser:
        parser = super().initialize(parser)
        self._schedule(parser.add_argument_group("Training"))
        self._speed(parser.add_argument_group("Speed"))
        self._saving(parser.add_argument_group("Saving and resuming"))
        self._watching(parser.add_argument_group("Watching"))
        return parser

    def _schedule(self, g: ArgumentGroup) -> None:
        g.add_argument("--n_epochs", type=COUNT, default=100, help="epochs at the initial learning rate")
        g.add_argument("--n_epochs_decay", type=COUNT, default=100, help="epochs in which the rate falls to zero")
        g.add_argument("--steps_per_epoch", type=COUNT, default=0,
                       help="steps that make an epoch, whatever the number of images (0: once through the data)")
        g.add_argument("--max_steps", type=COUNT, default=0, help="stop after this many steps (0: by epochs)")
        g.add_argument("--lr", type=WEIGHT, default=0.0002, help="learning rate of Adam")
        g.add_argument("--beta1", type=Bounded(float, 0, 1, True), default=0.5, help="momentum term of Adam")
        g.add_argument("--lr_policy", default="linear", choices=["linear", "step", "plateau", "cosine"],
                       help="how the learning rate falls")
        g.add_argument("--lr_decay_iters", type=POSITIVE, default=50, help="epochs between the steps of lr_policy step")
        g.add_argument("--gan_mode", default="lsgan", choices=["lsgan", "vanilla", "wgangp"], help="adversarial loss")
        g.add_argument("--pool_size", type=COUNT, default=50, help="translated images kept for the discriminators")
        g.add_argument("--accumulate", type=POSITIVE, default=1,
                       help="batches whose gradients make one step: a larger batch than memory holds")
        g.add_argument("--clip_grad", type=WEIGHT, default=0.0,
                       help="longest gradient of an optimizer's step, longer ones are shortened to it (0: any)")
        g.add_argument("--ema", type=Bounded(float, 0, 1, True), default=0.0, metavar="DECAY",
                       help="keep generators averaged over the steps too, such as 0.999; `translate --averaged` uses "
                            "them (0: none)")

    def _speed(self, g: ArgumentGroup) -> None:
        g.add_argument("--amp", default="auto", choices=["auto", "bf16", "fp16", "off"],
                       help="precision of the networks while they learn: auto takes bf16 (or fp16) on a GPU that has "
                            "it, and float32 (off) elsewhere")
        g.add_argument("--compile", default="auto", choices=["auto", "on", "off"],
                       help="compile the networks, which takes minutes at the start (auto: off)")
        g.add_argument("--channels_last", default="auto", choices=["auto", "on", "off"],
                       help="memory layout of images and weights (auto: on with half precision on a GPU)")

        g.add_argument("--cache", default="auto", choices=["auto", "gpu", "ram", "disk"],
                       help="where the decoded images are served from: disk maps their file, ram and gpu read it into "
                            "memory once (auto: gpu where they take up to a third of its free memory, else disk)")

    def _saving(self, g: ArgumentGroup) -> None:
        g.add_argument("--save_latest_freq", type=POSITIVE, default=5000, help="save the latest state every N steps")
        g.add_argument("--save_epoch_freq", type=POSITIVE, default=5, help="keep the weights of every Nth epoch")
        g.add_argument("--save_by_iter", action="store_true", help="name the latest weights by their step")
        g.add_argument("--save_every_minutes", type=WEIGHT, default=10.0,
                       help="save the latest state after so many minutes; a killed run loses no more (0: by steps)")
        g.add_argument("--keep", type=POSITIVE, default=2, help="keep the latest so many training states")
        g.add_argument("--continue_train", action="store_true", help="go on with the run --name where it stopped")
        g.add_argument("--epoch_count", type=POSITIVE, default=1, help="number of the first epoch")
        g.add_argument("--nproc", type=POSITIVE, default=1,
                       help="train in so many processes, each on a GPU of its own (or on the CPU)")
        g.add_argument("--phase", default="train", choices=["train"],
                       help="which part of the split to train on")

    def _watching(self, g: ArgumentGroup) -> None:
        g.add_argument("--print_freq", type=POSITIVE, default=100, help="write the losses every N steps")
        g.add_argument("--val_freq", type=COUNT, default=1, help="validate every N epochs (0: never)")
        self._validation(g)
        g.add_argument("--early_stop", type=COUNT, default=0,
                       help="stop after so many validations without a smaller error (0: never)")
        g.add_argument("--on_nan", default="stop", choices=["stop", "skip"],
                       help="a loss or gradient that is not finite: stop the run, or undo that step and go on")
        g.add_argument("--display_freq", type=POSITIVE, default=400, help="send images to visdom every N steps")
        g.add_argument("--display_ncols", type=COUNT, default=4, help="images in a row of the visdom panel")
        g.add_argument("--display_id", type=int, default=1, help="window number in visdom (0: no visdom)")
        g.add_argument("--display_server", default="http://localhost", help="visdom server's address")
        g.add_argument("--display_env", default="main", help="visdom environment")
        g.add_argument("--display_port", type=POSITIVE, default=8097, help="visdom server's port")
        g.add_argument("--update_html_freq", type=POSITIVE, default=1000, help="update the web page every N steps")
        g.add_argument("--no_html", action="store_true", help="no web page of the training")

    def finish(self, opt: Namespace) -> Namespace:
        from duiit.models import acceleration  # late: `duiit --help` must not wait for torch

        opt = super().finish(opt)
        if opt.cache == "gpu" and not opt.device.startswith("cuda"):
            raise UserError(f"--cache gpu: training is on {opt.device}, which has no memory of its own; take --cache "
                            "ram or disk")
        acceleration.resolve(opt)
        return opt

    def check(self, opt: Namespace) -> None:
        super().check(opt)
        if opt.batch_size % opt.nproc:
            raise UserError(f"--batch_size {opt.batch_size} cannot be divided among {opt.nproc} processes: give a "
                            f"multiple of {opt.nproc}")
        opt.val_by = opt.val_by or opt.split_by
        if opt.n_epochs + opt.n_epochs_decay < opt.epoch_count and not opt.max_steps:
            raise UserError(f"--n_epochs {opt.n_epochs} and --n_epochs_decay {opt.n_epochs_decay} end before "
                            f"--epoch_count {opt.epoch_count}: there is nothing to train")


CommandOptions.of_training = TrainOptions          # set from here: an import only goes down
