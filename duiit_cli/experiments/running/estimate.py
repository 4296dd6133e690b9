"""`--dry_run`: what would be trained, at once; then how long that would take, from a timed step or a few of each kind
of training, a line a kind as it comes."""
import logging
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from duiit.data import CustomDatasetDataLoader, create_dataset
from duiit.models import create_model
from duiit.options import TrainOptions
from duiit.util import checkpoint
from duiit.util.errors import UserError
from duiit.util.logs import each_once
from duiit.util.progress import spoken, track
from duiit_cli.experiments.planning import plan
from duiit_cli.experiments.planning.survey import Survey
from duiit_cli.experiments.running import execution

log = logging.getLogger(__name__)
# After the first step, which also allocates, compiles and fills caches: so many, or as many as go into so many seconds.
STEPS, SECONDS = 3, 5.0
TITLES = {plan.TRANSLATOR: "translator", plan.START: "start of a predictor", plan.CELL: "predictor, and its test",
          plan.CHOICE: "choice by validation", plan.QUALITY: "quality of translations"}


def show(whole: plan.Plan, survey: Survey) -> int:
    """Prints the plan of a Plan and the estimate. Returns the exit status 0."""
    kinds: dict[tuple[str, str], list[plan.Task]] = {}
    for task in whole.tasks.values():
        kinds.setdefault((task.kind, task.name), []).append(task)
    left = {kind: [t for t in tasks if not execution.is_done(whole.root, t)] for kind, tasks in kinds.items()}
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    table = Table("what", "method", "splits", "done")
    for kind, tasks in kinds.items():
        table.add_row(*_titles(tasks[0]), str(len(tasks)), str(len(tasks) - len(left[kind])))
    console.print(table)
    total, trained = 0.0, {kind: tasks for kind, tasks in left.items() if tasks and tasks[0].words}
    with each_once():               # the trainings read the same data, and would say the same of them
        for tasks in track(list(trained.values()), "timing", unit="kinds"):
            steps, seconds = _cost(tasks[0], survey)
            total += steps * seconds * len(tasks)
            splits = f", {len(tasks)} times" if len(tasks) > 1 else ""
            console.print(f"{', '.join(_titles(tasks[0]))}: {steps:,} steps of {seconds:.2g} s, "
                          f"{spoken(steps * seconds)}{splits}")
    jobs = whole.opt.jobs or len(whole.tasks)
    at_once = f", or about {spoken(total / jobs)} with {jobs} at once" if jobs > 1 else ""
    console.print(f"In all about {spoken(total)} of training on this machine, one after the other{at_once}. An "
                  "estimate from a few steps of each kind at its real size, on a CPU of single images, which makes it "
                  "rather too long; reading the images, translating and testing come on top, as a rule a few per cent.")
    return 0


def _titles(task: plan.Task) -> tuple[str, str]:
    return TITLES[task.kind], task.about["title"]


def _cost(task: plan.Task, survey: Survey) -> tuple[int, float]:
    """(steps of one training, seconds a step)."""
    with tempfile.TemporaryDirectory() as scratch:
        # The last word counts: it trains in a folder that goes away, and on what is there already.
        words = [w for w in task.words[1:] if not w.startswith(("--extra=", "--weights_P="))]
        opt = TrainOptions().parse([*words, f"--checkpoints_dir={scratch}"])
        (Path(scratch) / opt.name).mkdir()
        checkpoint.seed_everything(opt.seed)
        dataset = create_dataset(opt)
        epochs = opt.n_epochs + opt.n_epochs_decay
        more = 0 if opt.steps_per_epoch else _translated(task, survey) // opt.batch_size
        steps = (dataset.batches + more) * epochs
        if opt.max_steps:
            steps = min(steps, opt.max_steps)
        try:
            return steps, _seconds_a_step(opt, dataset)
        except UserError as error:
            raise UserError(f"method {task.name}: {error}") from None


def _translated(task: plan.Task, survey: Survey) -> int:
    """How many images will join the target's: those of the sources, as they are now."""
    if not any(w.startswith("--extra=") for w in task.words):
        return 0
    return sum(len(s.files) for source in task.about["sources"] for s in survey.scans(source))


def _seconds_a_step(opt: Namespace, dataset: CustomDatasetDataLoader) -> float:
    import torch

    model = create_model(opt)
    model.setup(opt)
    model.train()
    cuda = str(opt.device).startswith("cuda")
    times: list[float] = []
    for batch in _endless(dataset):
        whole = max(len(v) for v in batch.values())     # of few images a batch has as many as there are
        images = whole if cuda else min(whole, _fewest(batch))
        few = {k: v[:images] for k, v in batch.items()}
        began = time.monotonic()
        with model.acceleration.step():
            model.set_input(few)
            model.optimize_parameters()
        if cuda:
            torch.cuda.synchronize()
        times.append(time.monotonic() - began)
        if len(times) > STEPS or (len(times) > 1 and sum(times) > SECONDS):
            break
    return min(times[1:]) * whole / images      # the least: the others are of a machine that was busy meanwhile


def _fewest(batch: Mapping[str, Any]) -> int:
    """How few images are timed on a CPU, where a batch takes about as often as long as it has images, and 64 of 256x256
    minutes: one; or two, where batch norm would be left with one pixel of one (`check_predictor_size`)."""
    sides = [max(v.shape[-2:]) for v in batch.values() if getattr(v, "ndim", 0) == 4]
    return 1 if sides and min(sides) > 32 else 2


def _endless(dataset: CustomDatasetDataLoader) -> Iterator[dict[str, Any]]:
    for epoch in count(1):
        dataset.set_epoch(epoch)
        yield from dataset
