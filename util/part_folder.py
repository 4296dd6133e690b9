"""A folder that is filled piece by piece, and whose filling goes on where it was interrupted.

While it is filled it is called `<name>.part`: `files/` is what becomes the folder, `journal.jsonl` has a line for each
finished piece, `made_with.json` says what it is made with. At the end `files/` is moved to its place, whole. A process
may be killed at any moment: what no line of the journal speaks of is removed before the work goes on.
"""
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from duiit.util import run_lock
from duiit.util.errors import UserError
from duiit.util.files import (
    check_replaceable,
    explained,
    is_temporary,
    move_folder,
    works_inside,
    write_json,
    write_text,
)

log = logging.getLogger(__name__)
FILES, JOURNAL, MADE_WITH = "files", "journal.jsonl", "made_with.json"
OURS = (FILES, JOURNAL, MADE_WITH, run_lock.NAME)


def part_of(path: str | os.PathLike[str]) -> Path:
    """The folder in which that of `path` is being made: beside it, or in it where nothing can be put beside."""
    path = Path(path).resolve()
    return (path if works_inside(path) else path.parent) / f"{path.name}.part"


class PartFolder:
    """folder: where to put files. entries: what was noted of the finished pieces, those of before too. complete: it was
    interrupted after the last piece, and the folder is in its place."""

    def __init__(self, part: Path) -> None:
        self.part, self.folder = part, part / FILES
        self.entries: list[dict[str, Any]] = []
        self.complete = False

    def note(self, files: Sequence[str], **entry: Any) -> None:
        """A piece is finished: these files (relative to `folder`) are written. entry: what else is to be known of it,
        as JSON."""
        entry["files"] = {name: (self.folder / name).stat().st_size for name in files}
        with (self.part / JOURNAL).open("a", encoding="utf-8", newline="\n") as journal:
            journal.write(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")
        self.entries.append(entry)

    def _go_on(self) -> None:
        """Takes up the finished pieces, and removes the files of the others."""
        kept = self._read()
        for entry in kept:
            if any(_size(self.folder / name) != size for name, size in entry["files"].items()):
                break                   # cut off, as the machine went down
            self.entries.append(entry)
        write_text(self.part / JOURNAL, "".join(
            json.dumps(e, ensure_ascii=False, allow_nan=False) + "\n" for e in self.entries))
        self.folder.mkdir(exist_ok=True)
        finished = {self.folder / name for entry in self.entries for name in entry["files"]}
        for folder, folders, files in os.walk(self.folder, topdown=False):
            for name in files:
                if Path(folder, name) not in finished:
                    Path(folder, name).unlink()
            for name in folders:
                with suppress(OSError):
                    Path(folder, name).rmdir()          # which keeps those that hold something

    def _read(self) -> list[dict[str, Any]]:
        """The journal's whole lines."""
        entries = []
        with suppress(OSError, ValueError):             # the last line may be cut off
            for line in (self.part / JOURNAL).read_text(encoding="utf-8").splitlines():
                entries.append(json.loads(line))
        return entries


@contextmanager
def part_folder(path: str | os.PathLike[str], made_with: Mapping[str, str], force: bool = False,
                resume: bool = False) -> Iterator[PartFolder]:
    """Yields a PartFolder to fill, which becomes `path` when the block ends well. When it does not, it stays for a call
    with `resume`, or is removed if no piece was finished.

    made_with: {what: which} that decides the files: another goes on with nothing. force: replace what `path` holds, and
    without `resume` what is unfinished as well. Raises UserError before any work is done.
    """
    path = Path(path).resolve()
    part = PartFolder(part_of(path))
    with explained(path), explained(part.part):
        if not (resume and part.part.is_dir()):         # what is there may be what was to be made
            check_replaceable(path, force, besides=part.part)
        _refuse_foreign(part.part)
        part.part.mkdir(parents=True, exist_ok=True)
        with run_lock.hold(part.part, "is at work on it; wait for it, stop it, or give another --output"):
            _begin(part, path, made_with, force, resume)
            try:
                yield part
            except BaseException:
                _leave(part)
                raise
            if not part.complete:
                move_folder(part.folder, path)
        shutil.rmtree(part.part, ignore_errors=True)


def _begin(part: PartFolder, path: Path, made_with: Mapping[str, str], force: bool, resume: bool) -> None:
    begun = _made_with(part.part)
    left = part._read() if begun is not None else []
    part.complete = bool(left) and not part.folder.is_dir() and resume and path.is_dir()
    if part.complete:
        part.entries = left
        return
    check_replaceable(path, force, besides=part.part)
    if left and part.folder.is_dir() and not force and not resume:
        raise UserError(f"{part.part}: holds what an interrupted call has finished; --resume goes on with it, --force "
                        "begins anew")
    if left and resume and begun is not None:
        _refuse_other(part.part, begun, made_with)
        part._go_on()
        return
    for name in (FILES, JOURNAL, MADE_WITH):
        _remove(part.part / name)
    write_json(part.part / MADE_WITH, made_with)
    part.folder.mkdir()


def _leave(part: PartFolder) -> None:
    """After an error or Ctrl-C."""
    if part.entries:
        log.warning("what is finished is kept in %s; the same command with --resume goes on there", part.part)
    elif not part.complete:
        shutil.rmtree(part.part, ignore_errors=True)


def _refuse_other(folder: Path, begun: Mapping[str, str], now: Mapping[str, str]) -> None:
    for what in {**begun, **now}:
        if begun.get(what) != now.get(what):
            raise UserError(f"--resume: {folder} was begun with {what} {begun.get(what)}, and now it is "
                            f"{now.get(what)}; go on with the same, or give --force without --resume to begin anew")


def _refuse_foreign(part: Path) -> None:
    """A folder of that name may be somebody's own."""
    if part.exists() and not (part.is_dir() and all(p.name in OURS or is_temporary(p) for p in part.iterdir())):
        raise UserError(f"{part}: is in the way of unfinished files, and holds others; move it, or choose another "
                        "--output")


def _made_with(part: Path) -> dict[str, str] | None:
    try:
        return dict(json.loads((part / MADE_WITH).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
