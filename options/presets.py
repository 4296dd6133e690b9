"""Presets: TOML files with option values, one file an experiment, shipped in options/presets or written by the user."""
import tomllib
from pathlib import Path

from options.parsing import check_value, nearest, option_actions
from util.errors import UserError

FOLDER = Path(__file__).parent / "presets"


def names():
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


def read(name_or_file):
    """The preset's {option: value}, unchecked. Raises UserError for a name, a file or a syntax that is wrong."""
    path = Path(name_or_file)
    if path.suffix != ".toml":
        path = FOLDER / f"{name_or_file}.toml"
    if not path.is_file():
        raise UserError(f"--preset {name_or_file}: no such preset or .toml file; the presets are {', '.join(names())}"
                        f"{nearest(str(name_or_file), names())}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"--preset {path}: not readable as TOML: {error}") from None
    return {k.replace("-", "_"): v for k, v in values.items()}


def check(values, parser, name_or_file, model=None):
    """The preset's values, each checked against the option it names. model: whose options they are, for the message."""
    actions = {a.dest: a for a in option_actions(parser) if a.dest != "preset"}
    checked = {}
    for key, value in values.items():
        if key not in actions:
            of = f" with --model {model}" if model else ""
            raise UserError(f"--preset {name_or_file}: unknown option {key}{of}{nearest(key, actions)}")
        checked[key] = check_value(actions[key], value, f"--preset {name_or_file}: {key}")
    return checked
