"""Options of `duiit data phantom` and `duiit data check`."""
import argparse
import os

from duiit.options.base_options import BaseOptions, check_words
from duiit.options.command_options import CommandOptions
from duiit.options.parsing import OptionParser
from duiit.util.bounds import COUNT, SEED, WEIGHT, Bounded
from duiit.util.files import refuse_unwritable


def age_law(text: str) -> tuple[float, float]:
    """`MEAN,SD` in years -> (mean, sd)."""
    try:
        mean, sd = (float(part) for part in str(text).split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not MEAN,SD in years, such as 55,16") from None
    return mean, sd


class PhantomOptions(CommandOptions):
    """The fields of data.phantom.PhantomSpec, which checks them."""

    def initialize(self, parser: OptionParser) -> OptionParser:
        g = parser.add_argument_group("Phantom")
        g.add_argument("--output", default="./phantom", help="folder to write to; it must not exist yet, or be empty")
        g.add_argument("--size", type=Bounded(int, 16), default=64, help="pixels along a side of every image")
        g.add_argument("--slices", type=Bounded(int, 1), default=8, help="axial slices a patient")
        for cohort, count, law in (("ct", 40, "38,24"), ("mri", 60, "55,16"), ("pet", 40, "60,12")):
            g.add_argument(f"--{cohort}_patients", type=COUNT, default=count, help=f"patients of the {cohort} cohort")
            g.add_argument(f"--{cohort}_age", type=age_law, default=law, metavar="MEAN,SD",
                           help=f"ages of the {cohort} cohort in years")
        g.add_argument("--noise", type=WEIGHT, default=1.0, help="factor on every scanner's noise; 0 for none")
        g.add_argument("--seed", type=SEED, default=0, help="the same seed gives the same files")
        g.add_argument("--force", action="store_true", help="replace an older phantom")
        return parser


class CheckOptions(BaseOptions):
    """Where the data are, how their labels are read and how they would be split: the same words as for training."""

    positional = "dataroot"

    def initialize(self, parser: OptionParser) -> OptionParser:
        self._data(parser.add_argument_group("Data"))
        self._images(parser.add_argument_group("Images"))
        self._labels(parser.add_argument_group("Labels and splits"))
        g = parser.add_argument_group("Checking")
        g.add_argument("--json", help="write what was found to this file as well")
        g.add_argument("--fingerprint", metavar="FILE",
                       help="where to write the fingerprint (default: dataset_fingerprint.json in --dataroot)")
        g.add_argument("--strict", action="store_true", help="exit with status 2 on warnings too")
        parser.set_defaults(dataset_mode=None, num_threads=os.cpu_count() or 1)
        return parser

    def finish(self, opt: argparse.Namespace) -> argparse.Namespace:
        opt.phase, opt.isTrain = self.phase, False
        self.check_data(opt)
        check_words(opt)
        self.check_spacing(opt)
        for name in ("json", "fingerprint"):
            if getattr(opt, name):
                refuse_unwritable(f"--{name}", getattr(opt, name))
        return opt
