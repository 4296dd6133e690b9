"""Click commands made from the option classes, so that each option is declared once.

The options of a command depend on its own words (`--model`, `--dataset_mode`, `--preset`, the run `--name`), so they are
made when the words are known: `duiit train --model predictor --help` shows that model's options.
"""
import argparse

import click

from options.parsing import is_flag, is_list, nearest, normalise, option_actions
from util.errors import UserError
from util.logs import setup_logging

FOLDERS = {"dataroot", "checkpoints_dir", "results_dir", "input", "output", "extra", "truth", "cache_dir"}
FILES = {"preset", "weights_P"}


class OptionsCommand(click.Command):
    """A command whose options are those of an options class and whose work is `run(opt)`."""

    def __init__(self, name, options_class, run, help, arguments=()):       # noqa: A002 - click's own name
        super().__init__(name, callback=self._call, help=help)
        self.options, self.work, self.arguments = options_class(), run, arguments

    def parse_args(self, ctx, args):
        words = normalise(args)
        if ctx.resilient_parsing or {"-h", "--help"} & set(words):
            self._declare_quietly(words)
        else:
            self._declare(words)
        try:
            return super().parse_args(ctx, words)
        except click.NoSuchOption as error:
            known = [s for a in option_actions(self.parser) for s in a.option_strings]
            raise UserError(f"unknown option {error.option_name}{nearest(error.option_name, known)}") from None

    def _declare(self, words):
        self.parser, self.layers = self.options.declare(words)
        self.params = [click.Argument([a.dest], type=_type(a)) if a.dest in self.arguments else to_click(a)
                       for a in option_actions(self.parser) if a.help != argparse.SUPPRESS]

    def _declare_quietly(self, words):
        """For help and completion: a wrong preset or run name must not stand in the way of either."""
        try:
            self._declare(words)
        except UserError:
            self._declare_without_run()

    def _declare_without_run(self):
        from_run, self.options.from_run = self.options.from_run, False
        try:
            self._declare([])
        finally:
            self.options.from_run = from_run

    def _call(self, **values):
        ctx = click.get_current_context()
        given = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()
                 if ctx.get_parameter_source(k) == click.core.ParameterSource.COMMANDLINE}
        opt = self.options.finish(self.options.merge(self.parser, self.layers, given))
        setup_logging(getattr(opt, "verbose", False))
        return self.work(opt)

    def format_options(self, ctx, formatter):
        """Options under the titles of their groups, those of the chosen model and data set last."""
        groups = {}
        by_name = {p.name: p for p in self.get_params(ctx)}
        for action in option_actions(self.parser):
            record = by_name.pop(action.dest, None)
            if isinstance(record, click.Option):
                groups.setdefault(group_of(action), []).append(record.get_help_record(ctx))
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)
        with formatter.section("Other"):
            formatter.write_dl([p.get_help_record(ctx) for p in by_name.values()])


def group_of(action):
    return getattr(action, "group_title", None) or action.container.title or "Options"


def to_click(action):
    """One click option for one argparse action."""
    settings = {"help": (action.help or "").replace("%%", "%"), "default": action.default}
    if is_flag(action):
        return click.Option(action.option_strings, is_flag=True, **settings)
    settings["show_default"] = action.default not in (None, "")
    if is_list(action):
        return click.Option(action.option_strings, multiple=True, type=_type(action), metavar=action.metavar,
                            help=settings["help"])
    return click.Option(action.option_strings, type=_type(action), metavar=action.metavar, **settings)


def _type(action):
    if action.choices is not None:
        return click.Choice([str(c) for c in action.choices])
    if action.dest in FOLDERS:
        return click.Path(file_okay=action.dest not in ("dataroot", "checkpoints_dir", "results_dir"))
    if action.dest in FILES:
        return click.Path()
    return _Checked(action)


class _Checked(click.ParamType):
    """A value that the option's own type function checks, whichever package declared it."""

    def __init__(self, action):
        kind = getattr(action.type, "kind", action.type)
        self.action = action
        self.name = {int: "integer", float: "number"}.get(kind, "text")

    def convert(self, value, param, ctx):
        if self.action.type is None or not isinstance(value, str):
            return value
        try:
            return self.action.type(value)
        except (argparse.ArgumentTypeError, TypeError, ValueError) as error:
            message = str(error) if isinstance(error, argparse.ArgumentTypeError) else f"{value!r} is not a {self.name}"
            raise UserError(f"--{self.action.dest}: {message}") from None
