"""Options of `duiit evaluate`."""
import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duiit.options import run_file
from duiit.options.base_options import BaseOptions, check_words
from duiit.options.parsing import OptionParser, nearest
from duiit.util.errors import UserError
from duiit.util.files import refuse_unwritable

DISTRIBUTION = ("fid", "kid", "is", "fd_efficientnet_lite0", "fd_predictor")
PAIRED = ("mae", "psnr", "ssim")
OF_A_RUN = ("fd_predictor", "label_fidelity")
METRICS = (*DISTRIBUTION, *PAIRED, "label_fidelity")
# The options of the other commands that say something here; the rest is there with its defaults, for a run's models.
SHOWN = {"name", "checkpoints_dir", "epoch", "load_iter", "plugins", "device", "gpu_ids", "verbose", "target", "slices",
         "keep_empty", "batch_size", "ct_window", "pet_window", "mri_channel", "task", "label_column", "id_column",
         "patient_regex"}
MEANINGS = {"name": "a run, whose windows and target hold, and whose predictor reads the images",
            "target": "what the images are of", "batch_size": "images that go through a network at once",
            "slices": "slices of a volume of --real to use: all, 0.3-0.8 (by height), every:N",
            "keep_empty": "count constant and almost empty images too"}
# Where a run's own tables keep its labels; translated images bring a table of another kind.
OF_TABLES = ("label_column", "id_column", "patient_regex")


class EvaluateOptions(BaseOptions):
    """Options that are a run's only where one is named: then its window, target and predictor hold."""

    def initialize(self, parser: OptionParser) -> OptionParser:
        g = parser.add_argument_group("Evaluating")
        g.add_argument("--real", metavar="DIR", help="folder of real target images")
        g.add_argument("--fake", metavar="DIR", help="folder of translated images, as `duiit translate` writes them")
        g.add_argument("--paired", action="store_true",
                       help="--real holds the true image of every translated one, under the same relative path")
        g.add_argument("--mask", metavar="DIR", help="--paired: folder of body masks under the same relative paths, 0 "
                                                     "outside (default: found in the real CT)")
        g.add_argument("--metrics", help=f"with commas, of {', '.join(METRICS)} (default: all that need no download)")
        g.add_argument("--fid_weights", metavar="FILE",
                       help="Inception weights for fid, kid and is (default: torch's cache; they are fetched where "
                            "--metrics asks for one of the three)")
        g.add_argument("--output", metavar="FILE", help="write the figures to this .json file as well")
        own = {action.dest for action in parser._actions}
        parser = super().initialize(parser)
        parser.set_defaults(name=None, model=None, dataset_mode=None, batch_size=16)
        for action in parser._actions:
            hidden = None if action.dest in SHOWN | own else argparse.SUPPRESS
            action.help = hidden or MEANINGS.get(action.dest, action.help)
        return parser

    def _run_layer(self, parser: OptionParser, chosen: Mapping[str, Any]) -> dict[str, Any]:
        if not chosen.get("name"):
            self.run_tables = {}
            return {}
        self.from_run = True
        try:
            run = super()._run_layer(parser, chosen)
        finally:
            self.from_run = False
        self.run_tables = {key: run.pop(key, None) for key in OF_TABLES}
        where = chosen.get("checkpoints_dir", parser.get_default("checkpoints_dir"))
        self.run_extra = run_file.read(where, chosen["name"]).get("extra") or []
        return run

    def of_run(self, opt: argparse.Namespace) -> bool:
        return bool(opt.name)

    def finish(self, opt: argparse.Namespace) -> argparse.Namespace:
        opt.run_tables = self.run_tables
        opt.run_extra = self.run_extra if opt.name else []
        return super().finish(opt)

    def check(self, opt: argparse.Namespace) -> None:
        for side in ("real", "fake"):
            if not getattr(opt, side):
                raise UserError(f"--{side} is missing: name the folder of {side} images")
        if opt.mask and not opt.paired:
            raise UserError("--mask: only images that are compared with their truth need one; give --paired as well")
        if opt.mask and not Path(opt.mask).is_dir():
            raise UserError(f"--mask {opt.mask}: no such folder")
        if opt.fid_weights and not Path(opt.fid_weights).is_file():
            raise UserError(f"--fid_weights {opt.fid_weights}: no such file")
        if opt.output and not opt.output.lower().endswith(".json"):
            raise UserError(f"--output {opt.output}: give a name that ends in .json")
        if opt.output:
            refuse_unwritable("--output", opt.output)
        check_words(opt)
        opt.asked = _names(opt.metrics)
        self._check_asked(opt)

    @staticmethod
    def _check_asked(opt: argparse.Namespace) -> None:
        """Refuses metrics that need an option which is not there."""
        for name in opt.asked:
            if name in PAIRED and not opt.paired:
                raise UserError(f"--metrics {name}: compares images with their truth; give --paired, with a --real "
                                "that holds it")
            if name in OF_A_RUN and not opt.name:
                raise UserError(f"--metrics {name}: takes the predictor of a run; name one with --name")
        if opt.paired and opt.asked and not set(PAIRED) & set(opt.asked):
            raise UserError(f"--paired: --metrics names none of {', '.join(PAIRED)}")


def _names(text: str | None) -> tuple[str, ...]:
    """`fid,kid` -> ("fid", "kid"); () where nothing is asked for."""
    names = tuple(dict.fromkeys(word.strip().lower() for word in (text or "").split(",") if word.strip()))
    for name in names:
        if name not in METRICS:
            raise UserError(f"--metrics {name}: no such metric{nearest(name, METRICS)}; there are {', '.join(METRICS)}")
    return names
