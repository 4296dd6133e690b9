"""Line charts as inline SVG, for pages that must open anywhere without a script or a request.

Each curve gets a panel of its own (losses differ by factors of a thousand), all of them over the same x axis. Colours
come from the page's CSS, so the charts follow its light or dark theme.
"""
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT = 300, 170
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 24, 22
MAX_POINTS = 150  # more cannot be told apart in a panel; longer histories are averaged, with their range as a band
LOG_RATIO = 30.0  # a positive curve that spans more than this is drawn on a logarithmic axis

CSS = """
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,280px),1fr));gap:12px}
.panel{width:100%;height:auto;background:var(--card);border:1px solid var(--line);border-radius:8px}
.panel text{fill:var(--muted);font-size:10.5px}.panel .name{fill:var(--text);font-size:12.5px;font-weight:600}
.panel .grid{stroke:var(--line);stroke-width:1}.panel .axis{fill:none;stroke:var(--muted);stroke-width:1}
.panel .mean,.legend .mean{fill:none;stroke:var(--accent);stroke-width:1.6;stroke-linejoin:round}
.panel .dot{fill:var(--accent)}.panel .band,.legend .band{fill:var(--accent);opacity:.18}
.legend{color:var(--muted);font-size:13px;margin:0 0 10px}.legend svg{vertical-align:middle;margin:0 4px 0 0}
"""


def panels(
    x: Sequence[float], curves: Mapping[str, Sequence[float]], x_label: str, x_ticks: Sequence[tuple[float, str]] = ()
) -> str:
    """One panel a curve, with a legend above. Values that are not finite are left out of the line and counted.

    `x_ticks` are (position, text); without them the positions are labelled by their own values.
    """
    x = np.asarray(x, dtype=float)
    drawn = [_panel(name, x, np.asarray(values, dtype=float), x_label, x_ticks) for name, values in curves.items()]
    averaged = len(x) > MAX_POINTS
    legend = '<svg width="26" height="12"><path class="mean" d="M1 6H25"/></svg>'
    legend += "mean of neighbouring log entries &emsp;" if averaged else "value at each log entry"
    if averaged:
        legend += '<svg width="26" height="12"><rect class="band" width="26" height="12"/></svg>lowest to highest'
    return f'<p class="legend">{legend}</p><div class="panels">{"".join(drawn)}</div>'


def _panel(name: str, x: np.ndarray, y: np.ndarray, x_label: str, x_ticks: Sequence[tuple[float, str]]) -> str:
    finite = np.abs(y) < 1e100  # false for NaN too; what is larger has diverged as well
    missing = int((~finite).sum())
    title = f"{name} ({missing} values not finite)" if missing else name
    body = [f'<text class="name" x="{LEFT}" y="15">{escape(title)}</text>']
    if finite.any():
        low_x = float(x.min())
        high_x = max(float(x.max()), low_x + 1e-9) if len(x) > 1 else low_x + 1.0
        points = _averaged(x[finite], y[finite])  # columns: x, mean, lowest, highest
        axis = _Axis(points[:, 1:])
        to_x = lambda v: LEFT + (v - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT)  # noqa: E731
        last = f"last {_short(y[finite][-1])}" + (", log axis" if axis.logarithmic else "")
        body.append(f'<text x="{WIDTH - RIGHT}" y="15" text-anchor="end">{last}</text>')
        body += _frame(axis, to_x, low_x, high_x, x_label, x_ticks)
        body += _curve(points, axis, to_x)
    frame = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"'
    return f'<svg class="panel" {frame}>{"".join(body)}</svg>'


def _averaged(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(points, 4): x, mean, lowest and highest of at most MAX_POINTS runs of neighbouring values."""
    starts = np.unique(np.linspace(0, len(x), min(len(x), MAX_POINTS), endpoint=False).astype(int))
    counts = np.diff(np.append(starts, len(x)))
    mean = lambda values: np.add.reduceat(values, starts) / counts  # noqa: E731
    return np.stack([mean(x), mean(y), np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)], axis=1)


class _Axis:
    """The y axis: its range, its scale and where its ticks are."""

    def __init__(self, values: np.ndarray) -> None:
        low, high = float(values.min()), float(values.max())
        self.logarithmic = low > 0 and high / low > LOG_RATIO
        if self.logarithmic:
            low, high = math.log10(low), math.log10(high)
        elif 0 < low < 0.6 * high:
            low = 0.0  # losses are read against zero where that costs little room
        span = high - low
        if span <= 1e-6 * max(abs(low), abs(high)):  # constant, but for the rounding of the averages
            span = 2.5 * abs(high) or 25.0
        pad = 0.04 * span
        self.low, self.high = (low if low == 0 else low - pad), high + pad

    def __call__(self, value: float) -> float:
        value = math.log10(value) if self.logarithmic else value
        return TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)

    def ticks(self) -> list[float]:
        if not self.logarithmic:
            return nice_ticks(self.low, self.high, 4)
        steps = (1, 2, 5) if self.high - self.low < 2 else (1,)
        decades = range(max(math.floor(self.low), -300), min(math.floor(self.high), 100) + 1)
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if self.low <= math.log10(tick) <= self.high]
        return ticks[:: math.ceil(len(ticks) / 6)] if len(ticks) > 6 else ticks


def nice_ticks(low: float, high: float, wanted: int) -> list[float]:
    """About `wanted` round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.8)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _frame(axis: _Axis, to_x: Callable[[float], float], low_x: float, high_x: float, x_label: str,
           x_ticks: Sequence[tuple[float, str]]) -> list[str]:
    bottom = HEIGHT - BOTTOM
    parts = []
    for tick in axis.ticks():
        y = axis(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{_short(tick)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}"/>')
    label_from = WIDTH - RIGHT - 6.0 * len(x_label)  # the axis's name stands at its end; ticks keep clear of it
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 7}" text-anchor="end">{escape(x_label)}</text>')
    for value, text in x_ticks or [(tick, _short(tick)) for tick in nice_ticks(low_x, high_x, 4)]:
        if low_x <= value <= high_x and to_x(value) < label_from - 14:
            parts.append(f'<path class="axis" d="M{to_x(value):.1f} {bottom}v3"/>')
            parts.append(f'<text x="{to_x(value):.1f}" y="{HEIGHT - 7}" text-anchor="middle">{escape(text)}</text>')
    return parts


def _curve(points: np.ndarray, axis: _Axis, to_x: Callable[[float], float]) -> list[str]:
    if len(points) == 1:
        return [f'<circle class="dot" cx="{to_x(points[0, 0]):.1f}" cy="{axis(points[0, 1]):.1f}" r="2.5"/>']
    line = lambda column, rows: " ".join(f"{to_x(row[0]):.1f} {axis(row[column]):.1f}" for row in rows)  # noqa: E731
    parts = [f'<path class="mean" d="M{line(1, points)}"/>']
    if (points[:, 3] > points[:, 2]).any():
        parts.insert(0, f'<path class="band" d="M{line(3, points)} L{line(2, points[::-1])}Z"/>')
    return parts


def _short(value: float) -> str:
    """A number in at most six letters: 0.25, 1500, 20k, 3e-05."""
    if value and abs(value) >= 10_000:
        return f"{value / 1000:.4g}k" if abs(value) < 1e7 else f"{value:.0e}"
    return f"{value:.4g}" if value == 0 or abs(value) >= 0.001 else f"{value:.0e}"
