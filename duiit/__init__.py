"""DUIIT from Python, and the one name under which all its packages stand: `duiit.data`, `duiit.models`, …"""
from pathlib import Path

__version__ = "0.2.0"

# A wheel holds data, models, options and util inside this package (setup.py). In a checkout they stand beside it, as
# the toolkit lays them out.
__path__.append(str(Path(__file__).resolve().parent.parent))
