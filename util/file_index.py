"""What was found in files, kept from one process to the next: a file that is as it was need not be opened again.

One JSON file for each folder of data, in the cache folder, written whole or not at all: of processes that write at once
each leaves a whole file, and what one knows more than the others is found again by the next that looks. One that is
damaged, or was written by another version, counts for nothing and is made anew.
"""
import hashlib
import json
import logging
import os
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from duiit.util.errors import UserError
from duiit.util.files import write_text
from duiit.util.version import __version__

T = TypeVar("T")
log = logging.getLogger(__name__)
MADE_BY = f"1 {__version__}"        # raise the number when what is found in the same file changes between releases
# Seconds: a file that changed within the last ones could change again and bear the same time, which some file systems
# (FAT) tell to 2 s only. What is found in it is not kept.
SETTLED = 3.0
_STATE = "state"


def cache_root(opt: Namespace) -> Path:
    """The folder of --cache_dir; without one, duiit in the user's cache folder."""
    if opt.cache_dir:
        return Path(opt.cache_dir)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duiit"


class FileIndex:
    """What is known of the files under `root`. Written on leaving the `with`, if anything new was found.

    A file is as it was while its size, its inode and its times are: of its content (mtime) and of its entry (ctime, in
    ns), which no copy with the old time, and no renaming over it, leaves alone.
    """

    def __init__(self, root: Path, folder: Path | None) -> None:
        """folder: the cache folder; None: nothing is kept, and nothing known."""
        self.root = Path(root)
        self._prefix = f"{self.root}{os.sep}"
        self._path: Path | None = None
        if folder is not None:
            name = hashlib.blake2b(os.fsencode(self.root.resolve()), digest_size=16).hexdigest()
            self._path = Path(folder) / "files" / f"{name}.json"
        self._known: dict[str, dict[str, Any]] | None = None
        self._new: set[str] = set()
        self._loading = threading.Lock()

    @classmethod
    def of_data(cls, root: Path, opt: object) -> Self:
        """For listing a folder: what lies in --dataroot is gone through again and again and is known, what lies
        elsewhere (scans to predict) leaves no trace."""
        dataroot = getattr(opt, "dataroot", None)
        ours = dataroot and isinstance(opt, Namespace) and hasattr(opt, "cache_dir") and \
            Path(root).resolve().is_relative_to(Path(dataroot).resolve())
        return cls(root, cache_root(opt) if ours and isinstance(opt, Namespace) else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._save()

    def recall(self, path: Path, what: str, find: Callable[[Path], T]) -> T:
        """What `find` finds in the file, as JSON has it (lists, no tuples); from before, where it is as it was.

        what: the name under which it is kept. Raises what `find` raises, of which nothing is kept. Threads may share
        the index.
        """
        if self._path is None:
            return find(path)
        known = self._loaded()
        name, state, began = os.fspath(path).removeprefix(self._prefix), _state_of(path), time.time()
        entry = known.get(name)
        if entry is not None and entry[_STATE] == state and what in entry:
            return entry[what]
        found = find(path)
        if state and began - _changed(state) > SETTLED and _state_of(path) == state:
            if entry is None or entry[_STATE] != state:
                entry = known[name] = {_STATE: state}
            entry[what] = found
            self._new.add(name)
        return found

    def _loaded(self) -> dict[str, dict[str, Any]]:
        with self._loading:
            if self._known is None:
                self._known = self._read()
            return self._known

    def _read(self) -> dict[str, dict[str, Any]]:
        """{file: {"state": …, what: found}}; {} where the index is missing, damaged or another version's."""
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8")) if self._path else {}
            files = kept["files"]
            return files if kept["made_by"] == MADE_BY and kept["digest"] == _digest(files) else {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}

    def _save(self) -> None:
        if not self._new or self._path is None or self._known is None:
            return
        files = self._read()                # what others found meanwhile
        for name in self._new:
            mine, theirs = self._known[name], files.get(name, {})
            files[name] = {**theirs, **mine} if theirs.get(_STATE) == mine[_STATE] else mine
        files = {n: f for n, f in files.items() if n in self._new or (self.root / n).exists()}
        text = json.dumps({"made_by": MADE_BY, "root": str(self.root.resolve()), "digest": _digest(files),
                           "files": files}, allow_nan=False)
        try:
            write_text(self._path, text, durable=False)
        except UserError as error:          # somebody else's cache, a full disk: the work goes on without
            log.debug("not kept for the next time: %s", error)
        self._new.clear()


def _digest(files: Mapping[str, Any]) -> str:
    """A bit that fell over in an index must not become a slice's position."""
    return hashlib.blake2b(json.dumps(files, allow_nan=False).encode(), digest_size=16).hexdigest()


def _state_of(path: Path) -> str:
    """Size, mtime, ctime and inode, as text: JSON's numbers are not exact in every program. "" where there is no file.
    Of a link those of what it points to."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def _changed(state: str) -> float:
    """When the file changed last, in seconds since 1970."""
    _, modified, entry, _ = map(int, state.split())
    return max(modified, entry) / 1e9
