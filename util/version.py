"""The version, where every package may ask for it; setup.py reads it from here."""
__version__ = "0.2.0"
