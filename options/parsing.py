"""An argparse parser that never exits, and the checks one option value has to pass wherever it comes from."""
import argparse
import difflib
import math

from util.errors import UserError

_UNSET = object()


class Bounded:
    """A number type for `add_argument(type=…)` with bounds, such as `Bounded(int, low=1)`."""

    def __init__(self, kind, low=None, high=None, open_high=False):
        self.kind, self.low, self.high, self.open_high = kind, low, high, open_high
        self.__name__ = kind.__name__

    def __call__(self, text):
        try:
            value = self.kind(text)
        except (TypeError, ValueError):
            raise argparse.ArgumentTypeError(f"{text!r} is not {_a_number(self.kind)}") from None
        too_high = self.high is not None and (value >= self.high if self.open_high else value > self.high)
        if math.isnan(value) or (self.low is not None and value < self.low) or too_high:
            raise argparse.ArgumentTypeError(f"{text} is out of range, it must be {self.bounds()}")
        return value

    def bounds(self):
        parts = [f"at least {self.low}"] if self.low is not None else []
        if self.high is not None:
            parts.append(f"{'below' if self.open_high else 'at most'} {self.high}")
        return " and ".join(parts)


def _a_number(kind):
    return "a whole number" if kind is int else "a number"


COUNT = Bounded(int, low=0)
POSITIVE = Bounded(int, low=1)
WEIGHT = Bounded(float, low=0)
FRACTION = Bounded(float, low=0, high=1, open_high=True)


class OptionParser(argparse.ArgumentParser):
    """Takes `--a-b` for `--a_b`, raises UserError instead of exiting, and names the nearest option it knows.

    `argv` is remembered, since option setters of the toolkit call `parser.parse_known_args()` without arguments.
    """

    def __init__(self, argv=()):
        super().__init__(add_help=False, allow_abbrev=False)
        self.argv = normalise(argv)

    def parse_known_args(self, args=None, namespace=None):
        return super().parse_known_args(self.argv if args is None else args, namespace)

    def error(self, message):
        raise UserError(message.removeprefix("argument "))

    def given(self):
        """What argv sets, as {name: value}, and the words nobody knows."""
        blank = {a.dest: None if is_list(a) else _UNSET for a in option_actions(self)}
        found, unknown = self.parse_known_args(self.argv, argparse.Namespace(**blank))
        return {k: v for k, v in vars(found).items() if v is not _UNSET and v is not None}, unknown


def normalise(argv):
    """`--lambda-pred=1` -> `--lambda_pred=1`; values and everything behind a bare `--` stay as they are."""
    done, words = False, []
    for word in argv:
        done = done or word == "--"
        if word.startswith("--") and not done:
            name, equals, value = word.partition("=")
            word = "--" + name[2:].replace("-", "_") + equals + value
        words.append(word)
    return words


def option_actions(parser):
    return [a for a in parser._actions if a.option_strings]


def is_flag(action):
    return action.nargs == 0


def is_list(action):
    return isinstance(action, argparse._AppendAction)


def nearest(name, names):
    """` (did you mean X?)`, or nothing."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def check_value(action, value, where):
    """The value of one option from a preset or a run file, checked by the option's own type and choices.

    where: the file and key, for the message. Raises UserError.
    """
    if is_flag(action):
        _require(isinstance(value, bool), where, value, "true or false")
        return value
    if is_list(action):
        _require(isinstance(value, list), where, value, "a list")
        return [_check_one(action, v, where) for v in value]
    return _check_one(action, value, where)


def _check_one(action, value, where):
    kind = getattr(action.type, "kind", action.type)
    if kind in (int, float):
        numeric = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
        _require(numeric, where, value, _a_number(kind))
    elif kind in (str, None):
        _require(isinstance(value, str), where, value, "text in quotes")
    try:
        value = action.type(value) if action.type else value
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{where}: {error}") from None
    if action.choices is not None and value not in action.choices:
        names = ", ".join(map(str, action.choices))
        raise UserError(f"{where}: {value!r} is not one of {names}{nearest(str(value), map(str, action.choices))}")
    return value


def _require(ok, where, value, wanted):
    if not ok:
        raise UserError(f"{where}: {value!r} is not {wanted}")
