"""How a command's options come together: declared once, filled from layers, checked.

Values come in layers, each overriding the one before: declared defaults < the run's train_opt.json (for commands that
work on a trained run) < `--preset` < the command line.
"""
import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from duiit.options import presets, run_file
from duiit.options.parsing import OptionParser, is_list, option_actions
from duiit.util import plugins, trust
from duiit.util.errors import UserError

log = logging.getLogger(__name__)
# What belongs to one call of a command, not to the run: never taken over from train_opt.json.
OWN_TO_THE_CALL = {"phase", "isTrain", "device", "gpu_ids", "threads", "num_threads", "verbose", "preset",
                   "checkpoints_dir", "name", "epoch", "load_iter", "averaged", "continue_train", "suffix", "cache_dir",
                   "cache", "display_server", "display_port"}
# And what shapes a training run, but not the use of it.
OF_TRAINING = {"batch_size", "max_dataset_size", "serial_batches", "extra", "raw", "no_target"}


class CommandOptions:
    """A command's options. Subclasses declare them in `initialize` and check them in `finish`."""

    isTrain = False
    only_shown = False      # True: the options are for help or completion, and nothing is done with them
    from_run = False        # True: --name is a trained run, whose options are the starting point
    of_training: "type[CommandOptions]"     # TrainOptions, whose options the preset of a whole method may name
    positional: str | None = None   # the option that a bare word sets, as in `duiit data check DATAROOT`

    def initialize(self, parser: OptionParser) -> OptionParser:
        """Adds this command's options to an argparse parser and returns it."""
        return parser

    def finish(self, opt: argparse.Namespace) -> argparse.Namespace:
        """Works out what follows from the values and refuses those that cannot work together."""
        return opt

    # -- declaring ---------------------------------------------------------------------------------------------

    def declare(self, argv: Sequence[str]) -> OptionParser:
        """The parser with the options of this command, model and data set as `argv` chooses them. Its `layers` hold
        the values below the command line, {name: value}."""
        parser = self.initialize(OptionParser(argv))
        given, _ = parser.given()
        whole = presets.read(given["preset"]) if given.get("preset") else {}
        if "choose" in whole.get("method", {}):
            raise UserError(f"--preset {given['preset']}: chooses between methods of an experiment and trains nothing "
                            "of its own; use it with `duiit experiment`, or one of those that it chooses from")
        run = self._run_layer(parser, {**presets.top(whole), **given})
        self._use_plugins(given, run, presets.top(whole))
        preset = presets.of_training(whole, given.get("model", run.get("model"))) if whole else {}
        parser.layers = {**run, **preset}
        chosen = {}
        for option, package in (("model", "duiit.models"), ("dataset_mode", "duiit.data")):
            chosen[option] = given.get(option, parser.layers.get(option, parser.get_default(option)))
            if chosen[option] is not None:
                self._extend(parser, package, str(chosen[option]))
        others = self.options_of_all() if len(presets.top(whole)) < len(whole) else ()
        parser.layers = {**run, **presets.check(preset, parser, given.get("preset"), chosen["model"], others)}
        return parser

    def options_of_all(self) -> set[str]:
        """Names of the options of every model and data set that training knows."""
        parser = self.of_training().initialize(OptionParser())
        for package, names in (("duiit.models", "model_names"), ("duiit.data", "dataset_names")):
            for name in getattr(import_module(package), names)():
                import_module(package).get_option_setter(name)(parser, True)
        return {a.dest for a in parser._actions}

    def _run_layer(self, parser: OptionParser, chosen: Mapping[str, Any]) -> dict[str, Any]:
        if not (self.from_run or chosen.get("continue_train")):
            return {}
        if chosen.get("suffix"):
            raise UserError("--suffix: give the whole --name of the run, with its suffix, instead")
        where, name = (str(chosen.get(o, parser.get_default(o))) for o in ("checkpoints_dir", "name"))
        left = OWN_TO_THE_CALL if self.isTrain else OWN_TO_THE_CALL | OF_TRAINING | self._of_this_command(parser)
        return {k: v for k, v in run_file.read(where, name).items() if k not in left}

    def _of_this_command(self, parser: OptionParser) -> set[str]:
        """Options that training does not have. A run says nothing of them, or somebody wrote them in: whoever uses a
        run decides alone what is written over, and whether a patient's name stays in it."""
        training = self.of_training().initialize(OptionParser())
        return {a.dest for a in option_actions(parser)} - {a.dest for a in option_actions(training)}

    def _use_plugins(self, given: Mapping[str, Any], run: Mapping[str, Any], preset: Mapping[str, Any]) -> None:
        """Brings into reach the plug-ins that this call names. Those that a run or a preset names are programs of
        whoever made it: they are used only where the user trusts their folder, and never for help and completion."""
        named_by = (f"--preset {given.get('preset')}" if "plugins" in preset else
                    f"--name {given.get('name', preset.get('name'))}")
        folder = preset.get("plugins", run.get("plugins"))
        if "plugins" in given or not folder:
            plugins.use(given.get("plugins"))
            return
        if self.only_shown:
            raise trust.Untrusted(f"the options of the plug-ins in {folder}; they are with --plugins {folder}")
        trust.require(folder, named_by)
        if plugins.in_use() != str(Path(folder).resolve()):
            log.info("%s: with the plug-ins in %s, a folder that you trust (duiit trust)", named_by, folder)
        plugins.use(folder)

    def _extend(self, parser: OptionParser, package: str, name: str) -> None:
        """Adds the options of one model or data set, as a group of their own."""
        before = set(parser._actions)
        setter = import_module(package).get_option_setter(name)
        kind, title = ("model", "Model") if package == "duiit.models" else ("dataset", "Data set")
        plugins.warn_of_namesake(f"{package}.{name}_{kind}")
        with plugins.blaming():
            setter(parser, self.isTrain)
        new: list[Any] = [action for action in parser._actions if action not in before]     # Any: for `container`,
        for action in new:                          # which argparse gives every action and its types leave out
            if action.container is parser._optionals:
                action.group_title = f"{title} {name}"

    def defaults_of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """{option: default} for the model and data set that `values` name, with the plug-ins that are in reach."""
        words = [f"--{key}={values[key]}" for key in ("model", "dataset_mode") if values.get(key)]
        return self.declare([*words, *([f"--plugins={plugins.in_use()}"] if plugins.in_use() else [])]).defaults()

    # -- values ------------------------------------------------------------------------------------------------

    def gather_options(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """All values, merged from their layers, unchecked against one another, and `words`, the command line they came
        from: argparse.Namespace."""
        argv = sys.argv[1:] if argv is None else argv
        parser = self.declare(argv)
        given, unknown = parser.given()
        if self.positional and unknown and not unknown[0].startswith("-"):
            given[self.positional] = unknown.pop(0)
        if unknown:
            raise parser.unknown_option(unknown[0])
        return argparse.Namespace(**{**parser.defaults(), **parser.layers, **given}, words=tuple(map(str, argv)))

    def parse_values(self, values: Mapping[str, Any]) -> argparse.Namespace:
        """The options of one call from Python, {name: value}: True sets a flag, None and False leave an option alone, a
        list gives an option several values."""
        given = {k: v for k, v in values.items() if v is not None and v is not False}
        words = [f"--{k}" if v is True else f"--{k}={v}" for k, v in given.items() if not isinstance(v, (list, tuple))]
        lists = {k: v for k, v in given.items() if isinstance(v, (list, tuple))}
        repeated = {a.dest for a in option_actions(self.declare(words)) if is_list(a)} if lists else set()
        for name, several in lists.items():
            words += [f"--{name}={v}" for v in (several if name in repeated else [",".join(map(str, several))])]
        return self.parse(words)

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """The options of one call, checked and ready to use. argv: list of words (default: the process's own)."""
        return self.finish(self.gather_options(argv))
