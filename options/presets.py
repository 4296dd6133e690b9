"""Presets: TOML files with option values, one file an experiment, shipped in options/presets or written by the user.

What stands at the top of a file holds for every training. A file may go on with tables: `[translator]` holds for
models that translate, `[predictor]` for the others, `[start]` for the training that a predictor starts from, and
`[method]` says of a comparison's method what no option says (duiit_cli/experiments/planning/methods.py). Such a file
speaks of several models, so it may name options that the one at hand does not have.
"""
import argparse
import tomllib
from collections.abc import Collection, Mapping
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

from duiit.options.parsing import check_value, nearest, option_actions
from duiit.util.errors import UserError

FOLDER = Path(__file__).parent / "presets"
TABLES = ("method", "translator", "start", "predictor")


def names() -> list[str]:
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


@cache
def scales() -> list[str]:
    """Names of the presets that are not a method's: sizes and schedules for any."""
    return [n for n in names() if "method" not in read(n)]


def path_of(name_or_file: str | PathLike[str]) -> Path:
    """The file of a preset: one of ours by its name, or the user's own."""
    path = Path(name_or_file)
    return path if path.suffix == ".toml" else FOLDER / f"{name_or_file}.toml"


def read(name_or_file: str | PathLike[str]) -> dict[str, Any]:
    """The preset's {option: value}, unchecked. Raises UserError for a name, a file or a syntax that is wrong."""
    path = path_of(name_or_file)
    if not path.is_file():
        raise UserError(f"--preset {name_or_file}: no such preset or .toml file; the presets are {', '.join(names())}"
                        f"{nearest(str(name_or_file), names())}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"--preset {path}: not readable as TOML: {error}") from None
    values = {k.replace("-", "_"): v for k, v in values.items()}
    for key, value in values.items():
        if isinstance(value, dict) and key not in TABLES:
            raise UserError(f"--preset {path}: unknown table [{key}]; there are {', '.join(TABLES)}")
    return {k: {o.replace("-", "_"): v for o, v in value.items()} if isinstance(value, dict) else value
            for k, value in values.items()}


def top(values: Mapping[str, Any]) -> dict[str, Any]:
    """What holds for every training."""
    return {k: v for k, v in values.items() if not isinstance(v, dict)}


def of_training(values: Mapping[str, Any], model: str | None = None) -> dict[str, Any]:
    """{option: value} for one training: the top, and the table of the model, or the file's first one.

    model: name of the model that is asked for, or None.
    """
    tables = {k: v for k, v in values.items() if k in ("translator", "predictor")}
    if model is None:
        table: dict[str, Any] = next(iter(tables.values()), {})
    else:
        table = tables.get(kind_of(model), {}) if tables else {}
    return {**top(values), **table}


def kind_of(model: str) -> str:
    """`translator` or `predictor`: which table speaks of the model of this name. Raises UserError."""
    from duiit.models import find_model_using_name  # late: it imports torch

    return "translator" if hasattr(find_model_using_name(model), "translator") else "predictor"


def check(values: Mapping[str, Any], parser: argparse.ArgumentParser, name_or_file: str | PathLike[str] | None,
          model: str | None = None, left_out: Collection[str] = ()) -> dict[str, Any]:
    """The preset's values, each checked against the option it names. model: whose options they are, for the message.
    left_out: options that other models have, which the preset may name in vain."""
    actions = {a.dest: a for a in option_actions(parser) if a.dest != "preset"}
    checked = {}
    for key, value in values.items():
        if key not in actions and key in left_out:
            continue
        if key not in actions:
            of = f" with --model {model}" if model else ""
            raise UserError(f"--preset {name_or_file}: unknown option {key}{of}{nearest(key, actions)}")
        checked[key] = check_value(actions[key], value, f"--preset {name_or_file}: {key}")
    return checked
