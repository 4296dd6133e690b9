"""`--dry_run`: what would be trained, and how long that would take, from a few timed steps of each kind of training."""
import logging
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from duiit.data import CustomDatasetDataLoader, create_dataset
from duiit.models import create_model
from duiit.options import TrainOptions
from duiit.util import checkpoint
from duiit.util.errors import UserError
from duiit.util.progress import track
from duiit_cli.experiments.planning import plan
from duiit_cli.experiments.running import execution

log = logging.getLogger(__name__)
WARM, TIMED = 1, 3          # the first step also allocates, compiles and fills caches
TITLES = {plan.TRANSLATOR: "translator", plan.START: "start of a predictor", plan.CELL: "predictor, and its test",
          plan.CHOICE: "choice by validation", plan.QUALITY: "quality of translations"}


def show(whole: plan.Plan) -> int:
    """Prints the plan of a Plan and the estimate. Returns the exit status 0."""
    groups: dict[tuple[str, str], list[plan.Task]] = {}
    for task in whole.tasks.values():
        groups.setdefault((task.kind, task.name), []).append(task)
    rows, total = [], 0.0
    for (kind, _), tasks in track(list(groups.items()), "timing", unit="kinds"):
        left = [t for t in tasks if not execution.is_done(whole.root, t)]
        steps, seconds = _cost(tasks[0], whole) if tasks[0].words else (0, 0.0)
        total += seconds * len(left)
        rows.append((TITLES[kind], tasks[0].about["title"], len(tasks), len(tasks) - len(left), steps, seconds))
    _print(rows, total, whole.opt)
    return 0


def _print(rows: Sequence[tuple[str, str, int, int, int, float]], total: float, opt: Namespace) -> None:
    table = Table("what", "method", "splits", "done", "steps", "time each")
    for what, title, splits, done, steps, seconds in rows:
        table.add_row(what, title, str(splits), str(done), f"{steps:,}" if steps else "",
                      spoken(seconds) if seconds else "")
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    console.print(table)
    jobs = opt.jobs or len(rows)
    at_once = f", or about {spoken(total / jobs)} with {jobs} at once" if jobs > 1 else ""
    console.print(f"In all about {spoken(total)} of training on this machine, one after the other{at_once}. An "
                  f"estimate from {TIMED} timed steps of each kind at its real size; reading the images, translating "
                  "and testing come on top, as a rule a few per cent.")


def _cost(task: plan.Task, whole: plan.Plan) -> tuple[int, float]:
    """(steps, seconds) of one training."""
    with tempfile.TemporaryDirectory() as scratch:
        # The last word counts: it trains in a folder that goes away, and on what is there already.
        words = [w for w in task.words[1:] if not w.startswith(("--extra=", "--weights_P="))]
        opt = TrainOptions().parse([*words, f"--checkpoints_dir={scratch}"])
        (Path(scratch) / opt.name).mkdir()
        checkpoint.seed_everything(opt.seed)
        dataset = create_dataset(opt)
        epochs = opt.n_epochs + opt.n_epochs_decay
        more = 0 if opt.steps_per_epoch else _translated(task, whole, opt) // opt.batch_size
        steps = (dataset.batches + more) * epochs
        if opt.max_steps:
            steps = min(steps, opt.max_steps)
        try:
            return steps, steps * _seconds_a_step(opt, dataset)
        except UserError as error:
            raise UserError(f"method {task.name}: {error}") from None


def _translated(task: plan.Task, whole: plan.Plan, opt: Namespace) -> int:
    """How many images will join the target's: those of the sources, as they are now."""
    if not any(w.startswith("--extra=") for w in task.words):
        return 0
    from duiit.data.modality_dataset import loader_of

    scans = [s for source in task.about["sources"]
             for s in loader_of(source).find_scans(Path(whole.opt.dataroot) / source, opt)]
    return sum(len(s.files) for s in scans)


def _seconds_a_step(opt: Namespace, dataset: CustomDatasetDataLoader) -> float:
    import torch

    model = create_model(opt)
    model.setup(opt)
    model.train()
    dataset.set_epoch(1)
    times = []
    batches = iter(dataset)
    for number in range(WARM + TIMED):
        batch = next(batches, None)
        if batch is None:
            dataset.set_epoch(number + 1)
            batches = iter(dataset)
            batch = next(batches)
        began = time.monotonic()
        model.set_input(batch)
        model.optimize_parameters()
        if str(opt.device).startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.monotonic() - began)
    return sum(times[WARM:]) / TIMED


def spoken(seconds: float) -> str:
    """12 s, 3.4 min, 5.6 h or 2.1 days."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size * (2 if unit == "days" else 1.5):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
