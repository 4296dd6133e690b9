"""Whether a run is still going on: `<run>/status.json`, for programs, and `web/status.js`, for the page beside it.

While the run lives a thread writes both every BEAT seconds. A process that was killed can say nothing any more: then
the time of the last update stands still, by which everybody can tell. A page opened from the disk may load a script
from beside it, but no JSON; so there are two files.
"""
import json
import logging
import os
import socket
import threading
from argparse import Namespace
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from duiit.util.errors import UserError
from duiit.util.files import write_text

log = logging.getLogger(__name__)
NAME = "status.json"
SCRIPT = "status.js"
BEAT = 30.0
SILENCE = 180           # seconds without an update after which a page takes a run for dead
RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"


class RunStatus:
    """`with RunStatus(folder) as status:` says that the run in `folder` is running, and at the end how it ended.

    status.at(epoch, step) says how far it is, status.ended(state) how it ended where no exception tells. web: the
    page's folder, or None where there is no page."""

    def __init__(self, folder: Path, web: Path | None = None) -> None:
        self.folder, self.web = folder, web
        self._said: dict[str, Any] = {"state": RUNNING, "epoch": None, "step": None, "message": None,
                                      "process": os.getpid(), "host": socket.gethostname(), "started": _now()}
        self._over = threading.Event()
        self._writing = threading.Lock()

    def at(self, epoch: int, step: int) -> None:
        """How far the run is; written with the next beat."""
        self._said |= {"epoch": epoch, "step": step}

    def ended(self, state: str, message: str | None = None) -> None:
        self._said |= {"state": state, "message": message}

    def __enter__(self) -> Self:
        self._write()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        if isinstance(error, Exception):
            self.ended(FAILED, str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
        elif error is not None:
            self.ended(STOPPED)
        self._write()

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            self._write()

    def _write(self) -> None:
        said = {**self._said, "updated": _now()}
        with self._writing, suppress(UserError, OSError):       # a full disk: what must not be lost says so itself
            write_text(self.folder / NAME, json.dumps(said, indent=1, allow_nan=False) + "\n", durable=False)
            if self.web is not None:
                text = json.dumps(said, allow_nan=False).replace("<", "\\u003c")
                write_text(self.web / SCRIPT, f"duiitStatus({text});\n", durable=False)


def read(folder: Path) -> dict[str, Any]:
    """What status.json says; {} where there is none (runs of before) or it cannot be read."""
    with suppress(OSError, ValueError):
        said = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return said if isinstance(said, dict) else {}
    return {}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def how_to_go_on(opt: Namespace) -> str:
    """The command that goes on with the run."""
    where = getattr(opt, "checkpoints_dir", "./checkpoints")
    where = "" if where == "./checkpoints" else f" --checkpoints_dir {where}"
    where += f" --plugins {opt.plugins}" if getattr(opt, "plugins", None) else ""
    return f"duiit train --name {opt.name}{where} --continue_train"


def page_line(opt: Namespace) -> str:
    """A line of HTML that says whether the run is going on, as its browser finds: by status.js, and by the clock."""
    words = json.dumps({"go_on": how_to_go_on(opt), "silence": SILENCE}).replace("<", "\\u003c")
    return f"""<p id="status"></p><noscript><p>While training is on, status.json in the run's folder is written every
{BEAT:.0f} seconds: an older one is of a run that has ended.</p></noscript><script>
function duiitStatus(s){{
const w={words},at=new Date(s.updated),quiet=(Date.now()-at)/1000>w.silence,line=document.getElementById("status");
const where=s.step===null?"":" at epoch "+s.epoch+", step "+s.step;
line.textContent=s.state=="finished"?"Finished"+where+"."
:s.state=="stopped"?"Stopped"+where+". Go on with: "+w.go_on
:s.state=="failed"?"Failed"+where+": "+s.message
:quiet?"Not running any more: no sign of life since "+at.toLocaleString()+" (process "+s.process+" on "+s.host
+" was killed, or its machine went down). Go on with: "+w.go_on
:"Running"+where+", as of "+at.toLocaleTimeString()+".";
if(s.state!="running"||quiet)line.style.fontWeight="bold"}}
</script><script src="{SCRIPT}"></script>"""
