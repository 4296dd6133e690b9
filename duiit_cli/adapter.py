"""Click commands made from the option classes, so that each option is declared once.

Values are parsed, layered and checked by the options class alone: the command line and `TrainOptions().parse(argv)`
cannot differ. Click serves the help page and shell completion. Which options there are depends on the words (`--model`,
`--preset`, the run's `--name`): `duiit train --model predictor --help` shows that model's.
"""
import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from duiit.options.command_options import CommandOptions
from duiit.options.parsing import OptionParser, canonical, is_flag, is_list, option_actions
from duiit.util import plugins, trust
from duiit.util.bounds import Bounded
from duiit.util.errors import UserError
from duiit.util.logs import setup_logging

if TYPE_CHECKING:
    _AnyType = click.ParamType[Any]
else:
    _AnyType = click.ParamType          # generic from click 8.4 on

HELP = {"-h", "--help"}
FOLDERS = {"dataroot", "checkpoints_dir", "results_dir", "extra", "truth", "cache_dir", "plugins", "from_dir", "real",
           "fake", "mask"}
FILES = {"input", "output", "weights_P", "fid_weights", "published", "json", "fingerprint"}
# Options whose values are names of things that exist: (module, function that lists them), for completion.
NAMES = {"model": ("duiit.models", "model_names"), "dataset_mode": ("duiit.data", "dataset_names"),
         "preset": ("duiit.options.presets", "names")}


class OptionsCommand(click.Command):
    """A command whose options are those of an options class and whose work is `work(opt)`."""

    def __init__(self, name: str, options_class: type[CommandOptions], work: Callable[[argparse.Namespace], object],
                 help: str) -> None:       # noqa: A002 - click's own name
        super().__init__(name, callback=self._call, help=help)
        self.options, self.work = options_class(), work

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:                               # completion
            with plugins.only_named():
                self._make_params(args)
            return super().parse_args(ctx, [canonical(word) for word in args])
        if HELP & set(args):
            self._make_params([word for word in args if word not in HELP])
            click.echo(ctx.get_help())
            if self.not_shown:
                click.echo(f"\nNot shown: {self.not_shown}.")
            ctx.exit()
        ctx.params["opt"] = self.options.parse(args)
        return []

    def _call(self, opt: argparse.Namespace) -> object:
        setup_logging(getattr(opt, "verbose", False))
        return self.work(opt)

    # -- help and completion -----------------------------------------------------------------------------------

    def _make_params(self, words: Sequence[str]) -> None:
        """Click's view of the options. A wrong preset, run or option must stand in the way of neither help nor
        completion: then the options are those without it."""
        self.options.only_shown, self.not_shown = True, ""
        try:
            parser = self.options.declare(words)
        except UserError as error:
            self.not_shown = str(error) if isinstance(error, trust.Untrusted) else ""
            parser = self._declare_alone(words)
        finally:
            self.options.only_shown = False
        self.actions = [a for a in option_actions(parser) if a.help != argparse.SUPPRESS]
        self.params = [to_click(a) for a in self.actions]
        if self.options.positional:
            # Under a name of its own: the option of that name is there as well.
            self.params.append(click.Argument(["word"], metavar=f"[{self.options.positional.upper()}]",
                                              type=click.Path(), required=False))

    def _declare_alone(self, words: Sequence[str]) -> OptionParser:
        """The options without the words, but for the plug-ins, whose names are to be completed too."""
        folder = words[words.index("--plugins") + 1:][:1] if "--plugins" in words else []
        from_run, self.options.from_run = self.options.from_run, False
        try:
            return self.options.declare(["--plugins", *folder] if folder and Path(*folder).is_dir() else [])
        finally:
            self.options.from_run = from_run

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return super().shell_complete(ctx, canonical(incomplete))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options under the titles of their groups, those of the chosen model and data set last."""
        groups: dict[str, list[click.Option | None]] = {}
        for action in self.actions:
            groups.setdefault(_title(action), []).append(to_click(action))
        groups["Other"] = [self.get_help_option(ctx)]
        for title, options in groups.items():
            records = [option.get_help_record(ctx) for option in options if option]
            with formatter.section(title):
                formatter.write_dl([record for record in records if record])


def _title(action: Any) -> str:
    """Of an option's group. Any: argparse's types leave out `container`."""
    return getattr(action, "group_title", None) or action.container.title


def to_click(action: argparse.Action) -> click.Option:
    """One click option for one argparse action, under the name it was declared with."""
    settings: dict[str, Any] = {"help": (action.help or "").replace("%%", "%")}
    if is_flag(action):
        return click.Option([action.dest, *action.option_strings], is_flag=True, **settings)
    if not is_list(action):
        settings |= {"default": action.default, "show_default": action.default not in (None, "")}
    return click.Option([action.dest, *action.option_strings], multiple=is_list(action), type=_type(action),
                        metavar=action.metavar, **settings)


def _type(action: argparse.Action) -> _AnyType:
    if action.choices is not None:
        return click.Choice([str(c) for c in action.choices])
    if action.dest in FOLDERS:
        return click.Path(file_okay=False)
    if action.dest in FILES:
        return click.Path()
    return _Value(action)


class _Value(_AnyType):
    """Names the kind of value on the help page, and completes names of things that exist."""

    def __init__(self, action: argparse.Action) -> None:
        kind: Any = action.type.kind if isinstance(action.type, Bounded) else action.type
        self.name = {int: "integer", float: "number"}.get(kind, "text")
        self.listing = NAMES.get(action.dest)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if self.listing is None:
            return []
        module, function = self.listing
        return [CompletionItem(n) for n in getattr(import_module(module), function)() if n.startswith(incomplete)]
