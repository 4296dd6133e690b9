"""How a command's options come together: declared once, filled from layers, checked.

Values come in layers, each overriding the one before: declared defaults < the run's train_opt.json (for commands that
work on a trained run) < `--preset` < the command line.
"""
import argparse
import sys
from importlib import import_module

from options import presets, run_file
from options.parsing import OptionParser, is_list, nearest, normalise, option_actions
from util.errors import UserError

# What belongs to one call of a command, not to the run: never taken over from train_opt.json.
OWN_TO_THE_CALL = {"phase", "isTrain", "device", "gpu_ids", "num_threads", "verbose", "preset", "checkpoints_dir",
                   "name", "epoch", "load_iter", "continue_train", "suffix", "cache_dir"}
# And what shapes a training run, but not the use of it.
OF_TRAINING = {"batch_size", "max_dataset_size", "serial_batches", "extra", "no_target"}


class CommandOptions:
    """A command's options. Subclasses declare them in `initialize` and check them in `finish`."""

    isTrain = False
    from_run = False        # True: --name is a trained run, whose options are the starting point

    def initialize(self, parser):
        """Adds this command's options to an argparse parser and returns it."""
        return parser

    def finish(self, opt):
        """Works out what follows from the values and refuses those that cannot work together."""
        return opt

    # -- declaring ---------------------------------------------------------------------------------------------

    def declare(self, argv):
        """The parser with the options of this command, model and data set as `argv` chooses them, and the layers
        below the command line as {name: value}."""
        parser = self.initialize(OptionParser(argv))
        given, _ = parser.given()
        run = self._run_layer(given, parser)
        preset = presets.read(given["preset"]) if "preset" in given else {}
        chosen = {**run, **{k.replace("-", "_"): v for k, v in preset.items()}, **given}
        for option, package in (("model", "models"), ("dataset_mode", "data")):
            name = chosen.get(option, parser.get_default(option))
            if name is not None:
                self._extend(parser, package, name)
        return parser, {**run, **presets.check(preset, parser, given.get("preset"))}

    def _run_layer(self, given, parser):
        if not (self.from_run or given.get("continue_train")):
            return {}
        values = run_file.read(given.get("checkpoints_dir", parser.get_default("checkpoints_dir")),
                               given.get("name", parser.get_default("name")))
        left = OWN_TO_THE_CALL if self.isTrain else OWN_TO_THE_CALL | OF_TRAINING
        return {k: v for k, v in values.items() if k not in left}

    def _extend(self, parser, package, name):
        """Adds the options of one model or data set, as a group of their own."""
        before = len(parser._actions)
        setter = import_module(package).get_option_setter(name)
        setter(parser, self.isTrain)
        kind = "Model" if package == "models" else "Data set"
        for action in parser._actions[before:]:
            if action.container is parser._optionals:
                action.group_title = f"{kind} {name}"

    # -- values ------------------------------------------------------------------------------------------------

    def gather_options(self, argv=None):
        """All values, merged from their layers, unchecked against one another: argparse.Namespace."""
        argv = normalise(sys.argv[1:] if argv is None else argv)
        parser, layers = self.declare(argv)
        given, unknown = parser.given()
        if unknown:
            known = [s for a in option_actions(parser) for s in a.option_strings]
            raise UserError(f"unknown option {unknown[0]}{nearest(unknown[0], known)}")
        return self.merge(parser, layers, given)

    def merge(self, parser, layers, given):
        values = {a.dest: a.default for a in option_actions(parser)}
        values.update({a.dest: [] for a in option_actions(parser) if is_list(a) and a.default is None})
        values.update(layers)
        values.update(given)
        return argparse.Namespace(**values)

    def parse(self, argv=None):
        """The options of one call, checked and ready to use. argv: list of words (default: the process's own)."""
        return self.finish(self.gather_options(argv))
