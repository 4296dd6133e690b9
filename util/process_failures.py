"""What is said where one of a run's processes fails: by itself its own error, by the others which one failed first.

A process that fails leaves a line in the store through which the processes found each other. In the others the
connection to it breaks, and what breaks says only that: they read the line. The store is the launcher's and outlives
the process; without a launcher (RANK set by other means) it is the first process's, and goes with it.
"""
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch.distributed.distributed_c10d import Store

from duiit.util.errors import UserError

KEY = "duiit_failed_first"
LONGEST = 400               # characters of an error that are told: NCCL's fill a page
SAVED = "The last saved state is whole"

# What torch, gloo and NCCL say of: a connection whose other side has ended; a wait that was too long; a taken port; a
# full memory.
_LOST = re.compile(r"closed by peer|Connection reset|Broken pipe|recvValue failed|ncclRemoteError|remote process exit")
_LATE = re.compile(r"Timed out waiting \d+ms for|Timed out after .* waiting for clients|socket has timed out|"
                   "wait timeout after|collective operation timeout|Connection timed out")
_TAKEN = re.compile(r"EADDRINUSE|address already in use", re.IGNORECASE)
_FULL = re.compile(r"out of memory|can(?:no|')t allocate memory", re.IGNORECASE)


@contextmanager
def explained(store: Store | None, rank: int, device: str) -> Iterator[None]:
    """Around what a process does together with others. Raises UserError for a process that was lost, and for a full
    memory, a taken port and a wait that was too long; any other error as it is, after a line about it in `store`."""
    try:
        yield
    except UserError as error:
        _leave(store, rank, str(error))
        raise
    except KeyboardInterrupt:
        _leave(store, rank, "interrupted")
        raise
    except Exception as error:
        said = _explanation(error, store, rank, device)
        if said is None:
            _leave(store, rank, f"{type(error).__name__}: {_line(error)}")
            raise
        _leave(store, rank, said)       # the first line stays, where there is one
        raise UserError(said) from error


def _explanation(error: Exception, store: Store | None, rank: int, device: str) -> str | None:
    """What the user is told; None: the error itself, which is not of the kind that a connection ends in."""
    text, line = str(error), _line(error)
    full = isinstance(error, (RuntimeError, OSError)) and _FULL.search(text)
    if full or isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return (f"process {rank} on {socket.gethostname()} ({device}) is out of memory: {line or 'MemoryError'}. Give "
                f"a smaller --batch_size, --load_size or --crop_size. {SAVED}")
    if not isinstance(error, RuntimeError):
        return None
    if _TAKEN.search(text):
        return (f"the port at which the processes of this run meet is taken, by another run perhaps: {line}. Give "
                "another MASTER_PORT, or torchrun another --rdzv_endpoint")
    late = _LATE.search(text)
    if not late and not _LOST.search(text):
        return None
    first = _first(store)
    if first:
        return f"{first}. It failed first, and process {rank} ends with it. {SAVED}"
    if late:
        return f"process {rank} waited too long for the others, of which one hangs or did not start: {line}. {SAVED}"
    return (f"another process of this run ended without a word, killed perhaps, or its machine is gone; process {rank} "
            f"saw: {line}. {SAVED}")


def _line(error: Exception) -> str:
    """The message on one line, without C++ frames and places in other projects' sources."""
    text = re.split(r"\n(?:Exception raised from|frame #0)", str(error))[0]
    text = re.sub(r"\[[^\]\s]*\.(?:cc|cpp|h|hpp):\d+\] ?", "", text)
    return " ".join(text.split())[:LONGEST].rstrip(". ")


def _leave(store: Store | None, rank: int, said: str) -> None:
    if store:
        with suppress(RuntimeError):        # it may be gone with the process that kept it
            store.compare_set(KEY, "", f"process {rank} on {socket.gethostname()}: {said[:LONGEST].rstrip('. ')}")


def _first(store: Store | None) -> str | None:
    """What the process that failed first left, where it could."""
    with suppress(RuntimeError):
        if store and store.check([KEY]):
            return store.get(KEY).decode(errors="replace")
    return None
