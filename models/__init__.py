"""Models: networks, losses and one training step. `--model foo_bar` is `FooBarModel` in `models/foo_bar_model.py`,
here or in the `--plugins` folder."""
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from duiit.util import plugins

if TYPE_CHECKING:
    from duiit.models.base_model import BaseModel

plugins.extend(__name__)


def find_model_using_name(name: str) -> "type[BaseModel]":
    """The BaseModel subclass behind `--model name`. Raises UserError that lists what exists."""
    from duiit.models.base_model import BaseModel

    refusal = "--model", f"no such model; there are {', '.join(model_names())}"
    return plugins.find_class(__name__, name, "model", BaseModel, refusal)


def model_names() -> list[str]:
    """What `--model` takes."""
    return [n for n in plugins.names(__name__, "model") if n != "base"]


def get_option_setter(name: str) -> Callable[[ArgumentParser, bool], ArgumentParser]:
    """The static method by which the model of that name declares its options. Raises UserError."""
    return find_model_using_name(name).modify_commandline_options


def create_model(opt: Namespace) -> "BaseModel":
    """The model that opt.model names, not yet set up (see BaseModel.setup)."""
    return find_model_using_name(opt.model)(opt)
