"""`train_opt.json`, the options of a run, and `facts.json`, what its data said, for the programs that come after."""
import json
import math
from argparse import Namespace
from os import PathLike
from pathlib import Path
from typing import Any

from duiit.options.parsing import nearest
from duiit.util import facts
from duiit.util.errors import UserError
from duiit.util.files import write_json, write_text

NAME = "train_opt.json"
FACTS = "facts.json"
PLAN = "plan.json"      # of an experiment, which is no run but holds some
# Options that mean "no limit", which JSON has no number for.
ENDLESS = {"inf": math.inf, "-inf": -math.inf}
# What runs did before these options were there. Each scan of PET was scaled by its own percentiles, images were not
# resampled, validation counted images, and steps were made in the plain way.
BEFORE = {"pet_window": "percentiles", "spacing": None, "val_by": "image",
          "amp": "off", "compile": "off", "channels_last": "off", "accumulate": 1, "clip_grad": 0.0, "ema": 0.0}
OF_THE_CALL = {"words"}     # how the options were given, which provenance.json keeps of every call
MANY = 10               # so many runs are listed where one is not found


def write(folder: str | PathLike[str], opt: Namespace, version: str) -> None:
    """Writes every option of `opt` that JSON can hold (lists, text, numbers), and what the data said."""
    write_json(Path(folder) / FACTS, opt.facts.said())      # first: a run has begun once its options are there
    options = {k: str(v) if v in ENDLESS.values() else v for k, v in sorted(vars(opt).items())
               if k not in OF_THE_CALL and _is_plain(v)}
    text = json.dumps({"duiit_version": version, "options": options}, indent=1, allow_nan=False)
    write_text(Path(folder) / NAME, text + "\n")


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(v) for v in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return value is None or isinstance(value, (bool, int, float, str))


def read(checkpoints_dir: str | PathLike[str], name: str) -> dict[str, Any]:
    """The options of the run `name`. Raises UserError if there is no such run or its file is damaged."""
    options, older = _recorded(checkpoints_dir, name)
    return {k: v for k, v in options.items() if not (older and k in facts.NAMES)}


def read_facts(checkpoints_dir: str | PathLike[str], name: str) -> facts.Facts:
    """What the data of the run `name` said. Raises UserError as `read` does."""
    options, older = _recorded(checkpoints_dir, name)
    path = Path(checkpoints_dir) / name / FACTS
    if older:
        return facts.from_json(options, path)
    try:
        return facts.from_json(dict(json.loads(path.read_text(encoding="utf-8"))), path)
    except (OSError, ValueError, TypeError):
        raise UserError(f"{path} is damaged: not the JSON that `duiit train` writes; restore or retrain it") from None


def _recorded(checkpoints_dir: str | PathLike[str], name: str) -> tuple[dict[str, Any], bool]:
    """(all values of train_opt.json, whether the facts are among them, as before they had a file of their own)."""
    root = Path(checkpoints_dir)
    path = root / name / NAME
    if not path.is_file():
        raise UserError(f"--name {name}: no such run under {root}; {_known(name, root)}")
    try:
        options = json.loads(path.read_text(encoding="utf-8"))["options"]
        values = {k: ENDLESS.get(v, v) if isinstance(v, str) else v for k, v in options.items()}
        return {**BEFORE, **values}, not path.with_name(FACTS).is_file()
    except (AttributeError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: not the JSON that `duiit train` writes; restore or retrain it") from None


def refuse_as_images(option: str, folder: str | PathLike[str] | None) -> None:
    """Raises UserError where `folder` holds a run or an experiment, whose pages have pictures too."""
    found = next((kind for kind, name in (("a trained run", NAME), ("an experiment", PLAN))
                  if folder and (Path(folder) / name).is_file()), None)
    if found:
        raise UserError(f"--{option} {folder}: is {found}, not a folder of images; runs are named by "
                        f"--checkpoints_dir and --name, and --{option} names the images")


def _known(name: str, root: Path) -> str:
    if (root / NAME).is_file():
        whole = root.resolve()
        return f"{root} is a run itself: give --checkpoints_dir {whole.parent} --name {whole.name}"
    experiment = next((f for f in (root / name, root) if (f / PLAN).is_file()), None)
    if experiment:
        methods = sorted(p.name for p in (experiment / "cells").glob("*") if any(p.glob(f"*/{NAME}")))
        return (f"{experiment} is an experiment: its runs are such as --checkpoints_dir "
                f"{experiment / 'cells' / (methods or ['METHOD'])[0]} --name split_00")
    runs = sorted(p.parent.name for p in root.glob(f"*/{NAME}"))
    if not runs:
        return "no run is there yet; `duiit train` makes one, --checkpoints_dir says where to look"
    shown = ", ".join(runs[:MANY]) + (f" and {len(runs) - MANY} more" if len(runs) > MANY else "")
    return f"the runs there are {shown}{nearest(name, runs)}"
