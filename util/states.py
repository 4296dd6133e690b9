"""The training states of a run: `latest_state.pth`, the ones before it (`latest_state.pth.1`, …), `best_state.pth`.

A state is what a run goes on from; the weights beside it (`latest_net_*.pth`) are copies for use. It is written last,
so whatever it says was done is on the disk. A run killed at any moment leaves at least one whole state.
"""
import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

from duiit.util import checkpoint
from duiit.util.errors import UserError
from duiit.util.files import atomic_path

log = logging.getLogger(__name__)
LATEST = "latest_state.pth"
BEST = "best_state.pth"


class StateFiles:
    """keep: how many of the latest states stay."""

    def __init__(self, folder: str | PathLike[str], keep: int = 2) -> None:
        self.latest = Path(folder) / LATEST
        self.best = Path(folder) / BEST
        self.new = Path(folder) / f"{LATEST}.new"
        self.keep = keep

    def save(self, state: Mapping[str, Any], best: bool = False) -> None:
        """Writes `state` as the latest, and as the best too where it is. Raises UserError, and keeps what there was,
        where the disk is full."""
        if best:                # first: a run that goes on from the latest has its best behind it
            checkpoint.save(state, self.best)
            with atomic_path(self.new) as part:
                _link_or_copy(self.best, part)
        else:
            checkpoint.save(state, self.new)
        self._move_up()

    def newest(self) -> Path | None:
        """Makes the newest undamaged state the latest: its path, or None where there is none at all. Damaged ones are
        named and put aside.

        Raises UserError where every state is damaged.
        """
        damaged: list[Path] = []
        for path in self._all():
            if _is_whole(path):
                for other in damaged:
                    log.warning("%s is damaged; going on from the state before it (%s)", other, path.name)
                    other.replace(self.latest.with_name(f"{LATEST}.damaged"))
                if path == self.new:            # killed between writing it and giving it its name
                    self._move_up()
                elif path != self.latest:
                    path.replace(self.latest)
                return self.latest
            damaged.append(path)
        if damaged:
            raise UserError(f"{damaged[0]} is damaged, and no other state of the run is whole; --epoch N starts from "
                            "the weights of epoch N")
        return None

    def clear(self) -> None:
        """Forgets the states of an earlier attempt: the run begins anew."""
        for path in (*self._all(), self.best):
            path.unlink(missing_ok=True)

    def _numbered(self, number: int) -> Path:
        return self.latest.with_name(f"{LATEST}.{number}") if number else self.latest

    def _older(self) -> list[Path]:
        """The states behind the latest, newest first: numbers may be missing where some were put aside."""
        numbers = [p.name.rpartition(".")[2] for p in self.latest.parent.glob(f"{LATEST}.*")]
        return [self._numbered(n) for n in sorted(int(n) for n in numbers if n.isdigit())]

    def _all(self) -> list[Path]:
        return [p for p in (self.new, self.latest, *self._older()) if p.is_file()]

    def _move_up(self) -> None:
        """Makes the new state the latest, the latest number 1, and so on; what is beyond `keep` goes."""
        for path in reversed(self._older()):
            number = int(path.name.rpartition(".")[2])
            if number + 1 < self.keep:
                path.replace(self._numbered(number + 1))
            else:
                path.unlink()
        if self.keep > 1 and self.latest.is_file():
            self.latest.replace(self._numbered(1))
        self.new.replace(self.latest)


def _is_whole(path: Path) -> bool:
    with suppress(OSError):
        return bool(checkpoint.sealed(path))
    return False


def _link_or_copy(source: Path, target: Path) -> None:
    """The same bytes under a second name, without writing them twice where the file system can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
