"""Ctrl-C and SIGTERM in training: what they end at once, and what is finished before.

Where nothing would be lost (before the first step, and in a step whose start is on the disk) the work under way is
given up as soon as torch returns to Python; elsewhere the step is finished and everything saved.
"""
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook

from duiit.util import distributed

log = logging.getLogger(__name__)


class StoppedAtOnce(SystemExit):
    """The work under way is given up: raised where the signal arrived. code: 128 + the signal."""


class Stop:
    """signal: the one that asks to stop, or 0. at_once: whether the work under way may be given up."""

    def __init__(self) -> None:
        self.signal = 0
        self.at_once = True

    def __bool__(self) -> bool:
        return self.signal != 0

    def ask(self, number: int, frame: FrameType | None = None) -> None:
        """Receives a signal; a second Ctrl-C stops at once, whatever is lost."""
        again, self.signal = bool(self.signal), number
        if self.at_once:
            self.at_once = False
            raise StoppedAtOnce(128 + number)
        # One Ctrl-C reaches a launched process twice: from the terminal and from its launcher.
        if again and number == signal.SIGINT and not distributed.launched():
            raise KeyboardInterrupt
        if not again and distributed.is_main():
            log.warning("stopping after this step")


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Yields a Stop that hears SIGINT and SIGTERM."""
    stop = Stop()
    try:
        before = {s: signal.signal(s, stop.ask) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:                          # not in the main thread: whoever runs us there stops us another way
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Lets a signal in between the layers of a backward pass, which on a CPU is one call of minutes otherwise: Python
    hears signals only where some Python runs. What is computed stays the same."""
    def listen(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.requires_grad:
            output.register_hook(_nothing)

    handle = register_module_forward_hook(listen)
    try:
        yield
    finally:
        handle.remove()


def _nothing(gradient: torch.Tensor) -> None:
    """A hook that leaves the gradient as it is."""
