"""Types of options that are numbers within bounds, for argparse: `type=WEIGHT`."""
import argparse
import math


class Bounded:
    """A number type for `add_argument(type=…)` with bounds, such as `Bounded(int, low=1)`."""

    def __init__(self, kind: type[int] | type[float], low: float | None = None, high: float | None = None,
                 open_high: bool = False) -> None:
        self.kind, self.low, self.high, self.open_high = kind, low, high, open_high
        self.__name__ = kind.__name__

    def __call__(self, text: str | float) -> float:
        value = self.kind(text)
        too_high = self.high is not None and (value >= self.high if self.open_high else value > self.high)
        if math.isnan(value) or (self.low is not None and value < self.low) or too_high:
            raise argparse.ArgumentTypeError(f"{text} is out of range, it must be {self.bounds()}")
        return value

    def bounds(self) -> str:
        parts = [f"at least {self.low}"] if self.low is not None else []
        if self.high is not None:
            parts.append(f"{'below' if self.open_high else 'at most'} {self.high}")
        return " and ".join(parts)


COUNT = Bounded(int, low=0)
SEED = Bounded(int, low=0, high=2**32 - 1)         # what NumPy takes
POSITIVE = Bounded(int, low=1)
WEIGHT = Bounded(float, low=0)
SHARE = Bounded(float, low=0, high=1)
FRACTION = Bounded(float, low=0, high=1, open_high=True)
