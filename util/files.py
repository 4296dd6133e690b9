"""Writing files whole or not at all, and sorting their names as people do.

Every output of a run (checkpoints, tables, pages, exported scans) goes through here: it is written beside its place
under a hidden temporary name and moved there when complete, so that a run killed at any moment leaves either the old
file or the new one, and a full disk or a read-only folder becomes one line that names the path.
"""
import csv
import errno
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from duiit.util.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_BAD_PATH = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EINVAL, errno.EISDIR}
_TEMPORARY = ".duiit-tmp-"


def file_name(text: str) -> str:
    """`text` as the name of a file: whatever could lead to another folder becomes an underscore."""
    return re.sub(r"[^\w.-]+", "_", text).lstrip(".") or "_"


def below(folder: str | os.PathLike[str], name: str) -> Path:
    """The path of `name` under `folder`. Raises UserError for a name that leads elsewhere: a patient's id in a table or
    a tag of a DICOM file may be any text."""
    parts = Path(name.replace("\\", "/")).parts
    if Path(name).is_absolute() or ".." in parts or parts[:1] == ("/",):
        raise UserError(f"{name}: would be written outside of {folder}; correct the patient's id or the tag that it is "
                        "made of")
    return Path(folder, name)


def natural_key(name: str | os.PathLike[str]) -> list[Any]:
    """Sort key under which `slice2` comes before `slice10`, folder by folder, whatever the case of the letters."""
    text = str(name)
    parts = text.replace("\\", "/").split("/")
    # re.split with a group alternates text and digits, text first, so equal positions always compare equal types.
    chunks = [[int(c) if i % 2 else c.casefold() for i, c in enumerate(re.split(r"(\d+)", part))] for part in parts]
    return [chunks, text]


@contextmanager
def atomic_path(path: str | os.PathLike[str], durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes `path` when the block ends well and is removed when it does not.

    The temporary name ends like the real one, so writers that go by the suffix (.png, .nii.gz) work on it. Missing
    parent folders are made. `durable=False` skips the flush to disk, for files that can be made again (web pages).
    """
    path = Path(path)
    with explained(path):
        path = path.resolve()  # a link to a file stays a link, and what it points to is replaced
        if path.is_dir():
            raise UserError(f"{path} is a folder: give a file name to write to")
        if path.exists() and not path.is_file():  # a device or a pipe (/dev/stdout) cannot be swapped for a file
            yield path
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(_temporary_name(path.name))
        try:
            yield temporary
            if durable:
                _flush_to_disk(temporary)
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], force: bool = False) -> Iterator[Path]:
    """Yield a new, empty folder to fill; it becomes `path` when the block ends well and is removed when it does not.

    A folder that already holds something is refused before any work is done, unless `force`: then it is replaced,
    and only once the new one is complete.
    """
    path = Path(path)
    with explained(path):
        path = path.resolve()
        check_replaceable(path, force)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = (path if works_inside(path) else path.parent) / _temporary_name(path.name)
        temporary.mkdir()
        try:
            yield temporary
            move_folder(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def works_inside(path: Path) -> bool:
    """Whether what becomes the folder `path` is made in it: a mounted volume cannot be moved, and a shared parent may
    be closed to us."""
    return path.is_dir() and (path.is_mount() or not os.access(path.parent, os.W_OK))


def move_folder(new: Path, path: Path) -> None:
    """Gives the folder `new` the place `path`; what that held is removed."""
    if not works_inside(path):
        _swap_folders(new, path)
        return
    temporary = path / _temporary_name(path.name)       # `new` may lie in a folder that is removed
    new.replace(temporary)
    _empty_into(temporary, path)
    temporary.rmdir()


def refuse_unwritable(option: str, path: str | os.PathLike[str]) -> None:
    """Raises UserError where nothing could be written at `path`: said before the work that is to be kept there.

    option: such as `--output`, for the message. The path itself may be there or not, and so may folders above it.
    """
    path = Path(path)
    if path.exists() and not path.is_dir() and not path.is_file():          # a device or a pipe, such as /dev/stdout
        return
    above = [*([path] if path.is_dir() else []), *path.absolute().parents]
    place = next(p for p in above if p.exists() or p.is_symlink())
    if not place.is_dir():
        raise UserError(f"{option} {path}: {place} is no folder; choose another place")
    if not os.access(place, os.W_OK):
        raise UserError(f"{option} {path}: {place} may not be written to; choose another place or change its rights")


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    """Call `write(temporary_path)`, then move the result to `path`: for `write_atomically(p, image.save)`."""
    with atomic_path(path) as temporary:
        write(temporary)


def write_text(path: str | os.PathLike[str], text: str, durable: bool = True) -> None:
    """Write `text` as UTF-8, the same bytes on every system."""
    with atomic_path(path, durable) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write `value` as indented JSON. Numbers that are not finite become null, which JSON has no other word for."""
    write_text(path, json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any] | Sequence[Any]],
              header: Sequence[str] | None = None) -> None:
    """Write rows (mappings or sequences) as a UTF-8 CSV; `header` defaults to the keys of the mappings, in order.

    Text that a spreadsheet would take for a formula gets an apostrophe (`cell`), which our own readers take off again.
    """
    rows = list(rows)
    if header is None and rows and isinstance(rows[0], Mapping):
        header = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if header is not None:
            writer.writerow(map(cell, header))
        for row in rows:
            values = [row.get(key, "") for key in header or ()] if isinstance(row, Mapping) else row
            writer.writerow(map(cell, values))


def cell(value: object) -> object:
    """A value as it stands in a table. Text that begins like a formula (= + - @) gets an apostrophe before it, by which
    spreadsheets know text: a patient's id or a file's name may have been chosen to run as one. Numbers stay."""
    if not isinstance(value, str) or not re.match(r"'*[=+\-@\t\r]", value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def text_of_cell(text: str) -> str:
    """What `cell` was given."""
    return text[1:] if re.match(r"'+[=+\-@\t\r]", text) else text


def remove_temporaries(folder: str | os.PathLike[str]) -> None:
    """Remove the unfinished files that a killed process left anywhere under `folder`, which nobody else writes to."""
    for path in Path(folder).rglob(f"{_TEMPORARY}*"):
        if path.is_file():
            with suppress(OSError):
                path.unlink()


def _temporary_name(name: str) -> str:
    # Only the end of a long name is kept: a file name may have 255 bytes, and a letter up to four.
    return f"{_TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:8]}-{name[-40:]}"


def is_temporary(path: Path) -> bool:
    """Whether it is what a process that was killed left of a file."""
    return path.name.startswith(_TEMPORARY)


def _flush_to_disk(path: Path) -> None:
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def check_replaceable(path: Path, force: bool, besides: Path | None = None) -> None:
    """Raises UserError unless `path` is free for a new folder (but for the one `besides`), or a folder that `force` may
    replace."""
    path = path.resolve()
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"{path} is a file: give a folder to write to")
    if all(p == besides for p in path.iterdir()):
        return
    if not force:
        raise UserError(f"{path} already exists and is not empty: choose another folder, or remove it")
    for kept, what in ((Path.cwd(), "the current folder"), (Path.home(), "the home folder")):
        if path == kept or path in kept.parents:
            raise UserError(f"{path} is or holds {what}: it will not be replaced, choose another folder")


def _swap_folders(new: Path, path: Path) -> None:
    if not path.exists():
        new.replace(path)
        return
    old = path.with_name(_temporary_name(path.name))
    path.replace(old)
    try:
        new.replace(path)
    except BaseException:
        old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _empty_into(new: Path, path: Path) -> None:
    for child in path.iterdir():
        if child == new:
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
    for child in new.iterdir():
        child.replace(path / child.name)


def _plain(value: object) -> object:
    """`value` in the types JSON knows: paths as text, NumPy and torch scalars and arrays as numbers and lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return str(value)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the user can mend (disk full, no permission, impossible name) into one line; let the rest through."""
    try:
        yield
    except OSError as error:
        message = _explanation(error, path)
        if message is None:
            raise
        raise UserError(message) from error
    except RuntimeError as error:
        # torch.save reports a failed write without an errno, in the words of its own container writer.
        if "PytorchStreamWriter" not in str(error) and "inline_container" not in str(error):
            raise
        first = str(error).splitlines()[0]
        raise UserError(f"{path} could not be written whole (is the disk full?): {first}") from error


def _explanation(error: OSError, path: Path) -> str | None:
    # NumPy reports a short write in words of its own, without an errno.
    if error.errno in _FULL or (error.errno is None and "requested and" in str(error)):
        return f"{path} could not be written: no space left on its disk (or over a quota); free some and run again"
    # An error that names a file somewhere else is not about `path` (the block may be reading its input).
    elsewhere = error.filename is not None and not _touches(error, path)
    if elsewhere:
        return None
    if error.errno in _FORBIDDEN:
        return f"{path} could not be written: no permission; choose another folder or change its rights"
    if error.errno in _BAD_PATH:
        return f"{path} could not be written: {error.strerror}"
    return None


def _touches(error: OSError, path: Path) -> bool:
    named = Path(os.fsdecode(error.filename)) if not isinstance(error.filename, int) else Path()
    return _TEMPORARY in str(named) or named.is_relative_to(path) or named in path.resolve().parents or \
        named in path.parents
