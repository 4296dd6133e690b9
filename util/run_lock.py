"""One process at a time trains into a run's folder.

The lock is the operating system's (POSIX record lock on `<run>/.lock`): it ends with the process, however that ends,
and holds across machines on network file systems that pass locks on (NFS does). Child processes do not inherit it.
The file itself only says who holds it.
"""
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from duiit.util.errors import UserError

try:
    import fcntl
    LOCKS = True
except ImportError:             # Windows
    LOCKS = False

log = logging.getLogger(__name__)
NAME = ".lock"
_held: set[Path] = set()        # of this process, whom a record lock does not keep out


@contextmanager
def hold(folder: str | PathLike[str],
         busy: str = "is training this run; wait for it, stop it, or give another --name") -> Iterator[None]:
    """Holds the lock of the run in `folder` (which exists). Raises UserError that names the process that has it, and
    says what it is `busy` with."""
    path = Path(folder).resolve() / NAME
    if path in _held:
        raise UserError(f"{folder}: this process {busy}")
    file = _take(path, busy) if LOCKS else None
    _held.add(path)
    try:
        yield
    finally:
        _held.discard(path)
        if file:
            with suppress(OSError):
                path.unlink()   # while it is still ours; who waits for the old file finds that it is gone
            file.close()


def _take(path: Path, busy: str) -> BinaryIO:
    while True:
        file = _open(path)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read().decode(errors="replace").strip() or "another process"
            file.close()
            raise UserError(f"{path.parent}: {holder} {busy}") from None
        except OSError as error:
            log.warning("%s cannot be locked (%s): see to it that only one process trains this run", path,
                        error.strerror)
        if _is_still(path, file):
            break
        file.close()            # the one before us removed it as it ended
    with suppress(OSError):         # a full disk: the lock holds all the same
        file.truncate(0)
        who = f"process {os.getpid()} on {socket.gethostname()} (since {time.strftime('%Y-%m-%d %H:%M:%S')})"
        file.write(who.encode())
    return file


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "a+b", buffering=0)
    except OSError as error:
        raise UserError(f"{path} could not be opened ({error.strerror}): a run needs a folder to write to") from None


def _is_still(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False
