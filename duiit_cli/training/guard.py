"""The guard on the numbers of a training run: a loss or a gradient that is not finite is noticed at its step.

On a GPU the answer is fetched while the next steps are computed, so that nothing waits for it; it is there before
anything is saved. With `--on_nan skip` the step is undone, so its answer is waited for.
"""
import logging
from argparse import Namespace
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from duiit.models.base_model import BaseModel
from duiit.util import distributed
from duiit.util.errors import UserError
from duiit.util.files import write_text

log = logging.getLogger(__name__)
IN_A_ROW = 10               # so many steps undone one after the other, and the run stops
NAMED = 4                   # so many files are named on the screen; all of them stand in a file
LIST = "not_finite.txt"


@dataclass
class _Pending:
    """A step whose numbers are still on their way."""
    where: str
    names: list[str]
    values: torch.Tensor
    finite: torch.Tensor
    paths: list[str]
    arrived: torch.cuda.Event | None

    def is_here(self) -> bool:
        return self.arrived is None or self.arrived.query()


class NumberGuard:
    """skipped: steps undone so far; in_a_row: those since the last good one."""

    def __init__(self, opt: Namespace, model: BaseModel, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.undoes = opt.on_nan == "skip"
        self.skipped = self.in_a_row = 0
        self._pending: deque[_Pending] = deque()
        self._kept: Any = None

    def before_step(self) -> None:
        if self.undoes:
            self._kept = self.model.snapshot()

    def after_step(self, batch: Mapping[str, Any], where: str) -> None:
        """Notes the numbers of the step just made; `where` names it."""
        watched = self.model.watched()
        if not watched:
            return
        values = torch.stack([v.to(self.model.device) for v in watched.values()])
        finite, arrived = values.isfinite().all(), None
        if values.is_cuda and not self.undoes:
            finite, arrived = finite.to("cpu", non_blocking=True), torch.cuda.Event()
            arrived.record()
        paths = [str(p) for key, found in batch.items() if key.endswith("_paths") for p in found]
        self._pending.append(_Pending(where, list(watched), values, finite, paths, arrived))

    def wait(self) -> None:
        """Fetches every number that is still on its way: nothing is saved before."""
        for step in self._pending:
            if step.arrived is not None:
                step.arrived.synchronize()

    def found(self) -> _Pending | None:
        """The first step known by now to have gone wrong, or None."""
        while self._pending and self._pending[0].is_here():
            step = self._pending.popleft()
            if not step.finite:
                return step
        return None

    def respond(self, wrong: _Pending | None) -> None:
        """In all processes, where one of them found `wrong`: undoes the step, or raises UserError."""
        reports = [r for r in distributed.gather(wrong and (wrong.where, _culprit(wrong), wrong.paths)) if r]
        where, culprit, _ = reports[0]
        paths = [p for _, _, found in reports for p in found]
        listed = self._list(paths)
        files = ", ".join(paths[:NAMED]) + (f" and {len(paths) - NAMED} more{listed}" if len(paths) > NAMED else "")
        message = f"{culprit} is not a finite number at {where} (images {files})"
        if not self.undoes:
            raise UserError(f"{message}; the last saved state in {self.folder} is good: try a lower --lr, look for "
                            "near-empty slices with `duiit data check`, or go on with --on_nan skip")
        self.model.undo(self._kept)
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        if self.in_a_row >= IN_A_ROW:
            raise UserError(f"{message}, as in the {IN_A_ROW - 1} steps before; all were undone, and the last saved "
                            f"state in {self.folder} is good: try a lower --lr")
        log.warning("%s; the step is undone (%d so far)", message, self.skipped)

    def good_step(self) -> None:
        self.in_a_row = 0

    def _list(self, paths: Sequence[str]) -> str:
        if len(paths) <= NAMED or not distributed.is_main():
            return ""
        write_text(self.folder / LIST, "\n".join(paths) + "\n", durable=False)
        return f", all in {self.folder / LIST}"


def _culprit(step: _Pending) -> str:
    return next(n for n, v in zip(step.names, step.values.tolist(), strict=True) if v != v or abs(v) == float("inf"))
