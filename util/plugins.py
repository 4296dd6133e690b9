"""Plug-ins: files with a model or a data set that stand in a folder of the user's own (`--plugins DIR`).

`DIR/models/foo_model.py` and `DIR/data/foo_dataset.py`, or both right in DIR, are imported as if they stood in
`models/` and `data/` here. They are written for the toolkit, so what they import by its names (`models.networks`,
`util.util`) is what DUIIT has under them; for all other code of the process these names stay whatever they are. A
module that exists here is never replaced. One folder is in use at a time; an environment variable carries it over to
loader processes.
"""
import builtins
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from inspect import isabstract
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from duiit.util.errors import UserError

log = logging.getLogger(__name__)
VARIABLE = "DUIIT_PLUGINS"
HOSTS = ("duiit.models", "duiit.data", "duiit.util")        # the packages that a plug-in's files are added to
_OWN = {file.parent.parent / name for file in (Path(__file__), Path(__file__).resolve())
        for name in ("data", "models", "options", "util")}
TOOLKIT = ("models", "data", "util", "options")             # the names by which the toolkit calls its own
T = TypeVar("T")
_only_named: ContextVar[bool] = ContextVar("only_named", default=False)


# -- the folder ----------------------------------------------------------------------------------------------------

def use(folder: str | Path | None) -> None:
    """Brings the plug-ins of `folder` into reach, in place of those of the folder before; None: no plug-ins.

    Raises UserError where there is no such folder. Whether its files may be run is the caller's to ask (util/trust.py).
    """
    if folder and not Path(folder).is_dir():
        raise UserError(f"--plugins {folder}: no such folder; give the folder that holds models/ and data/, or the "
                        "files themselves")
    chosen = str(Path(folder).resolve()) if folder else ""
    importlib.invalidate_caches()               # a file may be younger than the last look into its folder
    if chosen == in_use():
        return
    _forget()
    os.environ[VARIABLE] = chosen
    extend(*(host for host in HOSTS if host in sys.modules))
    if chosen:
        log.debug("plug-ins from %s", chosen)


@contextmanager
def only_named() -> Iterator[None]:
    """Inside, the plug-ins in reach can be listed, and none is imported: for completing a line that is still being
    typed."""
    token = _only_named.set(True)
    try:
        yield
    finally:
        _only_named.reset(token)


def in_use() -> str:
    """The folder whose plug-ins are in reach; empty where there is none."""
    return os.environ.get(VARIABLE, "")


def extend(*hosts: str) -> None:
    """Lets each package find the plug-ins in use besides its own modules. duiit.models and duiit.data call it when
    they are imported."""
    for host in {*hosts, "duiit.util"}:
        path = sys.modules[host].__path__
        path.extend(folder for folder in _folders(host) if folder not in path)


def _folders(host: str) -> list[str]:
    """The folders in which plug-ins of one package stand."""
    folder, package = os.environ.get(VARIABLE), host.removeprefix("duiit.")
    if not folder:
        return []
    flat = any(any(Path(folder).glob(f"*_{kind}.py")) for kind in ("model", "dataset"))
    places = [Path(folder, package)] * Path(folder, package).is_dir() + [Path(folder)] * (flat and package != "util")
    return [str(place) for place in places if place not in _OWN]


def _forget() -> None:
    """Takes the folder in use, and what was imported from it, out of every package."""
    for host in HOSTS:
        package = sys.modules.get(host)
        if package is not None:
            package.__path__[:] = [place for place in package.__path__ if place not in _folders(host)]
    for name, module in list(sys.modules.items()):
        if name.startswith(HOSTS) and _is_plugin(getattr(module, "__file__", None)):
            del sys.modules[name]
            host, _, member = name.rpartition(".")
            vars(sys.modules[host]).pop(member, None) if host in HOSTS else None


def _is_plugin(file: str | None) -> bool:
    """Whether a module's file is a plug-in. Not by where a link leads to, and not every file below the folder: DUIIT
    itself may be installed there, in a .venv."""
    folder = os.environ.get(VARIABLE)
    if not folder or not file:
        return False
    above = Path(file).parents
    return Path(folder) in above and not any(place in above for place in _OWN)


# -- importing -----------------------------------------------------------------------------------------------------

class _Finder:
    """Finds modules of the packages above, and has those that are plug-ins loaded by `_Loader`."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not (os.environ.get(VARIABLE) and name.startswith(HOSTS)):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and _is_plugin(spec.origin) and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """A module whose own `import` statements, now and whenever its functions run, know the toolkit's names.

    Their meaning is changed in that module alone. To give the names to sys.modules, even for a while, would take them
    from a user's own `data` or `models`, in every thread.
    """

    def exec_module(self, module: ModuleType) -> None:
        if _only_named.get():
            raise UserError(f"{self.path}: is not imported where only names are asked for")
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


def _import(name: str, globals: Mapping[str, object] | None = None, locals: Mapping[str, object] | None = None,
            fromlist: Sequence[str] = (), level: int = 0) -> ModuleType:             # noqa: A002 - Python's names
    package = name.partition(".")[0]
    if level or package not in TOOLKIT:
        return builtins.__import__(name, globals, locals, fromlist, level)
    module = builtins.__import__(f"duiit.{name}", globals, locals, fromlist, 0)
    return module if fromlist else sys.modules[f"duiit.{package}"]


sys.meta_path.insert(0, _Finder)


# -- what is in it -------------------------------------------------------------------------------------------------

def names(host: str, kind: str) -> list[str]:
    """Every foo for which the package, or a plug-in folder, holds a foo_<kind>.py."""
    files = (p for folder in sys.modules[host].__path__ for p in Path(folder).glob(f"*_{kind}.py"))
    return sorted({p.stem.removesuffix(f"_{kind}") for p in files})


def find_class(host: str, name: str, kind: str, base: type[T], refusal: tuple[str, str]) -> type[T]:
    """The subclass of `base` that <host>/<name>_<kind>.py holds under the name <name><kind>, whatever its case.

    Raises UserError: `refusal` names the option and begins every message; its second part says what there is.
    """
    option, missing = refusal
    if not name.isidentifier() or find_spec(f"{host}.{name}_{kind}") is None:
        raise UserError(f"{option} {name}: {missing}")
    module = load(f"{host}.{name}_{kind}")
    wanted = f"{name.replace('_', '')}{kind}".lower()
    found = [cls for member, cls in vars(module).items()
             if member.lower() == wanted and isinstance(cls, type) and issubclass(cls, base)]
    if not found or found[0] is base:
        raise UserError(f"{option} {name}: {module.__file__} holds no {base.__name__} whose lower-case name is "
                        f"{wanted}")
    if isabstract(found[0]):
        raise UserError(f"{option} {name}: {module.__file__}: {found[0].__name__} does not define "
                        f"{', '.join(sorted(getattr(found[0], '__abstractmethods__', ())))}")
    return found[0]


def load(name: str) -> ModuleType:
    """The module of that name. A plug-in that cannot be imported becomes one line with its file and the reason."""
    spec = find_spec(name)
    with blaming(spec.origin if spec and _is_plugin(spec.origin) else None):
        return importlib.import_module(name)


def warn_of_namesake(name: str) -> None:
    """Says so where a plug-in file is left aside because the project has a module of that name."""
    host, _, stem = name.rpartition(".")
    files = [Path(folder, f"{stem}.py") for folder in _folders(host)]
    for file in files:
        spec = find_spec(name)
        if file.is_file() and not (spec and _is_plugin(spec.origin)):
            log.warning("%s is not used: DUIIT has a %s of its own; give the plug-in another name", file, stem)


@contextmanager
def blaming(file: str | None = None) -> Iterator[None]:
    """An error that comes out of a plug-in's code becomes one line that names the file, the line and the reason.

    file: the one to name where the error itself leads to none. Other errors pass unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        place = _place(error) or file
        if place is None:
            raise
        raise UserError(f"{place}: {type(error).__name__}: {getattr(error, 'msg', None) or error}") from error


def _place(error: Exception) -> str | None:
    """`file, line N` of the plug-in's code that raised it; None where no plug-in had a part in it."""
    if isinstance(error, SyntaxError) and _is_plugin(error.filename):
        return f"{error.filename}, line {error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_plugin(f.filename)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else None
