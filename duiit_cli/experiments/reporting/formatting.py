"""Numbers, units and metrics as the report and its tables word them."""
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

NAMES = {"mse": "mean squared error", "mae": "mean absolute error", "rmse": "root mean squared error", "bias": "bias",
         "r2": "R²", "pearson_r": "correlation", "balanced_accuracy": "balanced accuracy", "accuracy": "accuracy",
         "auroc": "area under the ROC curve"}
SHORT = {"mse": "MSE", "mae": "MAE", "rmse": "RMSE", "bias": "bias", "r2": "R²", "pearson_r": "Pearson r",
         "balanced_accuracy": "balanced accuracy", "accuracy": "accuracy", "auroc": "AUROC"}
UNITLESS = {"r2", "pearson_r", "balanced_accuracy", "accuracy", "auroc", "ssim"}
DASH = "–"
MINUS = "\N{MINUS SIGN}"


def unit_of(metric: str, settings: Mapping[str, Any]) -> str:
    """`years²` for a squared error where the settings name the label's unit; "" for what has none."""
    named = settings.get("label_unit")
    if metric == "mse":
        return f"{named}²" if named else "squared label units"
    if metric in ("mae", "rmse", "bias"):
        return named or "label units"
    return ""


def file_name(title: str) -> str:
    """`table_3_mri_ct` of `Table 3, MRI → CT`: what a table's file is called. Letters of any script stay."""
    return re.sub(r"\W+", "_", title.lower()).strip("_")


def number(value: float | None, metric: str | None = None, digits: int = 3, sign: bool = False) -> str:
    """`digits` significant digits or more, without an exponent: 0.0312, 4.56, 131, 1312; a dash for None.

    A metric without a unit (R², an accuracy) has three places behind the point.
    """
    return DASH if value is None else _written(value, _places(metric, value, digits), sign)


def mean_sd(found: Mapping[str, Any], metric: str | None = None) -> str:
    """`131 ± 24` of a summary, both to the same place."""
    mean, sd = found["mean"], found.get("sd")
    if mean is None or sd is None:
        return number(mean, metric)
    places = _places(metric, max(abs(mean), sd))
    return f"{_written(mean, places)} ± {sd:.{places}f}"


def interval(low: float | None, high: float | None, metric: str | None = None, sign: bool = False) -> str:
    """`3.1 to 59.3`, with the places that the larger end needs."""
    if low is None or high is None:
        return DASH
    places = _places(metric, max(abs(low), abs(high)))
    return f"{_written(low, places, sign)} to {_written(high, places, sign)}"


def _places(metric: str | None, value: float, digits: int = 3) -> int:
    """Places behind the point that show `digits` significant ones."""
    if metric in UNITLESS:
        return 3
    return 0 if not value else min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), 12)


def _written(value: float, places: int, sign: bool = False) -> str:
    text = f"{abs(value):.{places}f}"
    if not float(text):
        return text
    return (MINUS if value < 0 else "+" if sign else "") + text


def p_value(p: float | None) -> str:
    if p is None:
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def equals(p: float | None) -> str:
    """`p = 0.031`, `p < 0.001`."""
    return f"p {p_value(p)}" if p is not None and p < 0.001 else f"p = {p_value(p)}"


def percent(share: float) -> str:
    """`24 %`, `1.4 %`."""
    return f"{_written(100 * share, 0 if abs(share) >= 0.0995 else 1)} %"


def runs(numbers: Iterable[int]) -> str:
    """Rising whole numbers, neighbours drawn together: `0, 3–7, 9`."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][1] + 1:
            groups[-1][1] = number
        else:
            groups.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in groups)


def duration(seconds: float | None) -> str:
    """`48 s`, `12 min`, `3.4 h`."""
    if seconds is None:
        return DASH
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def per(unit: str) -> str:
    """`per patient` for by_patient."""
    return unit.replace("by_", "per ")
