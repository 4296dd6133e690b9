"""Options of the commands that work on a trained run: test, translate and predict."""
from argparse import Namespace

from duiit.options import run_file
from duiit.options.base_options import BaseOptions, require_folder
from duiit.options.parsing import OptionParser
from duiit.options.train_options import changed
from duiit.util.bounds import WEIGHT, Bounded
from duiit.util.errors import UserError
from duiit.util.files import refuse_unwritable

# What the values of an image mean to a run's networks: another would give wrong numbers, not other ones.
OF_THE_DATA = ("ct_window", "pet_window", "spacing", "target")


class RunOptions(BaseOptions):
    """Everything of the run is taken from its train_opt.json; what is given on the command line overrides it."""

    from_run = True
    phase = "test"

    def check(self, opt: Namespace) -> None:
        super().check(opt)
        run = run_file.read(opt.checkpoints_dir, opt.name)
        for name in changed(opt, {k: v for k, v in run.items() if k in OF_THE_DATA}):
            raise UserError(f"--{name} {getattr(opt, name)}: the run {opt.name} was trained with --{name} {run[name]}, "
                            "and its networks know nothing else; leave the option out")
        known = (run.get("sources") or opt.sources or "").split(",")
        unknown = [s for s in (opt.sources or "").split(",") if s not in known]
        if unknown:
            raise UserError(f"--sources {opt.sources}: the run {opt.name} was trained with --sources {run['sources']}; "
                            "leave the option out")

    def initialize(self, parser: OptionParser) -> OptionParser:
        parser = super().initialize(parser)
        parser.add_argument_group("Run").add_argument(
            "--averaged", action="store_true",
            help="use the generators averaged over the steps of the training, which runs with --ema keep")
        parser.set_defaults(batch_size=16)      # no gradients are kept: a batch costs little memory
        return parser


class TestOptions(RunOptions):
    """Options of `duiit test`."""

    __test__ = False                            # not a test class, whatever its name

    def initialize(self, parser: OptionParser) -> OptionParser:
        g = parser.add_argument_group("Testing")
        g.add_argument("--results_dir", default="./results/", help="where results are written")
        g.add_argument("--phase", default="test", choices=["train", "val", "test"], help="part of the split to test on")
        g.add_argument("--num_test", type=WEIGHT, default=float("inf"), help="test at most this many source images")
        g.add_argument("--aspect_ratio", type=Bounded(float, low=0.01), default=1.0, help="of the images on the page")
        g.add_argument("--eval", action="store_true", help="for plug-ins: networks in eval mode (DUIIT's always are)")
        g.add_argument("--truth", help="folder with the true target image of every source image, mirrored paths "
                                       "(default: <dataroot>/truth/<source>, if it is there)")
        return super().initialize(parser)

    def check(self, opt: Namespace) -> None:
        super().check(opt)
        if not opt.dataroot:
            raise UserError(f"--dataroot is missing: the run {opt.name} was imported without one; name the images to "
                            "test on")
        if opt.truth:
            require_folder("--truth", opt.truth)
        refuse_unwritable("--results_dir", opt.results_dir)
