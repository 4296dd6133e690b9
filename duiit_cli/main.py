"""The `duiit` command: the group of commands, each imported only when it runs, and the one place where errors end.

`duiit --help` must answer at once, so nothing here imports torch.
"""
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from duiit.util import threads
from duiit.util.errors import UserError, fail
from duiit.util.logs import setup_logging
from duiit.util.version import __version__
from duiit_cli.group import SETTINGS, LazyGroup

# Each is a module of duiit_cli.commands.
COMMANDS = {
    "train": "Train a model: translator and predictor jointly, or either alone.",
    "test": "Score a trained run on held-out images: a web page and metrics.json.",
    "translate": "Turn a folder of source images into synthetic target images.",
    "predict": "Predict the label of new target scans: one row a scan.",
    "evaluate": "Say how good translated images are: FID and KID, HU errors, label fidelity.",
    "experiment": "Compare methods on your data over several splits, with a report.",
    "import": "Make a run of networks that were trained with the CycleGAN toolkit.",
    "export": "Write a run's network as ONNX, TorchScript or PT2, compared with the original.",
    "data": "Check a data folder, or make a phantom one.",
    "trust": "Let runs use the plug-ins of a folder of yours without being asked.",
}


@click.command(cls=LazyGroup, package="duiit_cli.commands", table=COMMANDS, context_settings=SETTINGS,
               epilog="Shell completion: eval \"$(_DUIIT_COMPLETE=bash_source duiit)\" (or zsh_source, fish_source).")
@click.version_option(__version__, prog_name="duiit")
def cli() -> None:
    """DUIIT translates images of one modality (MRI, PET) into another (CT) jointly with a predictor that reads a label
    (age, a class) from CT, so that the translated images are useful training data."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits: 0 done, 2 a mistake in the input (one line on stderr), 130 interrupted."""
    setup_logging()
    threads.wait_asleep()
    try:
        code = cli.main(args=argv, prog_name="duiit", standalone_mode=False)
    except (UserError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        fail(message)
    except (KeyboardInterrupt, click.Abort):
        fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())      # `duiit … | head` is no failure
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
