"""The commands as functions. Their options are keyword arguments under the same names, checked by the same classes.

A mistake in them is a `duiit.UserError` with the line that the command line would print. Nothing is printed: messages
go to `logging`, progress to a bar (in a notebook too).
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from duiit.options import CheckOptions, ExperimentOptions, PhantomOptions, TrainOptions
from duiit.run import Run
from duiit.util.errors import UserError
from duiit_cli.commands import data as data_commands
from duiit_cli.commands import experiment as experiment_command
from duiit_cli.commands import train as train_command


def load(name: str, checkpoints_dir: str | Path = "./checkpoints", **options: Any) -> Run:
    """The trained run of that name, ready to translate and predict.

    options: those of every command on a run, such as epoch="best", device="cpu". Raises UserError where there is none.
    """
    return Run(name=name, checkpoints_dir=checkpoints_dir, **options)


def train(dataroot: str | Path, **options: Any) -> Run:
    """What `duiit train` does; returns the run. An interrupt saves all; continue_train=True goes on."""
    opt = TrainOptions().parse_values({"dataroot": dataroot, **options})
    code = train_command.run(opt)
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise RuntimeError(f"the training ended with status {code}: see {opt.checkpoints_dir}/{opt.name}/train.log")
    return load(opt.name, opt.checkpoints_dir, device=opt.device, plugins=opt.plugins)


@dataclass(frozen=True)
class Experiment:
    """What `duiit experiment` left in its folder: the page, and its tables (docs/experiments.md names the columns)."""
    folder: Path
    report: Path
    complete: bool                  # False where a part failed; the report says which
    results: pd.DataFrame           # a row a method and split
    summary: pd.DataFrame           # a row a method
    comparisons: pd.DataFrame       # a row a pair of methods


def experiment(dataroot: str | Path | None = None, *, output: str | Path, **options: Any) -> Experiment:
    """What `duiit experiment` does. Called again it goes on, and with all done reads what is there."""
    if options.get("dry_run"):
        raise UserError("dry_run: prints a plan; use `duiit experiment --dry_run`")
    code = experiment_command.run(ExperimentOptions().parse_values({"dataroot": dataroot, "output": output, **options}))
    folder = Path(output)
    tables = {name: pd.read_csv(path) if (path := folder / f"{name}.csv").is_file() else pd.DataFrame()
              for name in ("results", "summary", "comparisons")}
    return Experiment(folder, folder / "report.html", complete=code == 0, **tables)


def phantom(output: str | Path, **options: Any) -> Path:
    """What `duiit data phantom` does; returns the folder."""
    data_commands.make_phantom(PhantomOptions().parse_values({"output": output, **options}))
    return Path(output)


def check(dataroot: str | Path, **options: Any) -> dict[str, Any]:
    """What `duiit data check` finds, as its `--json` holds it: {"modalities": …, "problems": […]}."""
    from duiit.data.checking.check import as_json, check_folder

    return as_json(*check_folder(CheckOptions().parse_values({"dataroot": dataroot, **options})))
