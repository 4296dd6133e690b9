"""Shared fixtures. Importing duiit_cli first makes `models`, `data`, `util` and `options` the project's own."""
import duiit_cli  # noqa: F401
