"""How an experiment was made, in the report: its command, every training's options, the presets' texts, versions."""
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from duiit.options import presets
from duiit.options.train_options import MAY_CHANGE
from duiit.util import plugins, provenance, trust
from duiit.util.errors import UserError
from duiit.util.problems import counted
from duiit_cli.experiments.reporting import page
from duiit_cli.experiments.reporting.cohorts import options_of
from duiit_cli.experiments.reporting.results import Experiment

STAGES = {"translators": "Translator", "starts": "Start of the predictor", "cells": "Predictor"}
# Of the options that change nothing of what is computed, those that are told all the same.
_TOLD = {"max_steps", "early_stop", "on_nan", "device"}


def command(experiment: Experiment) -> str:
    """The words that make the experiment again, options that an earlier call gave among them."""
    given = [word for key, value in experiment.given.items() for word in _words(key, value)]
    return "duiit experiment " + shlex.join([*given, f"--output={experiment.folder.resolve()}"])


def _words(key: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [f"--{key}"] if value else []
    return [f"--{key}={v}" for v in (value if isinstance(value, list) else [value]) if v is not None]


def settings(experiment: Experiment) -> page.Element:
    """Every option of the experiment as it came together; of an older DUIIT those that were kept."""
    found = dict(sorted({**experiment.options, **experiment.settings}.items()))
    given = {k: _pair(k, v, experiment) for k, v in found.items() if k in experiment.given}
    return page.options("Settings of the experiment", {
        "on the command line": list(given.values()),
        "by --preset or by default": [_pair(k, v, experiment) for k, v in found.items() if k not in given]})


# -- the options of each training --------------------------------------------------------------------------------

def options_by_method(experiment: Experiment) -> list[page.Element]:
    """A folded piece for each method: its trainings' options, as in the first split that has them."""
    tasks = _tasks(experiment.folder)
    pieces = []
    for name, method in experiment.methods.items():
        told = next(filter(None, (list(_trainings(experiment, tasks, name, k)) for k in experiment.splits)), None)
        if told:
            pieces.append(page.folded(method.title, *told))
    return pieces


def _tasks(folder: Path) -> dict[str, dict[str, Any]]:
    """{id: task} of plan.json; {} where it cannot be read."""
    try:
        return {task["id"]: task for task in json.loads((folder / "plan.json").read_text(encoding="utf-8"))}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _trainings(experiment: Experiment, tasks: Mapping[str, dict[str, Any]], name: str,
               split: int) -> Iterator[page.Element]:
    cell = f"cells/{name}/split_{split:02d}"
    for task_id in (*tasks.get(cell, {}).get("needs", ()), cell):
        found = options_of(experiment.folder / task_id)
        words_of = [w for w in tasks.get(task_id, {}).get("words", ())[1:] if w.startswith("--")]
        if found or words_of:
            stage = STAGES.get(task_id.partition("/")[0], "Training")
            yield page.options(f"{stage}: {task_id}", _sorted(found, experiment) if found else {
                "as planned, not trained yet": [_shown(w[2:], experiment) for w in words_of]})


def _sorted(found: Mapping[str, Any], experiment: Experiment) -> dict[str, list[str]]:
    """The options of a run under what is to be said of them: {heading: [text]}."""
    defaults = _defaults(found)
    told = {k: v for k, v in found.items() if k not in (MAY_CHANGE - _TOLD) | {"model"}}
    if defaults is None:
        return {"options": [_pair(k, v, experiment) for k, v in told.items()]}
    changed = {k: v for k, v in told.items() if k in defaults and not _equal(v, defaults[k])}
    kept = {k: v for k, v in told.items() if k in defaults and k not in changed}
    facts = {k: v for k, v in told.items() if k not in defaults}
    model = {"model": found["model"]} if "model" in found else {}
    return {page.MARKED: [
        *(f"{k} = {_formatted(v)}" for k, v in model.items()),
        *(f"{_pair(k, v, experiment)} (default {_formatted(defaults[k]) or 'none'})" for k, v in changed.items())],
        "as by default": [_pair(k, v, experiment) for k, v in kept.items()],
        "what the data said": [_pair(k, v, experiment) for k, v in facts.items()]}


def _defaults(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """{option: default} of the model that a run trained; None where that is a plug-in which is not here any more, or
    in a folder that neither this call nor the user's list names: a report of somebody's experiment runs no programs."""
    from duiit.options import TrainOptions  # late: it imports torch

    folder = found.get("plugins")
    try:
        if folder and folder != plugins.in_use():
            if not trust.is_trusted(folder):
                return None
            plugins.use(folder)
        return TrainOptions().defaults_of(found)
    except UserError:
        return None


def _equal(value: object, default: object) -> bool:
    return value == (list(default) if isinstance(default, tuple) else default)


def _pair(key: str, value: object, experiment: Experiment) -> str:
    return _shown(f"{key} = {_formatted(value) or 'none'}", experiment)


def _shown(text: str, experiment: Experiment) -> str:
    """Files of the experiment are named from its folder on."""
    return text.replace(f"{experiment.folder.resolve()}/", "")


def _formatted(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_formatted(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_formatted, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)


# -- presets -----------------------------------------------------------------------------------------------------

def preset_texts(experiment: Experiment) -> list[page.Element]:
    """A folded piece for each preset file of the methods, and --preset's: its text as it was when it was used."""
    whole = experiment.settings.get("preset")
    found = {whole: experiment.given.get("preset", whole)}          # the latter is found from anywhere
    names = dict.fromkeys([*([whole] if whole else []), *(m.recipe for m in experiment.methods.values() if m.recipe)])
    texts = {name: experiment.presets.get(name) or _text_now(found.get(name, name)) for name in names}
    return [page.folded(f"{name} (--preset)" if name == whole else name, page.listing(text.splitlines()))
            for name, text in texts.items()]


def _text_now(name: str) -> str:
    """Of an experiment that did not keep it."""
    try:
        return presets.path_of(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "its file is not there any more"


# -- versions ----------------------------------------------------------------------------------------------------

def made_with(experiment: Experiment) -> list[str]:
    """Versions and devices, and how many cells had each, where they differ."""
    cells = list(experiment.cells.values())
    found: dict[str, int] = {}
    for cell in cells:
        versions = cell.record.get("versions")
        told = ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else "versions not told"
        threads = cell.record.get("threads")
        key = f"{told}; device {cell.record.get('device') or 'not told'}" + (
            f", {counted(threads, 'thread')}" if threads else "")
        found[key] = found.get(key, 0) + 1
    lines = [key if len(found) == 1 else f"{counted(n, 'cell')}: {key}" for key, n in found.items()]
    noted = provenance.read(experiment.folder)
    lines += [provenance.in_words(noted[-1])] if noted else []
    ended = sorted(str(c.record["finished"]) for c in cells if c.record.get("finished"))
    lines.append(f"begun {experiment.created or 'at a time not told'}, with DUIIT "
                 f"{experiment.version or 'of a version not told'}"
                 + (f"; last cell finished {ended[-1]}" if ended else ""))
    return lines


def run_commands(experiment: Experiment) -> list[str]:
    """The commands of each method's first finished split."""
    lines: list[str] = []
    for name, method in experiment.methods.items():
        cell = next((experiment.cells[name, k] for k in experiment.splits if (name, k) in experiment.cells), None)
        commands = cell.record.get("commands") if cell else None
        if cell and isinstance(commands, list) and commands:
            lines += [f"# {method.title}, split {cell.split}", *map(str, commands), ""]
    return lines
