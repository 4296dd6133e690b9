"""Work beside the main thread: files are read ahead and written behind, while a network computes in between.

What waits is bounded, by number and by size, so that memory does not grow with the work; results come in the order of
what was asked for, and an error in a thread is raised where its result is waited for.
"""
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

from duiit.util import threads

T = TypeVar("T")
R = TypeVar("R")
ROOM = 2**30                # bytes that may wait between two stages, if more than one piece of work does
PATIENCE = 2.0              # seconds that whoever stops early waits for a thread's work at hand


class Stopped(Exception):
    """The work at hand is wanted no more; raised by `Helpers.go_on` in a helper's thread, for nobody to hear."""


class Helpers:
    """A few threads, to be used in a `with`, that do what is submitted, first come, first served.

    No ThreadPoolExecutor: the process could not end before its threads have, and a read from a network drive that hangs
    would keep Ctrl-C waiting. Each computes alone, or their teams would take the cores from the network's.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.stopped = False
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(number)]

    def __enter__(self) -> Self:
        with threads.as_it_was():               # torch takes the last number said for that of threads to come
            ready = threading.Barrier(self.number + 1)
            for thread in self._threads:
                self._jobs.put((Future(), ready.wait))
                thread.start()
            ready.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stopped = kind is not None
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(PATIENCE if self.stopped else None)

    def submit(self, work: Callable[[], R]) -> Future[R]:
        """Its result, or its error, to be waited for."""
        future: Future[R] = Future()
        self._jobs.put((future, work))
        return future

    def go_on(self) -> None:
        """To be called now and then by long work: raises Stopped where an error or Ctrl-C ended what it is for."""
        if self.stopped:
            raise Stopped

    def _work(self) -> None:
        threads.alone()
        while (job := self._jobs.get()) is not None:
            future, work = job
            try:
                self.go_on()
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
            del job, future, work               # what they hold is not to wait for the next


def in_order(helpers: Helpers, work: Callable[[T], R], items: Iterable[T],
             weigh: Callable[[R], int] = lambda _: 0) -> Iterator[R]:
    """`work` of each item, done ahead by the helpers: as many as there are helpers and one more, or as few as ROOM
    holds if all weigh what the last one did (in bytes). The first goes alone, as its weight is not known."""
    left, waiting, allowed = iter(items), deque[Future[R]](), 1
    while True:
        for item in itertools.islice(left, max(allowed - len(waiting), 0)):
            waiting.append(helpers.submit(partial(work, item)))
        if not waiting:
            return
        result = waiting.popleft().result()
        allowed = as_many(helpers, weigh(result))
        yield result
        del result


def as_many(helpers: Helpers, weight: int) -> int:
    """How many pieces of work of so many bytes may wait for, or be with, the helpers."""
    return max(1, min(helpers.number + 1, ROOM // max(weight, 1)))
