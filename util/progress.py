"""How far the work is: a live bar on a terminal or in a notebook, a plain line now and then in a log file or batch job.

`track` wraps any loop; `TrainProgress` follows a training run with its losses. Both may be used inside each other:
the bars share one live display, which the outermost one opens and closes.
"""
import logging
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar

from duiit.util import logs

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID  # late, where they run: `duiit --help` must not wait for them

logger = logging.getLogger(__name__)

T = TypeVar("T")
LINE_SECONDS = 10.0  # at most one plain line in this time
NOTEBOOK_SECONDS = 0.5  # at most one change of a notebook's bar in this time
LATER_SECONDS = 60.0  # and in this time once the work has gone on for long: a run of days should not log 50,000 lines
_SETTLED_AFTER = 600.0


def track(iterable: Iterable[T], description: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yield the items of `iterable` while showing how many are done; `total` defaults to its length, if it has one."""
    if total is None and isinstance(iterable, Sized):
        with suppress(TypeError):       # a loader over a stream has a length only by name
            total = len(iterable)
    meter = _Meter(description, total, unit)
    meter.open()
    try:
        for item in iterable:
            yield item
            meter.advance(1)
    finally:
        meter.close()


class TrainProgress:
    """Progress of a training run: `with TrainProgress(200, 4000) as p: p.start_epoch(1); p.advance(16, losses)`.

    `size` is what an epoch holds in the unit that `advance` counts (images by default). `first_epoch` is where a
    resumed run goes on, so that the time left is that of the epochs still to do.
    """

    _active = 0

    def __init__(self, n_epochs: int, size: int | None, first_epoch: int = 1, unit: str = "images") -> None:
        self.n_epochs = n_epochs
        self.size = size
        self.epoch = first_epoch
        self._meter = _Meter(self._title(), size, unit)

    def __enter__(self) -> "TrainProgress":
        TrainProgress._active += 1
        self._meter.open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        TrainProgress._active -= 1
        self._meter.close()

    def start_epoch(self, epoch: int) -> None:
        """Begin counting epoch `epoch` (from 1) anew."""
        self.epoch = epoch
        self._meter.restart(self._title(), later=(self.n_epochs - epoch) * (self.size or 0))

    def advance(self, count: int = 1, losses: Mapping[str, float] | None = None) -> None:
        """Count `count` more images; `losses`, when given, are shown until the next ones come."""
        if losses is not None:
            self._meter.note = "  ".join(f"{name} {value:.3g}" for name, value in losses.items())
        self._meter.advance(count)

    def _title(self) -> str:
        return f"epoch {self.epoch}/{self.n_epochs}"


def is_training_shown() -> bool:
    """True while a TrainProgress is open: its losses are on the screen, so nobody needs to log them as well."""
    return TrainProgress._active > 0


class _Rate:
    """Items a second over the last half minute or so: follows a change of pace, without jumping at every step."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._marks = deque([(time.monotonic(), 0)], maxlen=64)
        self.count = 0

    def add(self, count: int) -> None:
        self.count += count
        now = time.monotonic()
        # Half a second between marks: 64 of them reach over half a minute, however fast the loop turns.
        if now - self._marks[-1][0] >= 0.5:
            self._marks.append((now, self.count))

    def __call__(self) -> float | None:
        since, done = self._marks[0]
        elapsed = time.monotonic() - since
        return (self.count - done) / elapsed if self.count > done and elapsed > 0 else None


class _Meter:
    """One counted piece of work, shown as a bar or as lines. What is on standard error is asked once, on opening."""

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = 0
        self.note = ""
        self._later = 0  # items that follow after this count is full: the epochs to come
        self._rate = _Rate()
        self._live: Progress | None = None
        self._task: TaskID | None = None
        self._cell: _NotebookBar | None = None

    def open(self) -> None:
        self._opened = self._told = time.monotonic()
        self._lines, self._told_at = 0, 0
        self._rate.restart()
        self._cell = _NotebookBar() if logs.in_notebook() else None
        if self._cell is None and logs.on_terminal():
            self._live = _Live.acquire()
            self._task = self._live.add_task(self.title, total=self.total, facts="", note="")

    def restart(self, title: str, later: int) -> None:
        self.title, self._later, self.done = title, later, 0
        if self._live is not None and self._task is not None:
            self._live.reset(self._task, description=title, total=self.total, start=True)

    def advance(self, count: int) -> None:
        self.done += count
        self._rate.add(count)
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=self.done, facts=self._facts(), note=self.note)
            return
        now = time.monotonic()
        if self._cell is not None:
            if now - self._told >= NOTEBOOK_SECONDS:
                self._told = now
                self._cell.show(self)
            return
        if now - self._told >= (LINE_SECONDS if now - self._opened < _SETTLED_AFTER else LATER_SECONDS):
            self._told = now
            self._tell()

    def close(self) -> None:
        if self._live is not None and self._task is not None:
            live, self._live = self._live, None
            live.remove_task(self._task)
            _Live.release()
        elif self._cell is not None:
            self._cell.show(None)
        elif self._lines and self.done == self.total != self._told_at and not self._later:
            self._tell()  # a log that showed the way should show the end too

    def _tell(self) -> None:
        self._lines, self._told_at = self._lines + 1, self.done
        logger.info("%s", self.line())

    def line(self) -> str:
        amount = f"{self.done}/{self.total}" if self.total else f"{self.done}"
        return "  ".join(filter(None, [f"{self.title}: {amount} {self.unit}", self._facts(), self.note]))

    def _facts(self) -> str:
        rate = self._rate()
        if rate is None:
            return ""
        facts = [f"{rate:.1f} {self.unit}/s" if rate >= 1 else f"{1 / rate:.1f} s/{_singular(self.unit)}"]
        if self.total:
            left = max(self.total - self.done, 0) / rate
            facts.append(f"{_clock(left)} left")
            if self._later:
                facts.append(f"{_clock(left + self._later / rate)} in all")
        return ", ".join(facts)


class _NotebookBar:
    """A meter in the output of a notebook's cell; it goes when the work is done, as a terminal's does."""

    def __init__(self) -> None:
        self._handle: Any = None            # what is done at once shows no bar

    def show(self, meter: _Meter | None) -> None:
        from IPython.display import HTML, display

        if meter is not None and self._handle is None:
            self._handle = display(HTML(""), display_id=True)
        if self._handle is not None:
            self._handle.update(HTML(self._html(meter) if meter else ""))

    @staticmethod
    def _html(meter: _Meter) -> str:
        place = f'value="{meter.done}" max="{meter.total}"' if meter.total else ""
        return f"<progress {place}></progress> <code>{escape(meter.line())}</code>"


class _Live:
    """The one live display, opened by the first meter and closed by the last."""

    _display: "Progress | None" = None
    _users = 0

    @classmethod
    def acquire(cls) -> "Progress":
        if cls._display is None:
            cls._display = _make_display()
            cls._display.start()
        cls._users += 1
        return cls._display

    @classmethod
    def release(cls) -> None:
        cls._users -= 1
        if cls._users == 0 and cls._display is not None:
            display, cls._display = cls._display, None
            display.stop()  # also shows the cursor again


def _make_display() -> "Progress":
    from rich.console import RenderableType
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class Count(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.completed:.0f}" + (f"/{task.total:.0f}" if task.total else ""))

    class Display(Progress):
        """Bars, and under them the losses on a line of their own, which may be long."""

        def get_renderables(self) -> Iterable[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            for task in self.tasks:
                if task.fields.get("note"):
                    yield Text(task.fields["note"], style="dim")

    return Display(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        Count(),
        TextColumn("{task.fields[facts]}", style="cyan", markup=False),
        console=logs.console(),
        transient=True,
        refresh_per_second=5,
        # rich would send printed results to standard error, where the bars are: right only if both are the terminal
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )


def _singular(unit: str) -> str:
    return unit[:-1] if unit.endswith("s") and len(unit) > 2 else unit


def spoken(seconds: float) -> str:
    """12 s, 3.4 min, 5.6 h or 2.1 days."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size * (2 if unit == "days" else 1.5):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _clock(seconds: float) -> str:
    """0:07, 12:40, 3:05:00, 2 d 4 h."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
