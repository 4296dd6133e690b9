"""One task of an experiment, in a process of its own: train, then test or translate, then say that it is done.

    python -m duiit_cli.experiments.running.task OUTPUT TASK_ID

A task that was stopped goes on where it stopped: training from its last state, the rest anew. Its done file (cell.json,
translator.json, start.json, quality.json) is written last; where the task failed, failed.json says why in one line.
"""
import json
import logging
import math
import os
import shutil
import sys
import threading
import time
from argparse import Namespace
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any

from duiit.util import threads
from duiit.util.errors import UserError
from duiit.util.files import write_json
from duiit_cli.experiments.planning import plan

log = logging.getLogger(__name__)
FAILED = "failed.json"


def done_file(root: str | PathLike[str], task: plan.Task) -> Path:
    """Where a task says that it ended well."""
    if task.kind == plan.QUALITY:
        return Path(root) / plan.PLACES[plan.TRANSLATOR] / task.name / f"split_{task.split:02d}" / "quality.json"
    return Path(root) / task.id / f"{plan.CELL if task.kind == plan.CHOICE else task.kind}.json"


def failed_file(root: str | PathLike[str], task: plan.Task) -> Path:
    return done_file(root, task).with_name("quality_failed.json" if task.kind == plan.QUALITY else FAILED)


def log_file(root: str | PathLike[str], task: plan.Task) -> Path:
    return Path(root) / "logs" / f"{task.id.replace('/', '_')}.log"


def fail(root: str | PathLike[str], task: plan.Task, error: object) -> None:
    """Notes that the task failed, and why: one line."""
    write_json(failed_file(root, task), {"error": " ".join(str(error).split()),
                                         "log": str(log_file(root, task).relative_to(root))})


def run(root: str | PathLike[str], task: plan.Task) -> None:
    """Does the task. Raises what goes wrong; SystemExit where it was asked to stop."""
    began = time.monotonic()
    if task.kind == plan.QUALITY:
        from duiit_cli.experiments.running.quality import assess

        report = assess(root, task)
    elif task.kind == plan.CHOICE:
        report = _choose(root, task)
    else:
        resumed = _train(root, task)
        finish = {plan.CELL: _finish_cell, plan.TRANSLATOR: _finish_translator}.get(task.kind, _finish_start)
        report = {"resumed": resumed, **finish(root, task)}
    write_json(done_file(root, task), {**_facts(root, task, began), **report})
    if task.words:
        _tidy(Path(root) / task.id)


def _train(root: str | PathLike[str], task: plan.Task) -> bool:
    """Trains, or goes on with it; True where it was begun before, so that `seconds` are those of the rest."""
    from duiit.options import TrainOptions
    from duiit_cli.training.loop import train

    folder = Path(root) / task.id
    begun = any(folder.glob("*_state.pth*"))
    if not begun and folder.exists():
        shutil.rmtree(folder)           # without a state it is the rest of something, and nothing to go on with
    opt = TrainOptions().parse([*task.words[1:], *(["--continue_train"] if begun else [])])
    code = train(opt)
    if code:
        raise SystemExit(code)          # asked to stop: everything is saved, and the task goes on another time
    return begun


def _finish_cell(root: str | PathLike[str], task: plan.Task) -> dict[str, Any]:
    """Tests the network on the target's held-out images: what the comparison is about. The errors of validation
    patients stand apart: they may choose between methods."""
    from duiit.data import create_dataset
    from duiit.options import TestOptions
    from duiit_cli.evaluation.held_out import load_tested
    from duiit_cli.experiments.running import data_description

    opt = TestOptions().parse([*task.run_words(root), f"--epoch={task.about['epoch']}", "--num_test=0"])
    dataset, model = create_dataset(opt).dataset, load_tested(opt)
    counts, folder = _counts(dataset), Path(root) / task.id
    found = {"method": task.name, "counts": counts, "data": data_description.of_task(root, task, dataset),
             "predictor": _tested(dataset, model, opt, folder / "results")}
    if not counts["val"]["images"]:
        return found
    opt.phase = "val"
    dataset.narrow("val")
    return {**found, "validation": _tested(dataset, model, opt, folder / "validation")}


def _tested(dataset: Any, model: Any, opt: Namespace, folder: Path) -> dict[str, Any]:
    """The predictor's errors on the target's images of opt.phase, whose pages and tables go to `folder`."""
    from duiit_cli.evaluation.held_out import write_results

    write_results(dataset, model, opt, folder)
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["predictor"]


def _choose(root: str | PathLike[str], task: plan.Task) -> dict[str, Any]:
    """The cell that errs least on validation patients, as a cell of its own. Test patients choose nothing."""
    from duiit_cli.experiments.reporting.results import HIGHER_IS_BETTER, PRIMARY

    cells = {need: json.loads((Path(root) / need / "cell.json").read_text(encoding="utf-8")) for need in task.needs}
    metric, unit = PRIMARY[task.about["task"]], f"by_{task.about['split_by']}"
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    errors = {need: cell.get("validation", {}).get(unit, {}).get(metric) for need, cell in cells.items()}
    unknown = next((need for need, error in errors.items() if error is None or not math.isfinite(error)), None)
    if unknown:
        raise UserError(f"{Path(root) / unknown}: has no {metric} of validation patients ({unit.replace('_', ' ')}) to "
                        "be chosen by, see its cell.json; label validation patients, or leave out the method that "
                        "chooses")
    best = min(reversed(task.needs), key=lambda need: sign * errors[need])        # of equals the last, the simplest
    folder = Path(root) / task.id
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("results", "validation"):
        shutil.copytree(Path(root) / best / part, folder / part)
    kept = {k: cells[best][k] for k in ("counts", "data", "predictor", "validation", "seed", "split_seed")}
    return {"method": task.name, **kept, "chosen": best.split("/")[1],
            "validation_errors": {need.split("/")[1]: error for need, error in errors.items()}}


def _counts(dataset: Any) -> dict[str, Any]:
    """Labelled target images and their patients in each part, and the labelled images of others that were trained on
    besides."""
    from duiit.data import splits

    counts = {part: [r for r in dataset.target_part(part) if r.label is not None] for part in splits.PARTS}
    found = {part: {"images": len(rows), "patients": len({r.patient for r in rows})} for part, rows in counts.items()}
    return {**found, "extra_images": dataset.opt.facts.need("labels_known") - found["train"]["images"]}


def _finish_translator(root: str | PathLike[str], task: plan.Task) -> dict[str, Any]:
    """Translates all images of its sources, the training images of the cells that wait for it."""
    from duiit.options import TranslateOptions
    from duiit_cli.inference.translation import translate_scans

    dataroot = next(w.partition("=")[2] for w in task.words if w.startswith("--dataroot="))
    for source in task.about["sources"]:
        translate_scans(TranslateOptions().parse([
            *task.run_words(root), f"--input={Path(dataroot) / source}", f"--source={source}", "--force",
            "--for_training", f"--output={Path(root) / task.id / 'synthetic' / source}"]))
    return {"translator": task.name, **_finish_start(root, task)}


def _finish_start(root: str | PathLike[str], task: plan.Task) -> dict[str, Any]:
    from duiit_cli.experiments.running import data_description

    return {"data": data_description.of_task(root, task)}


def _facts(root: str | PathLike[str], task: plan.Task, began: float) -> dict[str, Any]:
    """What the report says of how the task was done, and on what."""
    import torch

    from duiit.util import provenance

    values = dict(w.removeprefix("--").partition("=")[::2] for w in task.words)
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    return {"title": task.about["title"], "split": task.split, "seed": int(values.get("seed", 0)),
            "split_seed": int(values.get("split_seed", 0)), "finished": ended,
            "seconds": round(time.monotonic() - began, 1), "device": cuda or provenance.processor(),
            "threads": torch.get_num_threads(), "commands": [f"duiit {' '.join(task.words)}"] if task.words else [],
            "versions": {k: v for k, v in provenance.versions().items() if v}}


def _tidy(folder: Path) -> None:
    """A finished training is never gone on with: its states, three times the networks' size, can go, and so can the
    weights of its last epoch under their number, which are the latest."""
    for path in (*folder.glob("*_state.pth*"), *folder.glob("[0-9]*_net_*.pth")):
        path.unlink()


# -- as a process ------------------------------------------------------------------------------------------------

def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, however that ended: its end of the pipe closes."""
    def wait() -> None:
        while os.read(0, 1):        # not sys.stdin: its lock must be free when this process ends
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(root: str, task_id: str) -> int:
    """Exit status 0: done; 1: failed, and failed.json says why; anything else: stopped."""
    from duiit.util.logs import setup_logging

    threads.wait_asleep()
    setup_logging()
    task = plan.read(root)[task_id]
    try:
        run(root, task)
    except UserError as error:
        log.error("%s", error)
        fail(root, task, error)
        return 1
    except Exception as error:          # a bug, a full memory: the other tasks go on
        log.exception("%s failed", task_id)
        fail(root, task, f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    _end_with_parent()
    sys.exit(main(*sys.argv[1:]))
