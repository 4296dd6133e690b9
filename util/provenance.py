"""How something came about: the command, the versions, the machine, the time. It stands in `provenance.json`.

Nothing is taken from the environment's variables, and neither the user's nor the machine's name is noted.
"""
import hashlib
import json
import logging
import os
import platform
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from duiit.util.errors import UserError
from duiit.util.files import write_json
from duiit.util.version import __version__

log = logging.getLogger(__name__)
NAME = "provenance.json"
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "pillow", "tifffile", "nibabel", "pydicom")
PATIENCE = 10               # seconds that git may take to say what it knows


def note(folder: str | PathLike[str], command: str, words: Iterable[str], device: str | None = None,
         **more: Any) -> None:
    """Adds an entry to provenance.json of the folder: `duiit <command> <words>` was called, here and now.

    device: as --device has it, where something is computed. more: what else is to be known of this call, as JSON.
    """
    path = Path(folder) / NAME
    write_json(path, {"entries": [*_entries(path), {
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "command": shlex.join(["duiit", command, *words]),
        "versions": versions(), "git": git(), "host": host(), "device": device and device_name(device),
        "threads": torch.get_num_threads(), **more}]})


def read(folder: str | PathLike[str]) -> list[dict[str, Any]]:
    """The entries of a folder's provenance.json, in time; [] where there are none."""
    return _entries(Path(folder) / NAME)


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
        return [dict(entry) for entry in entries]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        log.warning("%s is damaged: what it said is lost", path)
        return []


def versions() -> dict[str, str | None]:
    """{what: version} of DUIIT, Python, the packages that figures depend on, and CUDA where torch has it."""
    found: dict[str, str | None] = {"duiit": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:                    # installed without its description
            found[package] = None
    return {**found, "cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version() or "") or None}


def host() -> dict[str, Any]:
    """What kind of machine this is."""
    return {"system": platform.platform(), "processor": processor(), "cores": os.cpu_count()}


def processor() -> str:
    """The processor's name as far as the system tells it, such as `Intel(R) Xeon(R) …`; else its kind (x86_64)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(filter(None, named), "") or platform.processor() or platform.machine()


def device_name(device: str) -> str:
    """`cuda:0` -> the GPU's name; `cpu` -> the processor's; others as they are called."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name(torch.device(device))
    return processor() if device == "cpu" else device


def git() -> dict[str, Any] | None:
    """{"commit": …, "changed": whether tracked files differ from it} of DUIIT's checkout; None for an installed one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    commit, changes = (_ask_git(root, *words) for words in (
        ("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no")))
    return {"commit": commit, "changed": bool(changes)} if commit and changes is not None else None


def _ask_git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "--no-optional-locks", "-C", str(root), *words], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):       # no git, or it does not trust the folder's owner
        return None
    return done.stdout.strip()


def digest_of(path: str | PathLike[str]) -> str | None:
    """SHA-256 of a file, as 64 hexadecimal digits; None where there is none."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def in_words(entry: Mapping[str, Any]) -> str:
    """One line on an entry: the commit, where there is one, the processor, and the system."""
    code, machine = entry.get("git") or {}, entry.get("host") or {}
    changed = ", with changes" if code.get("changed") else ""
    parts = [f"git commit {code['commit']}{changed}"] if code.get("commit") else []
    return "; ".join([*parts, *(str(machine[k]) for k in ("processor", "system") if machine.get(k))])
