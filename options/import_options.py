"""Options of `duiit import`."""
import argparse
from collections.abc import Collection, Sequence
from os import PathLike
from pathlib import Path

from duiit.options.base_options import BaseOptions
from duiit.options.parsing import OptionParser
from duiit.util.errors import UserError

# Read off the weights where they are not given.
INFERRED = ("netG", "ngf", "input_nc", "output_nc", "norm", "no_dropout", "upsample", "netD", "ndf", "n_layers_D",
            "netP", "task")


def value_range(text: str) -> tuple[float, float]:
    """`LOW,HIGH` -> (low, high)."""
    try:
        low, high = (float(part) for part in str(text).split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not LOW,HIGH, such as 0,255") from None
    if not low < high:
        raise argparse.ArgumentTypeError(f"{text}: the low end must be below the high one")
    return low, high


class ImportOptions(BaseOptions):
    """What `duiit train` would have been given: it becomes the new run's train_opt.json."""

    def initialize(self, parser: OptionParser) -> OptionParser:
        g = parser.add_argument_group("Importing")
        g.add_argument("--from", dest="from_dir", metavar="DIR",
                       help="folder with the networks: <epoch>_net_G_A.pth, <epoch>_net_G_B.pth, …")
        g.add_argument("--target_range", type=value_range, metavar="LOW,HIGH",
                       help="grey values that -1 and 1 of the target stand for (default: 0,255; --target ct: the HU "
                            "of --ct_window)")
        g.add_argument("--classes", help="names of the predictor's classes, with commas (default: 0,1,…)")
        parser = super().initialize(parser)
        given, _ = parser.given()
        folder, epoch = given.get("from_dir"), given.get("epoch", "latest")
        parser.set_defaults(model=_model_of(networks_in(folder, epoch)), target=None)
        return parser

    def declare(self, argv: Sequence[str]) -> OptionParser:
        parser = super().declare(argv)
        known = {a.dest for a in parser._actions}
        self.fallbacks = {name: parser.get_default(name) for name in INFERRED if name in known}
        parser.set_defaults(**dict.fromkeys(self.fallbacks))
        return parser

    def finish(self, opt: argparse.Namespace) -> argparse.Namespace:
        opt.fallbacks = self.fallbacks      # for what neither the words nor the weights say
        return super().finish(opt)

    def check_data(self, opt: argparse.Namespace) -> None:
        if not opt.from_dir:
            raise UserError("--from is missing: name the folder that holds the networks")
        if not Path(opt.from_dir).is_dir():
            raise UserError(f"--from {opt.from_dir}: no such folder")
        if opt.dataroot and not Path(opt.dataroot).is_dir():
            raise UserError(f"--dataroot {opt.dataroot}: no such folder")


def networks_in(folder: str | PathLike[str] | None, epoch: str) -> dict[str, Path]:
    """{network's name: its file} for the files <epoch>_net_<name>.pth of a folder."""
    if not folder or not Path(folder).is_dir():
        return {}
    files = sorted(Path(folder).glob("*_net_*.pth"))
    return {p.stem.removeprefix(f"{epoch}_net_"): p for p in files if p.name.startswith(f"{epoch}_net_")}


def _model_of(names: Collection[str]) -> str:
    """The model that networks of these names belong to; duiit is cycle_gan with a predictor."""
    if "P" in names:
        return "duiit" if any(n.startswith("G_A") for n in names) else "predictor"
    return "cycle_gan"
