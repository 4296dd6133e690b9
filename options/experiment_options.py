"""Options of `duiit experiment`: what the trainings of a comparison have in common, and how they are run."""
import argparse
import sys
from collections.abc import Sequence

from duiit.options import presets
from duiit.options.base_options import BaseOptions, check_words, place
from duiit.options.command_options import CommandOptions
from duiit.options.parsing import ArgumentGroup, OptionParser, option_actions
from duiit.util.bounds import COUNT, POSITIVE, SEED
from duiit.util.errors import UserError

# Of the options that are shared with training, those that a comparison sets itself.
OWN = {"dataroot", "sources", "split_seed", "dataset_mode", "direction", "seed", "device", "plugins", "cache_dir"}


class ExperimentOptions(CommandOptions):
    """`training_options` keeps what the command line says for every training, `preset_values` the whole preset,
    `command_line` all of the call."""

    def initialize(self, parser: OptionParser) -> OptionParser:
        g = parser.add_argument_group("Experiment")
        g.add_argument("--output", help="folder of the experiment; one that is there already is gone on with")
        g.add_argument("--methods", help="methods to compare, with commas: names, families such as duiit, or .toml "
                                         "files (default: all that the data allow)")
        g.add_argument("--splits", type=POSITIVE, default=10, help="random splits, each a training of every method")
        g.add_argument("--preset", help=f"sizes and schedules over those of the methods: "
                                        f"{', '.join(presets.scales())}, or a .toml file")
        g.add_argument("--epoch", default="latest", choices=["latest", "best"],
                       help="weights that are tested: the last, or those with the smallest validation error")
        g.add_argument("--seed", type=SEED, default=0,
                       help="seed of the first split and its trainings; each further split adds 1")
        g.add_argument("--examples", type=COUNT, default=4, help="translations shown in the report, of each source")
        g.add_argument("--fid_weights", help="Inception weights (.pth) for FID, Inception Score and KID")
        g.add_argument("--published", metavar="FILE",
                       help="TOML file with published figures to show beside these, or none (default: the paper's, "
                            "for its methods; docs/experiments.md)")
        self._execution(parser.add_argument_group("Running"))
        BaseOptions._data(parser.add_argument_group("Data"))
        BaseOptions._images(parser.add_argument_group("Images"))
        labels = parser.add_argument_group("Labels and splits")
        BaseOptions._labels(labels)
        BaseOptions._validation(labels)
        # The paper's split of 2,438 images: 1,887 to train on, 271 to validate, 280 to test.
        parser.set_defaults(val_fraction=0.111, test_fraction=0.115, batch_size=None)
        own_help = {"dataset_mode": argparse.SUPPRESS, "direction": argparse.SUPPRESS,
                    "batch_size": "images a step, for every training (default: the method's)",
                    "cache_dir": "where decoded images are kept (default: cache, in --output)"}
        for action in option_actions(parser):
            action.help = own_help.get(action.dest, action.help)
        return parser

    @staticmethod
    def _execution(g: ArgumentGroup) -> None:
        g.add_argument("--jobs", type=COUNT, default=1,
                       help="trainings at once (0, with slurm: as many as there are)")
        g.add_argument("--executor", default="local", choices=["local", "slurm"],
                       help="local: processes on this machine; slurm: jobs of a cluster, through submitit")
        g.add_argument("--slurm", action="append", metavar="KEY=VALUE",
                       help="parameter of the jobs, such as partition=gpu, gpus_per_node=1, time=600 (minutes)")
        g.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
        g.add_argument("--plugins", metavar="DIR", help="folder with further models and data sets")
        g.add_argument("--dry_run", action="store_true",
                       help="print the plan with an estimate of its time, from a few timed steps, and train nothing")
        g.add_argument("--report_only", action="store_true", help="make the report anew from what is there")
        g.add_argument("--verbose", action="store_true", help="more messages")

    def declare(self, argv: Sequence[str]) -> OptionParser:
        parser = self.initialize(OptionParser(argv))
        given, _ = parser.given()
        whole = presets.read(given["preset"]) if given.get("preset") else {}
        self._use_plugins(given, {}, presets.top(whole))
        known = {a.dest for a in option_actions(parser)}
        own = {k: v for k, v in presets.top(whole).items() if k in known}
        parser.layers = presets.check(own, parser, given.get("preset"))
        return parser

    def gather_options(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        argv = sys.argv[1:] if argv is None else argv
        opt = super().gather_options(argv)
        parser = self.declare(argv)
        given, _ = parser.given()
        opt.command_line = given
        opt.preset_values = presets.read(opt.preset) if opt.preset else {}
        ours = {a.dest for group in parser._action_groups for a in group._group_actions
                if group.title in ("Data", "Images", "Labels and splits")}
        opt.training_options = {k: v for k, v in given.items() if k in ours - OWN}
        for name in ("dataset_mode", "direction"):
            if name in given:
                raise UserError(f"--{name}: an experiment has one folder a modality; say --target and --sources")
        return opt

    def finish(self, opt: argparse.Namespace) -> argparse.Namespace:
        opt.phase, opt.isTrain = "train", False
        if not opt.output:
            raise UserError("--output is missing: name the folder that the experiment is to be kept in")
        if opt.val_fraction + opt.test_fraction >= 1:
            raise UserError("--val_fraction and --test_fraction leave nobody to train on: their sum must be below 1")
        check_words(opt)
        if opt.executor == "local":                 # what a cluster's nodes have this machine need not have
            place(opt.device, "0")
        if opt.jobs == 0 and opt.executor == "local":
            raise UserError("--jobs 0: all at once is for a cluster (--executor slurm); say how many this machine can "
                            "train at once")
        for pair in opt.slurm:
            if "=" not in pair:
                raise UserError(f"--slurm {pair}: give KEY=VALUE, such as --slurm partition=gpu")
        return opt
