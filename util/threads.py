"""How many threads torch computes with on the CPU, and how they wait for one another.

Threads share the work of one operation and wait for the slowest. By default they wait awake: beside other work each
then keeps a core from the one that is waited for, and a step takes many times as long as with one thread. Asleep they
cost next to nothing (docs/results.md, benchmarks/threads.py).
"""
import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
HELPERS = 4                 # threads that read, or write, at most: each holds a scan
# By which people say themselves how threads wait: GNU's, which torch's wheels bring, and Intel's and LLVM's.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_asleep(environment: MutableMapping[str, str] = os.environ) -> None:
    """Has threads sleep while they wait, in this process and those that it starts, unless the user has said how. Heard
    only before torch is imported."""
    if not any(name in environment for name in WAITING):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def cores() -> int:
    """Those that this process may use: of its affinity (taskset, Slurm), and no more than a container's quota."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, min(there, int(quota))) if quota else there


def _quota() -> float | None:
    """Cores' worth of time that a container may use; None where nothing limits it."""
    try:
        limit, period = (CGROUP / "cpu.max").read_text(encoding="ascii").split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:                                        # the first kind of cgroups, which is still here and there
        limit, period = ((CGROUP / "cpu" / f"cpu.cfs_{n}_us").read_text(encoding="ascii") for n in ("quota", "period"))
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError):
        return None


def use(asked: int, processes: int = 1) -> int:
    """Has torch compute with so many threads, and returns their number. 0: OMP_NUM_THREADS where it is set, else the
    cores there are, divided among `processes` that work together."""
    import torch  # late: `duiit --help` must not wait for it

    if not asked and os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads()
    number = asked or max(1, min(torch.get_num_threads(), cores()) // processes)
    if number != torch.get_num_threads():
        torch.set_num_threads(number)
    return number


def helpers() -> int:
    """How many threads read files ahead while a network computes, and how many write: on few cores one of either, as
    the network's own threads want all of them."""
    return max(1, min(HELPERS, cores() // 2))


def alone() -> None:
    """Has the calling thread compute with itself only: each that calls torch has a team of its own otherwise."""
    import torch

    torch.get_num_threads()         # a thread that is new to torch takes over the process's number at its first look
    torch.set_num_threads(1)


@contextmanager
def as_it_was() -> Iterator[None]:
    """After the block, in which threads were told to compute `alone`, others have as many threads as before."""
    import torch

    number = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(number)
