"""The `duiit` command: the group of commands, each imported only when it runs, and the one place where errors end.

`duiit --help` must answer at once, so nothing here imports torch.
"""
import logging
import os
import sys
from importlib import import_module

import click

from duiit_cli import __version__
from util.errors import UserError
from util.logs import setup_logging

COMMANDS = {
    "train": ("duiit_cli.train", "Train a model: translator and predictor jointly, or either alone."),
    "test": ("duiit_cli.test", "Score a trained run on held-out images: a web page and metrics.json."),
    "translate": ("duiit_cli.translate", "Turn a folder of source images into synthetic target images."),
    "predict": ("duiit_cli.predict", "Predict the label of new target scans: one row a scan."),
    "data": ("duiit_cli.data", "Check a data folder, or make a phantom one."),
}


class LazyGroup(click.Group):
    """Lists its commands from a table and imports the one that is called."""

    def __init__(self, *args, table, **kwargs):
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx):
        return list(self.table)

    def get_command(self, ctx, name):
        if name not in self.table:
            return None
        return import_module(self.table[name][0]).command

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])

    def shell_complete(self, ctx, incomplete):
        from click.shell_completion import CompletionItem
        words = [CompletionItem(n, help=text) for n, (_, text) in self.table.items() if n.startswith(incomplete)]
        return words or click.Command.shell_complete(self, ctx, incomplete)


@click.command(cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]},
               epilog="Shell completion: eval \"$(_DUIIT_COMPLETE=bash_source duiit)\" (or zsh_source, fish_source).")
@click.version_option(__version__, prog_name="duiit")
def cli():
    """DUIIT translates images of one modality (MRI, PET) into another (CT) jointly with a predictor that reads a label
    (age, a class) from CT, so that the translated images are useful training data."""


def main(argv=None):
    """Runs the command line and exits: 0 done, 2 a mistake in the input (one line on stderr), 130 interrupted."""
    setup_logging()
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


def fail(message, code=2):
    logging.getLogger(__name__).error("%s", " ".join(str(message).split()))
    sys.exit(code)
