"""Where messages go: one line each, on standard error, so that standard output stays free for results.

Every module logs with `logging.getLogger(__name__)`; the command line calls `setup_logging` once. On a terminal the
lines go through the console that also draws the progress bars, so that the two never overwrite each other.
"""
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from duiit.util.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console  # late, where it runs: `duiit --help` must not wait for it

_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}
# Only our own packages speak at INFO: other libraries' chatter stays out unless it is a warning.
OWN = ("duiit", "duiit_cli", "benchmarks", "__main__")
# Libraries that remark on files in words of their own, a line for each odd tag, without saying which file they mean.
LIBRARIES = ("pydicom", "PIL", "tifffile", "nibabel", "matplotlib")
_remarks: ContextVar[list[str] | None] = ContextVar("remarks", default=None)
_errors: ContextVar[list[str] | None] = ContextVar("errors", default=None)


def on_terminal() -> bool:
    """True when a person is watching standard error on a terminal that can move its cursor."""
    stream = sys.stderr
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def in_notebook() -> bool:
    """True in a Jupyter kernel, whose cells can show a bar."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


@cache
def console() -> "Console":
    """The one rich console on standard error, shared by messages and progress bars."""
    from rich.console import Console

    return Console(stderr=True)


def setup_logging(verbose: bool = False, quiet: bool = False) -> None:
    """Send messages to standard error: DEBUG and up when `verbose`, warnings only when `quiet`. May be called again."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _StderrHandler)]:
        root.removeHandler(handler)
    handler = _StderrHandler()
    handler.setFormatter(_OneLine(verbose))
    root.addHandler(handler)
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    for package in OWN:
        logging.getLogger(package).setLevel(level)
    warnings.showwarning = _log_warning
    quiet_libraries()
    _Library.unheard = logging.DEBUG


@contextmanager
def each_once() -> Iterator[None]:
    """In the block, of messages that say the same the first one alone goes on."""
    first: dict[str, logging.LogRecord] = {}

    def is_first(record: logging.LogRecord) -> bool:
        return first.setdefault(record.getMessage(), record) is record

    handlers = logging.getLogger().handlers[:]
    for handler in handlers:
        handler.addFilter(is_first)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_first)


# -- other libraries -----------------------------------------------------------------------------------------------

def quiet_libraries() -> None:
    """From now on, what LIBRARIES log goes to `remarks_on`, where a file is being read. May be called again."""
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _Library) for handler in logger.handlers):
            logger.addHandler(_Library())
            logger.propagate = False
    speaker = logging.getLogger("nibabel.global")       # brings a handler of its own, when nibabel is imported
    speaker.filters = [f for f in speaker.filters if f is not _is_untaken] + [_is_untaken]
    warnings.filterwarnings("ignore", module=rf"({'|'.join(LIBRARIES)})(\.|$)")


@contextmanager
def remarks_on(path: str | os.PathLike[str]) -> Iterator[list[str]]:
    """Keeps what libraries say while `path` is read: one line with their number, under `--verbose`.

    Yields a list, which at the end holds what they logged as errors, for a caller whose reading went well all the same.
    """
    remarks: list[str] = []
    errors: list[str] = []
    tokens = _remarks.set(remarks), _errors.set(errors)
    try:
        yield errors
    finally:
        _remarks.reset(tokens[0])
        _errors.reset(tokens[1])
        if remarks:
            logging.getLogger(__name__).debug("%s: %d remarks of libraries, first: %s", path, len(remarks), remarks[0])


def _taken(record: logging.LogRecord) -> bool:
    """Whether a library's record belongs to a file that is being read: then it is kept there."""
    remarks, errors = _remarks.get(), _errors.get()
    if remarks is None or errors is None:
        return False
    line = next(iter(record.getMessage().strip().splitlines()), record.name)
    remarks.append(line)
    if record.levelno >= logging.ERROR and not record.exc_info:     # an exception is caught, and another way is tried
        errors.append(line)
    return True


def _is_untaken(record: logging.LogRecord) -> bool:
    return not _taken(record) and _Library.unheard is None


class _Library(logging.Handler):
    """Stands where a library's records would go on to the user."""

    unheard: int | None = None      # the level of what concerns no file; None: as the program that imports us has it

    def emit(self, record: logging.LogRecord) -> None:
        if _taken(record):
            return
        if self.unheard is None:
            logging.getLogger().callHandlers(record)
        else:
            logging.getLogger(__name__).log(self.unheard, "%s: %s", record.name, record.getMessage())


def log_to_file(path: str | os.PathLike[str]) -> logging.Handler:
    """Also append every message, with date and level, to `path`; returns the handler, for removing it again."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _QuietFileHandler(path, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} could not be opened for the log: {error.strerror}") from error
    handler.setFormatter(_Dated("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    return handler


class _Dated(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _QuietFileHandler(logging.FileHandler):
    """A full disk costs the log its lines, and nobody a page of traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        pass


class _StderrHandler(logging.Handler):
    """Writes to whatever standard error is at that moment; on a terminal, above the progress bars."""

    def __init__(self) -> None:
        super().__init__()
        self._process = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if os.getpid() != self._process:
                # A data-loading worker: the console's lock may have been held by the parent's drawing thread when
                # this process was forked, and would never be released here.
                _write(sys.__stderr__, line)
            elif on_terminal():
                from rich.text import Text

                console().print(Text(line, style=_STYLES.get(record.levelno, "")), soft_wrap=True)
            else:
                _write(sys.stderr, line)
        except Exception:
            self.handleError(record)


def _write(stream: TextIO | None, line: str) -> None:
    if stream is None:
        return
    try:
        stream.write(line + "\n")
    except UnicodeEncodeError:  # a terminal in the C locale: a patient's or folder's name must not stop the message
        encoding = stream.encoding or "ascii"
        stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def printable(text: str) -> str:
    """`text` with control characters spelled out, but for line breaks and tabs: a patient's or a file's name must not
    move the cursor of a terminal, colour it or write to its clipboard."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)


class _OneLine(logging.Formatter):
    """The bare message; warnings and errors say so in front, and `--verbose` adds who is speaking."""

    def __init__(self, verbose: bool) -> None:
        super().__init__("%(message)s")
        self._verbose = verbose

    def format(self, record: logging.LogRecord) -> str:
        line = printable(super().format(record))
        if record.levelno >= logging.WARNING:
            line = f"{record.levelname.lower()}: {line}"
        elif self._verbose and record.levelno <= logging.DEBUG:
            line = f"{record.name}: {line}"
        return line


def _log_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int,
                 file: TextIO | None = None, line: str | None = None) -> None:
    """Python's own warnings as one line; where they come from is for `--verbose`."""
    first = next(iter(str(message).strip().splitlines()), category.__name__)
    remarks = _remarks.get()
    if remarks is not None:
        remarks.append(first)
    else:
        logging.getLogger("py.warnings").warning("%s", first)
    logging.getLogger(__name__).debug("%s, raised at %s:%s: %s", category.__name__, filename, lineno, message)
