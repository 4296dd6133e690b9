"""Models: networks, losses and one training step. `--model foo_bar` is `FooBarModel` in `models/foo_bar_model.py`."""
from importlib import import_module
from importlib.util import find_spec
from inspect import isabstract
from pathlib import Path

from util.errors import UserError


def find_model_using_name(name):
    """The BaseModel subclass behind `--model name`. Raises UserError that lists what exists."""
    from models.base_model import BaseModel

    wanted = name.replace("_", "") + "model"
    if not name.isidentifier() or find_spec(f"models.{name}_model") is None:
        raise UserError(f"--model {name}: no such model; there are {', '.join(model_names())}")
    module = import_module(f"models.{name}_model")
    for member, cls in vars(module).items():
        if member.lower() == wanted and isinstance(cls, type) and issubclass(cls, BaseModel) and not isabstract(cls):
            return cls
    raise UserError(f"--model {name}: {module.__file__} holds no BaseModel whose lower-case name is {wanted}")


def model_names():
    """What `--model` takes."""
    names = sorted(p.stem.removesuffix("_model") for p in Path(__file__).parent.glob("*_model.py"))
    return [n for n in names if n != "base"]


def get_option_setter(name):
    """The static method by which the model of that name declares its options. Raises UserError."""
    return find_model_using_name(name).modify_commandline_options


def create_model(opt):
    """The model that opt.model names, not yet set up (see BaseModel.setup)."""
    return find_model_using_name(opt.model)(opt)
