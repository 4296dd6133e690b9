"""DUIIT's command line. Importing this package also makes sure that `options`, `models`, `data` and `util` are ours."""
import sys
from importlib.machinery import PathFinder
from pathlib import Path

__version__ = "0.2.0"

_HOME = str(Path(__file__).resolve().parent.parent)
_ROOMS = ("options", "models", "data", "util")


class _RoomFinder:
    """Finds DUIIT's four packages beside this one, wherever the command was started.

    Their names are common (the toolkit layout fixes them), and `python -m duiit_cli` and torchrun put the working
    directory first on the path: a user's own `./data` or `./models/__init__.py` would be imported in their place.
    """

    @staticmethod
    def find_spec(fullname, path=None, target=None):
        return PathFinder.find_spec(fullname, [_HOME], target) if fullname in _ROOMS else None


if not any(getattr(finder, "__name__", "") == "_RoomFinder" for finder in sys.meta_path):
    sys.meta_path.insert(0, _RoomFinder)
