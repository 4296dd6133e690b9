"""The plug-in folders that the user trusts: a list in the user's own configuration folder (`duiit trust`).

A run's folder names the plug-ins that it was made with, and may come from anybody. What it names is imported only where
the user gives that folder with `--plugins` in the same call, or has put it on this list.
"""
import json
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import click

from duiit.util.errors import UserError
from duiit.util.files import write_json

log = logging.getLogger(__name__)
NAME = "trusted_plugins.json"


def list_file() -> Path:
    """Where the list is kept: `duiit` in the folder for settings, such as ~/.config ($XDG_CONFIG_HOME)."""
    return Path(click.get_app_dir("duiit")) / NAME


def folders() -> list[str]:
    """The folders on the list: absolute paths without links. Raises UserError where the list is damaged."""
    path = list_file()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["folders"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, list) or not all(isinstance(f, str) for f in found):
        raise UserError(f"{path} is damaged: not the list that `duiit trust` writes; remove it, and trust your folders "
                        "again")
    return found


def add(folder: str | os.PathLike[str]) -> str:
    """Puts the folder on the list, by the path that links lead to; returns that path. Raises UserError for what is no
    folder, and for one whose files others may change."""
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder; give the folder that holds the plug-ins")
    path = Path(folder).resolve()
    refuse_what_others_may_change(path)
    if os.name == "posix" and path.stat().st_uid not in (0, os.getuid()):
        log.warning("%s belongs to user %d, who may change what its files do", path, path.stat().st_uid)
    write_json(list_file(), {"folders": sorted({*folders(), str(path)})})
    return str(path)


def remove(folder: str | os.PathLike[str]) -> str:
    """Takes the folder off the list, which need not exist any more; returns its path. Raises UserError where it is not
    on the list."""
    known = folders()
    names = [n for n in dict.fromkeys((str(Path(folder).resolve()), str(Path(folder).absolute()))) if n in known]
    if not names:
        raise UserError(f"{folder}: is not on the list; `duiit trust --list` shows what is")
    write_json(list_file(), {"folders": [f for f in known if f != names[0]]})
    return names[0]


def is_trusted(folder: str | os.PathLike[str]) -> bool:
    """Whether the folder, by the path that links lead to now, is on the list. Raises UserError where it is, and others
    may change its files."""
    path = Path(folder).resolve()
    if not path.is_absolute() or str(path) not in folders():
        return False
    refuse_what_others_may_change(path)
    return True


def require(folder: str, named_by: str) -> None:
    """Raises UserError, with both ways out, unless the folder that a run or a preset names is on the list.

    named_by: what names it, such as `--name demo`. A relative path is refused: it would mean whatever lies there from
    wherever DUIIT is started.
    """
    if not Path(folder).is_absolute():
        raise Untrusted(f"{named_by}: names the plug-in folder {folder} by a relative path, which could be any; say "
                        "with --plugins where it is")
    if not Path(folder).is_dir():
        raise UserError(f"--plugins {folder}: no such folder; {named_by} was made with its files: say with --plugins "
                        "where they are now")
    if not is_trusted(folder):
        raise Untrusted(f"{named_by}: names the plug-ins in {folder}, which are programs and would run with your "
                        f"rights; if you trust them, add --plugins {folder}, or once for all: duiit trust {folder}")


class Untrusted(UserError):
    """Plug-ins that something names which is not the user, in a folder that is not on the list."""


def refuse_what_others_may_change(folder: Path) -> None:
    """Raises UserError where every user of this machine could change what the folder's files say."""
    open_to_all = next(_open_to_all(folder), None)
    if open_to_all is not None:
        raise UserError(f"{folder}: every user of this machine may change {open_to_all}, so it cannot be trusted; "
                        f"take that right away (chmod o-w {open_to_all})")


def _open_to_all(folder: Path) -> Iterator[Path]:
    """What all may write to: the folder, what plug-ins are imported from in it, and folders above, in which it could be
    exchanged for another. Members of a group are left out: many systems give each user a group of their own."""
    if os.name != "posix":
        return
    for above in folder.parents:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:         # in /tmp nobody moves what belongs to another
            yield above
    for place in (folder, *(folder / n for n in ("models", "data", "util"))):
        for path in (place, *place.glob("*.py")):
            if path.exists() and path.stat().st_mode & stat.S_IWOTH:
                yield path
