"""How a training run is watched: loss_log.txt and .csv, the page web/index.html, and a visdom server if there is one.

The training loop hands over images and losses; nothing in here changes a run, slows it as it goes on, or ends it.
Call signatures are those of the upstream toolkit, of both its generations.
"""
import csv
import logging
import math
import re
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from duiit.util import chart, run_status
from duiit.util.errors import UserError
from duiit.util.files import natural_key, write_csv, write_text
from duiit.util.html import HTML, figures
from duiit.util.progress import is_training_shown
from duiit.util.util import save_image, tensor2im
from duiit.util.visdom_link import VisdomLink

logger = logging.getLogger(__name__)

EPOCHS_A_PAGE = 50
REFRESH_SECONDS = 30
CURVE_POINTS = 1000  # a visdom plot is sent whole, so that a restarted server has all of it: keep it short


def save_images(webpage: HTML, visuals: Mapping[str, Any], image_path: Sequence[str], aspect_ratio: float = 1.0,
                width: int = 256, name: str | None = None, index: int = 0) -> None:
    """Write the images of one input under a heading of a results page, as `<stem>_<label>.png`.

    `image_path` is the list of the batch's input paths, of which the one at `index` is shown. `name` is the stem to
    use, possibly with sub-folders (`patient 7/slice_3`), so that equal stems of different folders do not collide.
    """
    stem = webpage.free_stem(str(name).replace("\\", "/") if name else _stem(str(image_path[index])))
    webpage.add_header(stem)
    files = []
    for label, tensor in visuals.items():
        files.append(f"{stem}_{_file_part(label)}.png")
        image = tensor2im(tensor[index] if getattr(tensor, "ndim", 0) == 4 else tensor)
        save_image(image, Path(webpage.get_image_dir()) / files[-1], aspect_ratio=aspect_ratio)
    webpage.add_images(files, list(visuals), files, width=width)


class Visualizer:
    """One for a run. `opt` is the training options; whatever it leaves out is off."""

    def __init__(self, opt: Namespace) -> None:
        self.opt = opt
        self.name = opt.name
        self.saved = False  # whether this epoch's images are on the page
        is_train = getattr(opt, "isTrain", True)
        resumed = bool(getattr(opt, "continue_train", False))
        run = Path(opt.checkpoints_dir) / opt.name
        try:
            run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"the run's folder {run} cannot be made (--checkpoints_dir): {error.strerror}") from error
        self.use_html = is_train and not getattr(opt, "no_html", False)
        self.web_dir = run / "web"
        self.img_dir = self.web_dir / "images"
        self.log_name = run / "loss_log.txt"
        self._log = LossLog(run, resumed)
        if is_train:
            self._log.begin()
        status = run_status.page_line(opt) if self.use_html else ""
        self._page = EpochPage(self.web_dir, self._title(), resumed, status) if self.use_html else None
        self._curve: list[tuple[float, dict[str, float]]] = []
        self._x_label = "epoch"
        self._visdom = None
        if getattr(opt, "display_id", 0) > 0:
            server = getattr(opt, "display_server", "http://localhost")
            port = getattr(opt, "display_port", 8097)
            self._visdom = VisdomLink(server, port, getattr(opt, "display_env", "main"))

    def reset(self) -> None:
        """Say that an epoch begins: its first images go onto the page whatever the frequency."""
        self.saved = False

    def display_current_results(self, visuals: Mapping[str, Any], epoch: int, *args: Any,
                                save_result: bool | None = None, total_iters: int | None = None) -> None:
        """Show images: `(visuals, epoch, save_result)` or `(visuals, epoch, total_iters, save_result)`."""
        if args and save_result is None:
            save_result = args[-1]
        if self._visdom is not None:
            self._visdom.draw(lambda visdom: self._draw_images(visdom, visuals, epoch))
        if self._page is not None and (save_result or not self.saved):
            self.saved = True
            self._update_page(REFRESH_SECONDS, epoch, visuals)

    def plot_current_losses(self, *args: Any, losses: Mapping[str, float] | None = None) -> None:
        """Plot losses in visdom: `(epoch, counter_ratio, losses)` or `(total_iters, losses)`."""
        *position, losses = args if losses is None else (*args, losses)
        if self._visdom is None:
            return
        self._x_label = "epoch" if len(position) > 1 else "step"
        self._curve.append((float(sum(position)), dict(losses)))
        if len(self._curve) > CURVE_POINTS:
            self._curve = self._curve[::2]
        self._visdom.draw(self._draw_losses)

    def print_current_losses(self, epoch: int, iters: int, losses: Mapping[str, float], t_comp: float, t_data: float,
                             step: int | None = None) -> None:
        """Append losses to the logs; on the screen too, unless a progress bar shows them there.

        `iters` counts within the epoch and `step` since the run began; left out, it is reckoned from what was logged.
        """
        line = self._log.add(epoch, iters, losses, t_comp, t_data, step)
        logger.log(logging.DEBUG if is_training_shown() else logging.INFO, "%s", line)

    def logged(self) -> int:
        """How many entries the logs hold."""
        return len(self._log.rows)

    def rewind(self, entries: int) -> None:
        """Take back what was logged after the first `entries`: the run goes on from there."""
        self._log.rewind(entries)

    def close(self) -> None:
        """At the run's end: bring the page up to date and let browsers stop loading it again."""
        self._update_page(refresh=0)

    def _update_page(self, refresh: int, epoch: int = 0, visuals: Mapping[str, Any] | None = None) -> None:
        if self._page is None:
            return
        try:
            if visuals is not None:
                self._page.show(epoch, visuals)
            self._page.write(self._log.charts(), refresh)
        except (UserError, OSError) as error:  # a full disk: what must not be lost says so when it is written
            logger.warning("the page in %s was not brought up to date: %s", self.web_dir, error)

    def _title(self) -> str:
        model = getattr(self.opt, "model", "")
        return f"{self.name} ({model})" if model else self.name

    def _draw_images(self, visdom: Any, visuals: Mapping[str, Any], epoch: int) -> None:
        images = [tensor2im(tensor).transpose(2, 0, 1) for tensor in visuals.values()]  # each (3, H, W)
        height, width = max(i.shape[1] for i in images), max(i.shape[2] for i in images)
        grid = np.zeros((len(images), 3, height, width), dtype=np.uint8)
        for cell, image in zip(grid, images, strict=True):
            cell[:, : image.shape[1], : image.shape[2]] = image
        columns = max(1, min(getattr(self.opt, "display_ncols", 4) or len(images), len(images)))
        labels = list(visuals)
        rows = [" | ".join(labels[i : i + columns]) for i in range(0, len(labels), columns)]
        opts: dict[str, Any] = {"title": f"{self.name}, epoch {epoch}", "caption": " / ".join(rows)}
        opts["width"] = columns * getattr(self.opt, "display_winsize", 256)
        visdom.images(grid, nrow=columns, win=self._window("images"), opts=opts)

    def _draw_losses(self, visdom: Any) -> None:
        names = list(dict.fromkeys(name for _, losses in self._curve for name in losses))
        x = np.array([position for position, _ in self._curve])
        y = np.array([[losses.get(name, math.nan) for name in names] for _, losses in self._curve])
        y[~np.isfinite(y)] = np.nan  # which visdom sends as a gap; an infinity would break the plot
        opts = {"title": f"{self.name}, losses", "legend": names, "xlabel": self._x_label, "ylabel": "loss"}
        visdom.line(Y=y, X=np.stack([x] * len(names), axis=1), win=self._window("losses"), opts=opts)

    def _window(self, what: str) -> str:
        # The run's name is in it: two runs on one server keep out of each other's windows.
        return f"{self.name}_{self.opt.display_id}_{what}"


class LossLog:
    """loss_log.txt in upstream's format, for people and their scripts, and loss_log.csv with the same numbers."""

    COLUMNS = ("step", "epoch", "iters")

    def __init__(self, run: Path, resumed: bool) -> None:
        self.text_path = run / "loss_log.txt"
        self.csv_path = run / "loss_log.csv"
        self.rows: list[dict[str, float]] = self._read() if resumed else []
        self._header: list[str] | None = None  # what the CSV's first line holds, once this run has written it
        self._complained = False

    def begin(self) -> None:
        """Mark in the text, which is never begun anew, where this start's entries begin."""
        self._append(self.text_path, f"================ Training Loss ({time.strftime('%c')}) ================\n")

    def rewind(self, entries: int) -> None:
        """Keep the first `entries` and forget the rest, in both files."""
        self.rows = self.rows[:entries]
        if self.rows:
            self._write_row()
        else:
            self.csv_path.unlink(missing_ok=True)
        kept, seen = [], 0
        for line in self._text():
            seen += line.startswith("(epoch:")
            if seen <= entries or line.startswith("="):
                kept.append(line)
        write_text(self.text_path, "".join(kept))

    def _text(self) -> list[str]:
        """The text's lines, without one that was cut off."""
        if not self.text_path.is_file():
            return []
        lines = self.text_path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]

    def add(self, epoch: int, iters: int, losses: Mapping[str, float], t_comp: float, t_data: float,
            step: float | None = None) -> str:
        """Log one entry; returns the line."""
        line = f"(epoch: {epoch}, iters: {iters}, time: {t_comp:.3f}, data: {t_data:.3f}) "
        line += "".join(f"{name}: {value:.3f} " for name, value in losses.items())
        self._append(self.text_path, line + "\n")
        if self._header is None:  # a run that starts again says anew what its last attempt said from here on
            self.rows = [row for row in self.rows if (row["epoch"], row["iters"]) < (epoch, iters)]
        step = self._reckon(epoch, iters) if step is None else step
        self.rows.append({"step": step, "epoch": epoch, "iters": iters, **{k: float(v) for k, v in losses.items()}})
        self._write_row()
        return line

    def charts(self) -> str:
        """The losses so far as small charts, one a loss, over the epochs."""
        if not self.rows:
            return ""
        names = self._names()
        curves = {name: [row.get(name, math.nan) for row in self.rows] for name in names}
        steps = [row["step"] for row in self.rows]
        starts: dict[int, float] = {}
        for row in self.rows:
            starts.setdefault(int(row["epoch"]), row["step"])
        if len(starts) < 3:
            return chart.panels(steps, curves, "step")
        wanted = {int(tick) for tick in chart.nice_ticks(min(starts), max(starts), 5)}
        ticks = [(step, str(epoch)) for epoch, step in starts.items() if epoch in wanted]
        return chart.panels(steps, curves, "epoch", ticks)

    def _names(self) -> list[str]:
        return [name for name in dict.fromkeys(name for row in self.rows for name in row) if name not in self.COLUMNS]

    def _reckon(self, epoch: int, iters: int) -> float:
        if not self.rows:
            return iters
        last = self.rows[-1]
        return last["step"] + (iters - last["iters"] if last["epoch"] == epoch else iters)

    def _write_row(self) -> None:
        row = self.rows[-1]
        if self._header is None or not row.keys() <= set(self._header):  # the first entry, or a loss that is new
            self._header = [*self.COLUMNS, *self._names()]
            try:
                write_csv(self.csv_path, self.rows, self._header)
            except UserError as error:
                self._complain(error)
                self._header = None
        else:
            if not self._append(self.csv_path, ",".join(str(row.get(name, "")) for name in self._header) + "\n"):
                self._header = None  # the line may be cut off: the next one comes with the whole table

    def _append(self, path: Path, text: str) -> bool:
        try:
            with open(path, "a", encoding="utf-8", newline="\n") as file:
                file.write(text)
        except OSError as error:
            self._complain(f"{path} could not be written ({error.strerror})")
            return False
        return True

    def _complain(self, what: object) -> None:
        if not self._complained:  # a log is no reason to lose a run; the next checkpoint says if the disk is full
            logger.warning("%s; the run goes on", what)
        self._complained = True

    def _read(self) -> list[dict[str, float]]:
        if not self.csv_path.is_file():
            return []
        with open(self.csv_path, encoding="utf-8", newline="") as file:
            try:
                rows = [{k: int(float(v)) if k in self.COLUMNS else float(v) for k, v in row.items() if k and v}
                        for row in csv.DictReader(file)]
            except ValueError:
                logger.warning("%s is not readable as a loss table; the charts begin anew", self.csv_path)
                return []
        return [row for row in rows if row.keys() >= set(self.COLUMNS)]


class EpochPage:
    """web/index.html: the loss charts and the images of the latest epochs, newest first; older ones have other pages.

    What an epoch looks like is rendered once, so a page costs the same in epoch 1000 as in epoch 1.
    """

    def __init__(self, web_dir: Path, title: str, resumed: bool, status: str = "") -> None:
        self.web_dir, self.title, self.status = web_dir, title, status
        self._sections: dict[int, str] = {}
        (web_dir / "images").mkdir(parents=True, exist_ok=True)
        # A new run under an old name does not show the old run's epochs as its own.
        self._earlier = self._found() if resumed else {}

    def show(self, epoch: int, visuals: Mapping[str, Any]) -> None:
        """Write the images of `epoch` and put them on top."""
        files = []
        for label, tensor in visuals.items():
            files.append(f"epoch{epoch:03d}_{_file_part(label)}.png")
            save_image(tensor2im(tensor), self.web_dir / "images" / files[-1])
        if self._earlier:  # a resumed run takes over what came before it
            self._sections = {e: self._figures(f, labels) for e, (f, labels) in self._earlier.items() if e < epoch}
            self._earlier = {}
            for first in sorted({self._first(e) for e in self._hidden()}):
                self._write_older(first)
        self._sections[epoch] = self._figures(files, list(visuals))
        hidden = self._hidden()
        if hidden:
            self._write_older(self._first(hidden[0]))

    def write(self, charts: str, refresh: int) -> None:
        page = HTML(self.web_dir, self.title, refresh=refresh)
        now = datetime.now().strftime("%Y-%m-%d %H:%M")
        page.add_text(f"Last update {now}. {'' if refresh else 'Training has ended.'}")
        page.add_html(self.status)
        if charts:
            page.add_header("Losses")
            page.add_html(charts)
        for epoch in sorted(self._sections, reverse=True)[:EPOCHS_A_PAGE]:
            page.add_header(f"Epoch {epoch}")
            page.add_html(self._sections[epoch])
        firsts = sorted({self._first(epoch) for epoch in self._hidden()}, reverse=True)
        if firsts:
            links = ", ".join(f'<a href="{self._older(n)}">{n} to {n + EPOCHS_A_PAGE - 1}</a>' for n in firsts)
            page.add_header("Older epochs")
            page.add_html(f"<p>This page shows the latest {EPOCHS_A_PAGE}; before them: {links}.</p>")
        page.save()

    def _hidden(self) -> list[int]:
        """Epochs too old for the main page, the latest first."""
        return sorted(self._sections, reverse=True)[EPOCHS_A_PAGE:]

    @staticmethod
    def _first(epoch: int) -> int:
        return (max(epoch, 1) - 1) // EPOCHS_A_PAGE * EPOCHS_A_PAGE + 1

    @staticmethod
    def _older(first: int) -> str:
        return f"epochs_{first:03d}-{first + EPOCHS_A_PAGE - 1:03d}.html"

    def _write_older(self, first: int) -> None:
        title = f"{self.title}, epochs {first} to {first + EPOCHS_A_PAGE - 1}"
        page = HTML(self.web_dir, title, filename=self._older(first))
        page.add_html('<p><a href="index.html">Latest epochs</a></p>')
        for epoch in self._hidden():
            if self._first(epoch) == first:
                page.add_header(f"Epoch {epoch}")
                page.add_html(self._sections[epoch])
        page.save()

    @staticmethod
    def _figures(files: list[str], labels: list[str]) -> str:
        return figures(files, labels, files, width=256)

    def _found(self) -> dict[int, tuple[list[str], list[str]]]:
        """Epoch -> image files and their labels, as an earlier part of the run left them."""
        found: dict[int, tuple[list[str], list[str]]] = {}
        images = (self.web_dir / "images").glob("epoch*.png")
        for path in sorted(images, key=lambda path: natural_key(path.name)):
            match = re.fullmatch(r"epoch(\d+)_(.+)\.png", path.name)
            if match:
                files, labels = found.setdefault(int(match[1]), ([], []))
                files.append(path.name)
                labels.append(match[2])
        return found


def _stem(path: str) -> str:
    """A path's name without a suffix made of letters; the numbers a DICOM file may end in are part of its name."""
    return re.sub(r"(\.nii)?\.[A-Za-z]\w{0,4}$", "", re.split(r"[/\\]", path)[-1]) or "image"


def _file_part(label: str) -> str:
    return re.sub(r'[/\\:*?"<>|\0]', "_", str(label))
