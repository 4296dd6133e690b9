"""Which slices of a volume take part: `--slices all`, `0.3-0.8` (fractions from foot to head) or `every:N`."""
import re
from collections.abc import Sequence
from typing import TypeVar

from duiit.util.errors import UserError

Item = TypeVar("Item")


def slice_indices(count: int, spec: str | None = "all") -> list[int]:
    """The positions, out of `count` slices in order, that `spec` chooses; at least one where there are any.

    Raises UserError for a `spec` that is none of `all`, `LOW-HIGH` with 0 <= LOW < HIGH <= 1, `every:N` with N >= 1.
    """
    spec = (spec or "all").strip().lower()
    if spec == "all":
        return list(range(count))
    if match := re.fullmatch(r"every:(\d+)", spec):
        step = int(match[1])
        if step >= 1:
            return list(range(0, count, step))
    if match := re.fullmatch(r"(\d*\.?\d+)-(\d*\.?\d+)", spec):
        low, high = float(match[1]), float(match[2])
        if 0 <= low < high <= 1:
            # A slice stands for the interval around its middle, so that 0-0.5 and 0.5-1 share nothing.
            chosen = [i for i in range(count) if low <= (i + 0.5) / count < high or (high == 1 and i == count - 1)]
            return chosen or [min(int((low + high) / 2 * count), count - 1)][:count]
    raise UserError(f"--slices {spec}: give 'all', a range of fractions from foot to head such as 0.3-0.8, or every:N")


def select_slices(slices: Sequence[Item], spec: str | None = "all") -> list[Item]:
    """The slices (or files) of one scan, in order, that `spec` chooses. Raises UserError as `slice_indices`."""
    return [slices[i] for i in slice_indices(len(slices), spec)]
