"""The tasks of an experiment as jobs of a cluster, handed over through submitit.

What is queued and what runs, Slurm's own list says (squeue): submitit asks the accounting (sacct), which not every
cluster keeps, and after a while only every ten minutes. A job's name tells which task of which experiment it does, so
that a command that follows one that was killed finds its jobs again.
"""
import hashlib
import logging
import re
import subprocess
import time
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from duiit.util.errors import UserError
from duiit_cli.experiments.planning import plan
from duiit_cli.experiments.running import execution
from duiit_cli.experiments.running import task as tasks

log = logging.getLogger(__name__)
ASK_SECONDS = 10            # between two looks at the list of jobs, which all users of a cluster ask for
GRACE_SECONDS = 90          # for jobs that were cancelled to save and end; Slurm itself kills them after 30, as a rule
ENDING = "COMPLETING"


class ClusterJobs:
    """Jobs through submitit. cluster: `slurm`, or submitit's own `local` to try the way there without a cluster."""

    def __init__(self, root: str | PathLike[str], cluster: str = "slurm", parameters: Sequence[str] = ()) -> None:
        self.parameters = parameters
        self.queue = _Queue() if cluster == "slurm" else None
        try:
            import submitit
        except ImportError:
            raise UserError("--executor slurm needs submitit: pip install 'duiit[cluster]'") from None
        try:
            self.executor = submitit.AutoExecutor(folder=str(Path(root) / "logs" / "jobs" / "%j"), cluster=cluster)
            self.executor.update_parameters(**_parameters(parameters, cluster))
        except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
            raise UserError(f"--executor slurm: {error}; run this where sbatch is, and see --slurm") from None
        self.refusals = submitit.core.utils.FailedJobError
        self.known = submitit.SlurmJob
        self.jobs: list[_Job] = []

    def running(self, root: Path, candidates: Iterable[plan.Task]) -> dict[str, execution.Job]:
        """Jobs that are queued or run. Those that are ending are waited for: nobody knows yet how they do."""
        if not self.queue:
            return {}
        names = {_name(root, task): task.id for task in candidates}
        self.queue.ask()
        ending = self.queue.ending(names)
        if ending:
            log.info("waiting for %d jobs of a command before this one, which are ending (%s)", len(ending),
                     ", ".join(ending))
        while self.queue.ending(names):
            time.sleep(1)
            self.queue.ask()
        found: dict[str, execution.Job] = {}
        for job_id, (_, name) in self.queue.listed.items():
            if name in names:
                log.info("%s: a command before this one handed it over; it is waited for as job %s", names[name],
                         job_id)
                self.jobs.append(_Job(self.known(self.executor.folder, job_id), self.queue))
                found[names[name]] = self.jobs[-1]
        return found

    def start(self, root: Path, task: plan.Task) -> "_Job":
        name = _name(root, task)
        self.executor.update_parameters(name=name)
        try:
            job = self.executor.submit(_do, str(root), task.id)
        except self.refusals as error:
            raise UserError(f"--slurm {' '.join(self.parameters)}: the cluster takes no job: "
                            f"{' '.join(str(error).split())}") from None
        if self.queue:
            self.queue.listed[job.job_id] = "PENDING", name
        self.jobs.append(_Job(job, self.queue))
        return self.jobs[-1]

    def stop(self) -> None:
        """Cancels what still runs, and waits until it has saved and ended: the next command may come at once."""
        left = [job for job in self.jobs if not job.is_over()]
        for job in left:
            job.job.cancel(check=False)
        until = time.monotonic() + GRACE_SECONDS
        while self.queue and left and time.monotonic() < until:
            time.sleep(1)
            self.queue.ask()
            left = [job for job in left if job.job.job_id in self.queue.listed]


def _name(root: Path, task: plan.Task) -> str:
    """A job's name: readable, and no other task's of any experiment."""
    key = hashlib.sha256(f"{root}\n{task.id}".encode()).hexdigest()
    return f"duiit-{task.name}-{task.split}-{key[:12]}"


class _Queue:
    """listed: {id: (state, name)} of this user's jobs that have not ended, as of the last look."""

    def __init__(self) -> None:
        self.listed: dict[str, tuple[str, str]] = {}
        self.asked: float | None = None

    def ask(self) -> None:
        """Looks. A controller that does not answer is asked again later; one that never did is a UserError."""
        words = ["squeue", "--me", "--noheader", "--format=%i|%T|%j"]
        answer = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if answer.returncode == 0:
            rows = (line.strip().split("|", 2) for line in answer.stdout.splitlines() if line.count("|") >= 2)
            self.listed = {job_id: (state, name) for job_id, state, name in rows}
        elif self.asked is None:
            raise UserError(f"--executor slurm: {' '.join(words[:2])} does not answer: "
                            f"{' '.join(answer.stderr.split())}")
        self.asked = time.monotonic()

    def has_left(self, job_id: str) -> bool:
        if self.asked is None or time.monotonic() - self.asked > ASK_SECONDS:
            self.ask()
        return job_id not in self.listed

    def ending(self, names: Iterable[str]) -> list[str]:
        """Ids of jobs of these names that were cancelled or have done their work, and still wind up."""
        names = set(names)
        return [i for i, (state, name) in self.listed.items() if state == ENDING and name in names]


class _Job:
    patience: float = 60

    def __init__(self, job: Any, queue: _Queue | None) -> None:
        self.job, self.queue = job, queue

    def is_over(self) -> bool:
        if not self.queue:
            return self.job.done()
        return self.job.paths.result_pickle.exists() or self.queue.has_left(self.job.job_id)

    def how_it_ended(self) -> str:
        state = _state(self.job.job_id) if self.queue else self.job.state
        return f"job {self.job.job_id}, {state}; see {self.job.paths.stderr}"


def _state(job_id: str) -> str:
    """COMPLETED, OUT_OF_MEMORY … of a job that has ended: the controller knows it for some minutes, the accounting,
    where there is one, for long."""
    for words, pattern in ((["scontrol", "show", "job", "-o", job_id], r"JobState=(\S+)"),
                           (["sacct", "-X", "-n", "-o", "State%40", "-j", job_id], r"(\S.*)")):
        try:
            answer = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        except OSError:
            continue
        found = re.search(pattern, answer.stdout)
        if answer.returncode == 0 and found:
            return found[1].strip()
    return "no longer listed"


_OWN_WORDS = {"timeout_min", "mem_gb", "nodes", "gpus_per_node", "cpus_per_task", "tasks_per_node"}


def _parameters(pairs: Iterable[str], cluster: str) -> dict[str, int | str]:
    """KEY=VALUE words as submitit takes them: numbers as numbers, what it has no word for with slurm_ before it."""
    values: dict[str, int | str] = {"timeout_min": 24 * 60}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key == "time" and ":" in value:                              # [days-]hours:minutes:seconds, as Slurm has it
            days, _, clock = value.rpartition("-")
            hours, minutes, *_ = map(int, clock.split(":"))
            value = str(int(days or 0) * 1440 + hours * 60 + minutes)
        if key == "mem":
            value = value.upper().removesuffix("B").removesuffix("G")
        key = {"time": "timeout_min", "mem": "mem_gb"}.get(key, key)
        own = key in _OWN_WORDS or key.startswith("slurm_")
        values[key if own else f"slurm_{key}"] = int(value) if value.isdigit() else value
    return values if cluster == "slurm" else {k: v for k, v in values.items() if not k.startswith("slurm_")}


def _do(root: str, task_id: str) -> int:
    """In the job: its own log says what happened, failed.json why it failed."""
    from duiit.util.logs import log_to_file

    log_to_file(tasks.log_file(root, plan.read(root)[task_id]))
    return tasks.main(root, task_id)
