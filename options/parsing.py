"""An argparse parser that never exits, and the checks one option value has to pass wherever it comes from."""
import argparse
import difflib
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from duiit.util.errors import UserError

ArgumentGroup = argparse._ArgumentGroup     # what `add_argument_group` gives; argparse has no public name for it


class OptionParser(argparse.ArgumentParser):
    """Takes `--a-b` for `--a_b`, raises UserError instead of exiting, and names the nearest option or value it knows.

    `argv` and `layers` ({option: value} from a run and a preset) are remembered, since option setters of the toolkit
    call `parser.parse_known_args()` without arguments to see what was chosen. An option that a model or data set
    declares again replaces the one that was there.
    """

    def __init__(self, argv: Iterable[str] = ()) -> None:
        super().__init__(add_help=False, allow_abbrev=False, conflict_handler="resolve")
        self.argv = list(argv)
        self.layers: dict[str, Any] = {}
        # argparse takes only plain numbers behind an option for values; a window or a range begins with "-1" as well.
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if args is None:
            args, namespace = self.argv, namespace or argparse.Namespace(**self.layers)
        return super().parse_known_args(self._as_declared(args), namespace)

    def _as_declared(self, words: Iterable[str]) -> list[str]:
        """`--lambda-pred=1` -> `--lambda_pred=1`, as the option was declared; everything else stays as it is."""
        declared = {canonical(s): s for s in self._option_string_actions}
        done, spelled = False, []
        for word in words:
            done = done or word == "--"
            name, equals, value = word.partition("=")
            if name.startswith("--") and not done:
                word = declared.get(canonical(name), name) + equals + value
            spelled.append(word)
        return spelled

    def error(self, message: str) -> NoReturn:
        raise UserError(message.removeprefix("argument "))

    def _get_value(self, action: argparse.Action, text: str) -> Any:
        return _converted(action, text, _name(action))

    def _check_value(self, action: argparse.Action, value: object) -> None:
        _require_choice(action, value, _name(action))

    def given(self) -> tuple[dict[str, Any], list[str]]:
        """What argv sets, as {name: value}, and the words nobody knows."""
        blank = dict.fromkeys(a.dest for a in option_actions(self))
        found, unknown = self.parse_known_args(self.argv, argparse.Namespace(**blank))
        return {k: v for k, v in vars(found).items() if v is not None}, unknown

    def defaults(self) -> dict[str, Any]:
        """{name: default}. As in argparse, a default that is text goes through the option's type."""
        actions = [a for a in option_actions(self) if a.default != argparse.SUPPRESS]
        values = {a.dest: self._get_value(a, a.default) if isinstance(a.default, str) else a.default for a in actions}
        return values | {a.dest: [] for a in actions if is_list(a) and a.default is None}

    def unknown_option(self, word: str) -> UserError:
        """The error for a word that nobody knows."""
        if not word.startswith("-"):
            return UserError(f"unexpected word {word!r}: options begin with --, and text with blanks needs quotes")
        name = word.partition("=")[0]
        return UserError(f"unknown option {name}{nearest(canonical(name), self._option_string_actions)}")


def canonical(name: str) -> str:
    """How option names are compared: `--lambda-pred` is `--lambda_pred`."""
    return "--" + name[2:].replace("-", "_") if name.startswith("--") else name


def option_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [a for a in parser._actions if a.option_strings]


def is_flag(action: argparse.Action) -> bool:
    return action.nargs == 0


def is_list(action: argparse.Action) -> bool:
    """True for an option that may be given several times."""
    return isinstance(action, argparse._AppendAction)


def as_words(action: argparse.Action, value: object) -> list[str]:
    """The words that set an option to a value: [] for a flag that is not set and for None."""
    if is_flag(action):
        return [action.option_strings[0]] if value else []
    return [f"{action.option_strings[0]}={v}" for v in (value if isinstance(value, list) else [value]) if v is not None]


def nearest(name: str, names: Iterable[str]) -> str:
    """` (did you mean X?)`, or nothing."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


# -- one value ---------------------------------------------------------------------------------------------------

def check_value(action: argparse.Action, value: Any, where: str) -> Any:
    """The value of one option from a preset, checked by the option's own type and choices.

    where: the file and key, for the message. Raises UserError.
    """
    if is_flag(action):
        _require(isinstance(value, bool), where, value, "true or false")
        return value
    if is_list(action) or action.nargs not in (None, "?"):
        _require(isinstance(value, list), where, value, "a list")
        return [_check_one(action, v, where) for v in value]
    return _check_one(action, value, where)


def _check_one(action: argparse.Action, value: object, where: str) -> Any:
    kind = _kind(action)
    if kind in (int, float):
        numeric = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
        _require(numeric, where, value, _KINDS[kind])
    elif kind is str:
        _require(isinstance(value, str), where, value, "text in quotes")
    value = _converted(action, value, where)
    if action.choices is not None:
        _require_choice(action, value, where)
    return value


_KINDS = {int: "a whole number", float: "a number"}


def _kind(action: argparse.Action) -> Any:
    return getattr(action.type, "kind", action.type) or str


def _name(action: argparse.Action) -> str:
    return next((s for s in action.option_strings if s.startswith("--")), action.option_strings[0])


def _converted(action: argparse.Action, value: Any, where: str) -> Any:
    try:
        return action.type(value) if callable(action.type) else value
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{where}: {error}") from None
    except (TypeError, ValueError):
        wanted = _KINDS.get(_kind(action), "a value that this option takes")
        raise UserError(f"{where}: {value!r} is not {wanted}") from None


def _require_choice(action: argparse.Action, value: object, where: str) -> None:
    if action.choices is None or value in action.choices:
        return
    names = [str(c) for c in action.choices]
    raise UserError(f"{where}: {value!r} is not one of {', '.join(names)}{nearest(str(value), names)}")


def _require(ok: bool, where: str, value: object, wanted: str) -> None:
    if not ok:
        raise UserError(f"{where}: {value!r} is not {wanted}")
