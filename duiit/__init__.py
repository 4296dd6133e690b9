"""DUIIT from Python: what the commands do, for scripts and notebooks (docs/python.md).

    import duiit
    run = duiit.train(dataroot="./mri_ct", name="demo", preset="phantom")
    ct = run.translate("patient.nii.gz")            # ct.values in HU, ct.affine
    ages = run.predict("./new_ct")                  # a pandas DataFrame

It is also the one name under which all packages stand: `duiit.data`, `duiit.models`, `duiit.options`, `duiit.util`.
"""
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# A wheel holds data, models, options and util inside this package (setup.py). In a checkout they stand beside it, as
# the toolkit lays them out.
__path__.append(str(Path(__file__).resolve().parent.parent))

from duiit.util.errors import UserError  # noqa: E402
from duiit.util.version import __version__  # noqa: E402

if TYPE_CHECKING:
    from duiit.functions import check, experiment, load, phantom, train
    from duiit.run import Run, Translation

__all__ = ["Run", "Translation", "UserError", "__version__", "check", "experiment", "load", "phantom", "train"]

_HOMES = {"Run": "duiit.run", "Translation": "duiit.run",
          **dict.fromkeys(("check", "experiment", "load", "phantom", "train"), "duiit.functions")}


def __getattr__(name: str) -> Any:
    """Imported on first use: torch takes seconds, and `duiit --help` needs nothing but the version."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
