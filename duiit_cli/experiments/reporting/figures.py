"""The report's figures: inline SVG for the page, whose light or dark theme text and axes follow, and files on white.

Matplotlib takes over a second to import, so it is imported when the first figure is drawn.
"""
from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from duiit.util.files import atomic_path
from duiit_cli.experiments.reporting import formatting
from duiit_cli.experiments.reporting.comparison import Comparison
from duiit_cli.experiments.reporting.results import FLOOR, Experiment

# Right on white paper; in the page each becomes a variable of its style. No other colour may be one of these.
if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

_TEXT, _MUTED, _LINE = "#1c2431", "#5b6677", "#dfe3e9"
_VARIABLES = {_TEXT: "var(--text)", _MUTED: "var(--muted)", _LINE: "var(--line)"}
# Of middling lightness, to be seen on white and on black; told apart by the colour-blind too (after Okabe and Ito).
_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#2f83d6", "#d9822b", "#1f9e77", "#d0504a", "#8793a3"
_COLOURS = {"duiit": _BLUE, "cyclegan": _ORANGE, "oracle": _GREEN}
Group = tuple[str, np.ndarray, np.ndarray]     # title, labels, predictions
_FONT = 10              # in the figure's own points
_ZOOM = 1.3             # how much larger a figure is shown: text of 13 pixels
_MANY = 4000            # so many points are one picture instead of one shape each: a page of megabytes opens slowly


@dataclass(frozen=True)
class Picture:
    """A figure. name: of its files; description: for who cannot see it; svg: the element for the page."""
    name: str
    description: str
    svg: str
    drawing: Figure

    def save(self, folder: str | PathLike[str]) -> list[str]:
        """Writes <name>.svg and <name>.pdf, on white; returns their names. Equal figures give equal files."""
        from matplotlib import rc_context
        from matplotlib.text import Text

        self.drawing.patch.set(facecolor="white", alpha=1)
        if self.svg:
            self.drawing.set_layout_engine("none")      # it stays as it was laid out for the page
        names = [f"{self.name}.{kind}" for kind in ("svg", "pdf")]
        for text in (artist for artist in self.drawing.findobj() if isinstance(artist, Text)):
            text.set_parse_math(False)              # a name with two $ is no formula
        with rc_context({"svg.hashsalt": self.description, "pdf.fonttype": 42}):      # journals refuse type 3
            for name in names:
                undated = {"Date": None} if name.endswith("svg") else {"CreationDate": None}
                with atomic_path(Path(folder) / name, durable=False) as path:
                    self.drawing.savefig(path, bbox_inches="tight", pad_inches=0.05, dpi=200, metadata=undated)
        return names


def errors_over_splits(experiment: Experiment, unit: str) -> Picture:
    """A row a method: its error on each split, their mean, and the floor as a line."""
    metric, settings = experiment.metric, experiment.settings
    rows = [(m, list(experiment.values(m.name, unit, metric).values())) for m in experiment.methods.values()]
    rows = [(m, values) for m, values in rows if values]
    figure, axes = _new(8.2, 0.32 * len(rows) + 0.75)
    for y, (method, values) in enumerate(rows):
        colour = _COLOURS.get(method.role, _GREY)
        axes.scatter(values, [y] * len(values), s=24, color=colour, alpha=0.5, linewidths=0, zorder=3)
        axes.vlines(np.mean(values), y - 0.33, y + 0.33, color=colour, linewidth=2.6, zorder=4)
        _note(axes, y, formatting.number(float(np.mean(values)), metric))
    floor = list(experiment.values(FLOOR, unit, metric).values())
    if floor:
        axes.axvline(float(np.mean(floor)), color=_TEXT, linewidth=1.1, linestyle=(0, (4, 3)), zorder=2)
        right = np.mean(floor) > np.mean(axes.get_xlim())       # the label stays clear of the column beside the axes
        axes.annotate(experiment.floor.title.lower(), (np.mean(floor), 1), xycoords=("data", "axes fraction"),
                      xytext=(3 if right else -3, 4), textcoords="offset points", ha="right" if right else "left",
                      va="bottom", color=_TEXT, fontsize=9)
    _rows(axes, [m.title for m, _ in rows])
    axes.set_xlabel(_axis_name(metric, unit, settings))
    _note(axes, -0.85, "mean", _MUTED)
    title = f"{formatting.NAMES[metric]} of each method on each split, {formatting.per(unit)}"
    return _picture(figure, "errors", title)


def paired_differences(experiment: Experiment, compared: Sequence[Comparison], unit: str) -> Picture:
    """A row an other method: the differences on each split, their mean and its corrected 95 % interval."""
    method = experiment.methods[compared[0].method]
    rows = [c for c in compared if c.differences]
    figure, axes = _new(8.2, 0.32 * len(rows) + 0.75)
    axes.axvline(0, color=_TEXT, linewidth=1.1, zorder=2)
    for y, found in enumerate(rows):
        colour = _BLUE if found.better else _RED if found.worse else _GREY
        axes.scatter(found.differences, [y + 0.24] * len(found.differences), s=13, color=colour, alpha=0.5,
                     linewidths=0, zorder=3)
        test = found.corrected
        if test.low is not None and test.high is not None:
            axes.hlines(y, test.low, test.high, color=colour, linewidth=2.2, zorder=4)
        axes.plot([test.difference or 0], [y], marker="D", markersize=5.5, color=colour, zorder=5)
        _note(axes, y, formatting.p_value(test.p))
    _rows(axes, [experiment.method(c.other).title for c in rows])
    axes.set_xlabel(f"{_axis_name(experiment.metric, unit, experiment.settings)}: {method.title} minus the other")
    _note(axes, -0.85, "p", _MUTED)
    return _picture(figure, f"differences_{method.name}", f"{method.title} minus each other method, split by split")


def predicted_against_true(groups: Sequence[Group], settings: Mapping[str, Any]) -> Picture:
    """groups: [(title, labels (N,), predictions (N,))], a panel each; a point is a test patient of a split."""
    points = sum(len(labels) for _, labels, _ in groups)
    ends = np.concatenate([values for _, *pair in groups for values in pair])
    low, high = float(ends.min()), float(ends.max())
    pad = 0.04 * (high - low) or 1.0
    figure, panels = _panels(len(groups))
    for axes, (title, labels, predictions) in zip(panels, groups, strict=True):
        axes.plot([low, high], [low, high], color=_MUTED, linewidth=1, zorder=2)
        axes.scatter(labels, predictions, s=11 if points > 500 else 22, color=_BLUE, alpha=0.45, linewidths=0, zorder=3,
                     rasterized=points > _MANY)
        axes.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad), aspect="equal")
        axes.set_title(textwrap.fill(title, 27), fontsize=_FONT, color=_TEXT)
        axes.grid(color=_LINE, linewidth=0.8)
        axes.locator_params(nbins=5)
    unit = settings.get("label_unit") or "label units"
    figure.supxlabel(f"true label ({unit})", fontsize=_FONT, color=_MUTED)
    figure.supylabel(f"predicted ({unit})", fontsize=_FONT, color=_MUTED)
    return _picture(figure, "predictions", "predicted against true labels of the test patients of all splits")


def confusion(groups: Sequence[Group]) -> Picture:
    """groups: [(title, true classes (N,), predicted classes (N,))], a panel each: images, summed over the splits."""
    classes = sorted({str(name) for _, *pair in groups for values in pair for name in values})
    figure, panels = _panels(len(groups), max(2.4, 0.55 * len(classes) + 1))
    for axes, (title, labels, predictions) in zip(panels, groups, strict=True):
        counts = np.array([[sum((labels == true) & (predictions == said)) for said in classes] for true in classes])
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        for (y, x), share in np.ndenumerate(shares):
            axes.add_patch(_square(x, y, share))
            axes.text(x, y, f"{share:.0%}\n{counts[y, x]}", ha="center", va="center", fontsize=9, color=_TEXT)
        axes.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5), aspect="equal")
        axes.set_xticks(range(len(classes)), classes)
        axes.set_yticks(range(len(classes)), classes)
        axes.set_title(textwrap.fill(title, 27), fontsize=_FONT, color=_TEXT)
    figure.supxlabel("predicted class", fontsize=_FONT, color=_MUTED)
    figure.supylabel("true class", fontsize=_FONT, color=_MUTED)
    return _picture(figure, "confusion", "which classes were taken for which, on the test images of all splits")


def examples(name: str, header: Sequence[str],
             rows: Sequence[tuple[str, str, Sequence[Path | None]]]) -> Picture | None:
    """Images side by side, for files only: the page embeds the images themselves. header, rows: as page.examples has
    them. None where no image can be read."""
    found = [(f"{title}\n{subtitle}", [None if p is None else _image(p) for p in paths])
             for title, subtitle, paths in rows]
    if all(image is None for _, images in found for image in images):
        return None
    figure, panels = _grid(len(found), len(header) - 1, 1.5)
    for axes, (row, column) in zip(panels, np.ndindex(len(found), len(header) - 1), strict=True):
        image = found[row][1][column]
        axes.set(xticks=[], yticks=[], frame_on=False)
        if image is not None:
            axes.imshow(image, cmap="gray")
        if row == 0:
            axes.set_title(textwrap.fill(header[column + 1], 20), fontsize=9, color=_TEXT)
        if column == 0:
            axes.set_ylabel(textwrap.fill(found[row][0], 24), fontsize=6, color=_TEXT)
    return Picture(name, name.replace("_", " "), "", figure)


def _image(path: Path) -> np.ndarray | None:
    """Pixels of a PNG, or None: the page shows as much as there is."""
    from matplotlib.image import imread

    try:
        return imread(path)
    except (OSError, SyntaxError, ValueError):      # missing; no PNG; damaged
        return None


# -- the common part ---------------------------------------------------------------------------------------------

def _new(width: float, height: float) -> tuple[Figure, Axes]:
    """One set of axes, (inches, inches), styled."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    _style(axes)
    axes.grid(axis="x", color=_LINE, linewidth=0.8)
    return figure, axes


def _panels(count: int, side: float = 2.4) -> tuple[Figure, list[Axes]]:
    """`count` square panels, up to five in a row."""
    columns = min(count, 5)
    figure, panels = _grid(math.ceil(count / columns), columns, side)
    for axes in panels[count:]:
        axes.remove()
    for axes in panels[:count]:
        _style(axes)
    return figure, panels[:count]


def _grid(rows: int, columns: int, side: float) -> tuple[Figure, list[Axes]]:
    """(figure, its axes row by row), each about `side` inches wide and high."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(side * columns + 0.4, (side + 0.35) * rows + 0.3), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _style(axes: Axes) -> None:
    axes.patch.set_alpha(0)
    axes.figure.patch.set_alpha(0)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_LINE)
    axes.tick_params(colors=_MUTED, labelcolor=_MUTED, labelsize=_FONT - 0.5, length=3)
    axes.xaxis.label.set_color(_MUTED)
    axes.xaxis.label.set_fontsize(_FONT)


def _rows(axes: Axes, titles: Sequence[str]) -> None:
    """Titles down the left side, the first on top."""
    axes.set_yticks(range(len(titles)), titles, color=_TEXT)
    axes.set_ylim(len(titles) - 0.5, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _note(axes: Axes, y: float, text: str, colour: str = _TEXT) -> None:
    """Text in the right margin, beside a row."""
    axes.annotate(text, (1, y), xycoords=("axes fraction", "data"), xytext=(8, 0), textcoords="offset points",
                  va="center", color=colour, fontsize=_FONT - 0.5, annotation_clip=False)


def _square(x: float, y: float, share: float) -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=_BLUE, alpha=0.75 * float(share), linewidth=0)


def _axis_name(metric: str, unit: str, settings: Mapping[str, Any]) -> str:
    named = formatting.unit_of(metric, settings)
    return f"{formatting.NAMES[metric]} {formatting.per(unit)}" + (f" ({named})" if named else "")


def _picture(figure: Figure, name: str, description: str) -> Picture:
    return Picture(name, description, _svg(figure, description), figure)


def _svg(figure: Figure, description: str) -> str:
    """The figure as an <svg> element that shrinks with the window, with the page's font and colours."""
    from io import StringIO

    from matplotlib import rc_context

    # Text stays text (to be searched, read aloud and shown in the page's font); equal figures give equal files.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": description}), StringIO() as file:
        figure.savefig(file, format="svg", bbox_inches="tight", pad_inches=0.05, dpi=150,
                       metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        text = file.getvalue()
    text = text[text.index("<svg"):]
    box = re.search(r'viewBox="0 0 ([\d.]+)[^"]*"', text)
    if box is None:
        raise ValueError("matplotlib wrote an SVG without a viewBox")
    width = float(box[1]) * _ZOOM
    head = f'<svg {box[0]} role="img" aria-label="{escape(description)}" style="width:100%;max-width:{width:.0f}px">'
    text = head + text[text.index(">") + 1:]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL).replace("xlink:href", "href")
    text = re.sub(r'(font-family: |font: (?:\w+ )*[\d.]+px )[^;"]*', r"\1system-ui, sans-serif", text)
    text = re.sub(r'<g id="[^"]*"', "<g", text)             # the same in every figure, and nothing refers to them
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, variable)
    return text
