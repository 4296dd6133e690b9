"""Runs the tasks of a plan, each in a process of its own, as soon as those it needs have ended well.

Locally that process is a child of this one and ends with it, however that ends. On a cluster it is a job (cluster.py).
What has ended well is never done again; what failed is told and stops only what needs it.
"""
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Protocol

from duiit.util import threads
from duiit.util.progress import track
from duiit_cli.experiments.planning import plan
from duiit_cli.experiments.running import task as tasks

log = logging.getLogger(__name__)
POLL_SECONDS = 0.2
HOME = str(Path(__file__).resolve().parents[3])     # where duiit_cli is, installed or not


class Job(Protocol):
    """A task that was started. patience: seconds that its files may take to show after it is over."""
    patience: float

    def is_over(self) -> bool: ...

    def how_it_ended(self) -> str: ...


class Executor(Protocol):
    """What starts tasks, each in a process of its own."""

    def running(self, root: Path, candidates: Iterable[plan.Task]) -> dict[str, Job]:
        """{id: its job} of the tasks that a command before this one started, and that have not ended."""

    def start(self, root: Path, task: plan.Task) -> Job: ...

    def stop(self) -> None:
        """Ends those that still run."""


def execute(root: str | PathLike[str], todo: Mapping[str, plan.Task], executor: Executor, jobs: int,
            running: Mapping[str, Job] | None = None) -> dict[str, str]:
    """Does the tasks ({id: Task}). jobs: how many at once; 0 for no limit. running: what `executor.running` found; it
    is waited for. Returns those that failed, {id: why}."""
    run = _Run(Path(root), todo, executor, jobs or len(todo), running or {})
    try:
        for task_id, error in track(run.ended(), "experiment", len(todo), "tasks"):
            log.info("%s: %s", task_id, f"failed: {error}" if error else "done")
    finally:
        executor.stop()
    return run.failed


def is_done(root: str | PathLike[str], task: plan.Task) -> bool:
    """Whether the task ended well before, as its done file says."""
    path = tasks.done_file(root, task)
    if not path.is_file():
        return False
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    if not isinstance(report, dict) or "finished" not in report or (task.kind in (plan.CELL, plan.CHOICE)
                                                                    and "predictor" not in report):
        return False
    return task.kind != plan.QUALITY or report.get("asked") == task.about["asked"]


def clear_damaged(root: str | PathLike[str], todo: Mapping[str, plan.Task]) -> None:
    """Clears away what cannot be gone on with, to be done again: parts whose done file is damaged."""
    for task in todo.values():
        path = tasks.done_file(root, task)
        if path.is_file():
            if task.kind != plan.CHOICE:        # a choice costs nothing and is made anew with what it chooses from
                log.warning("%s is damaged, or of other settings: this part is done again", path)
            path.unlink() if task.kind == plan.QUALITY else shutil.rmtree(path.parent)


class _Run:
    """failed: {id: why}, of this call."""

    def __init__(self, root: Path, todo: Mapping[str, plan.Task], executor: Executor, jobs: int,
                 running: Mapping[str, Job]) -> None:
        self.root, self.executor, self.jobs = root, executor, jobs
        self.waiting = {i: t for i, t in todo.items() if i not in running}
        self.running = {i: (t, running[i]) for i, t in todo.items() if i in running}
        self.failed: dict[str, str] = {}

    def ended(self) -> Iterator[tuple[str, str | None]]:
        """Yields (id, None or why it failed), one for each task, as they end."""
        while self.waiting or self.running:
            yield from self._give_up()
            free = max(self.jobs - len(self.running), 0)
            for task_id in [i for i, t in self.waiting.items() if self._ready(t)][:free]:
                task = self.waiting.pop(task_id)
                tasks.failed_file(self.root, task).unlink(missing_ok=True)
                self.running[task_id] = task, self.executor.start(self.root, task)
            over = [i for i, (_, job) in self.running.items() if job.is_over()]
            for task_id in over:
                task, job = self.running.pop(task_id)
                error = self._outcome(task, job)
                if error:
                    self.failed[task_id] = error
                yield task_id, error
            if self.running and not over:
                time.sleep(POLL_SECONDS)

    def _ready(self, task: plan.Task) -> bool:
        return not any(need in self.waiting or need in self.running or need in self.failed for need in task.needs)

    def _give_up(self) -> Iterator[tuple[str, str]]:
        """Tasks that need one that failed."""
        for task_id, task in list(self.waiting.items()):
            lost = next((n for n in task.needs if n in self.failed), None)
            if lost:
                del self.waiting[task_id]
                self.failed[task_id] = f"it needs {lost}, which failed: {self.failed[lost]}"
                tasks.fail(self.root, task, self.failed[task_id])
                yield task_id, self.failed[task_id]

    def _outcome(self, task: plan.Task, job: Job) -> str | None:
        """None, or one line on what went wrong; written down also where the process could not."""
        path = tasks.failed_file(self.root, task)
        until = time.monotonic() + job.patience         # a network file system may show a node's files late
        while time.monotonic() < until and not (tasks.done_file(self.root, task).is_file() or path.is_file()):
            time.sleep(1)
        if tasks.done_file(self.root, task).is_file():
            return None
        if not path.is_file():
            tasks.fail(self.root, task, f"its process ended before its time ({job.how_it_ended()})")
        return json.loads(path.read_text(encoding="utf-8"))["error"]


# -- on this machine ---------------------------------------------------------------------------------------------

class LocalProcesses:
    """Child processes. Cores are divided among `jobs`, and GPUs given to those that have the fewest parts at work.

    gpus: their names as in CUDA_VISIBLE_DEVICES; none or one: nothing is said of them.
    """

    def __init__(self, jobs: int, gpus: Iterable[str] = ()) -> None:
        self.gpus = list(gpus)
        self.children: list[_Child] = []
        self.threads = max(threads.cores() // max(jobs, 1), 1)
        log.info("%d parts at once, each with %s threads (OMP_NUM_THREADS)", jobs,
                 os.environ.get("OMP_NUM_THREADS", self.threads))

    def running(self, root: Path, candidates: Iterable[plan.Task]) -> dict[str, Job]:
        return {}           # they end with the command that started them

    def start(self, root: Path, task: plan.Task) -> "_Child":
        # -P: a folder of the user's that is named like some package must not be imported in its place.
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in (HOME, os.environ.get("PYTHONPATH")) if p)}
        env.setdefault("OMP_NUM_THREADS", str(self.threads))
        gpu = None
        if len(self.gpus) > 1:
            busy = [c.gpu for c in self.children if not c.is_over()]
            gpu = env["CUDA_VISIBLE_DEVICES"] = min(self.gpus, key=busy.count)
        words = [sys.executable, "-P", "-m", "duiit_cli.experiments.running.task", str(root), task.id]
        path = tasks.log_file(root, task)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            # A session of its own: Ctrl-C reaches only the one who asked, who then stops the children.
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=file, stderr=file, env=env,
                                       start_new_session=True)
        self.children = [c for c in self.children if not c.is_over()] + [_Child(process, gpu)]
        return self.children[-1]

    def stop(self) -> None:
        """Asks those still running to save and stop, and waits for them."""
        left = [c.process for c in self.children if not c.is_over()]
        for process in left:
            process.send_signal(signal.SIGTERM)
        for process in left:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


class _Child:
    patience: float = 0

    def __init__(self, process: subprocess.Popen[bytes], gpu: str | None = None) -> None:
        self.process, self.gpu = process, gpu

    def is_over(self) -> bool:
        over = self.process.poll() is not None
        if over and self.process.stdin:
            self.process.stdin.close()      # of hundreds of parts each would keep a file open
        return over

    def how_it_ended(self) -> str:
        code = self.process.returncode
        if code >= 0:
            return f"exit status {code}"
        name = signal.Signals(-code).name
        return f"{name}{': out of memory?' if name == 'SIGKILL' else ''}"
