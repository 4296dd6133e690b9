"""Where messages go: one line each, on standard error, so that standard output stays free for results.

Every module logs with `logging.getLogger(__name__)`; the command line calls `setup_logging` once. On a terminal the
lines go through the console that also draws the progress bars, so that the two never overwrite each other.
"""
import logging
import os
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from duiit.util.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console  # late, where it runs: `duiit --help` must not wait for it

_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}
# Only our own packages speak at INFO: other libraries' chatter stays out unless it is a warning.
OWN = ("duiit", "duiit_cli", "benchmarks", "__main__")


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


def log_to_file(path: str | os.PathLike[str]) -> logging.Handler:
    """Also append every message, with date and level, to `path`; returns the handler, for removing it again."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _QuietFileHandler(path, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} could not be opened for the log: {error.strerror}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    return handler


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


class _OneLine(logging.Formatter):
    """The bare message; warnings and errors say so in front, and `--verbose` adds who is speaking."""

    def __init__(self, verbose: bool) -> None:
        super().__init__("%(message)s")
        self._verbose = verbose

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        if record.levelno >= logging.WARNING:
            line = f"{record.levelname.lower()}: {line}"
        elif self._verbose and record.levelno <= logging.DEBUG:
            line = f"{record.name}: {line}"
        return line


def _log_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int,
                 file: TextIO | None = None, line: str | None = None) -> None:
    """Python's own warnings as one line; where they come from is for `--verbose`."""
    first = next(iter(str(message).strip().splitlines()), category.__name__)
    logging.getLogger("py.warnings").warning("%s", first)
    logging.getLogger(__name__).debug("%s, raised at %s:%s: %s", category.__name__, filename, lineno, message)
