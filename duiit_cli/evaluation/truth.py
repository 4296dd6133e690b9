"""The true target images of source images, where a folder of mirrored paths holds them, and how far translations are
from them."""
import logging
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from duiit.data import readers
from duiit.data.preparing.cohort import Row
from duiit.data.preparing.intensity import ct_window
from duiit.data.preparing.resampling import UnknownSpacing, to_own_grid
from duiit.data.readers.common import stem_of
from duiit.data.readers.slice import HU, Slice
from duiit.util.errors import UserError
from duiit_cli.evaluation.scan_errors import ScanErrors, is_volume
from duiit_cli.inference.networks import PreparedScan, read, target_intensity

log = logging.getLogger(__name__)


class Truth:
    """The true target image of a source's images. Slices of one volume are asked for one by one: one scan is held."""

    def __init__(self, source: str, opt: Namespace) -> None:
        folder = Path(opt.truth) if opt.truth else Path(opt.dataroot) / "truth" / source
        if opt.truth and not folder.is_dir():
            raise UserError(f"--truth {opt.truth}: no such folder")
        self.folder = folder if folder.is_dir() else None
        self.opt, self.intensity = opt, target_intensity(opt)
        self._last: tuple[Path, PreparedScan] | None = None

    def scan(self, row: Row) -> PreparedScan | None:
        """The scan that holds the row's truth, or None."""
        if self.folder is None:
            return None
        place = self.folder / row.file
        found = [p for p in sorted(place.parent.glob("*")) if stem_of(p) == stem_of(place)]     # none: no such folder
        if not found:
            return None
        if self._last is None or self._last[0] != found[0]:
            self._last = None               # let go before the next is read
            scan = replace(readers.find_scans(found[0])[0], unit=HU if self.intensity.unit == HU else None)
            try:
                self._last = found[0], read(scan, self.opt.target, self.opt.output_nc, self.opt)
            except UnknownSpacing as error:
                self.give_up(error)
                return None
        return self._last[1]

    def image(self, row: Row) -> np.ndarray | None:
        """float32 (C, H, W) in [-1, 1] at loading size, or None."""
        scan = self.scan(row)
        return None if scan is None else scan.images[_place(row, scan)]

    def slice(self, row: Row) -> Slice | None:
        """The same as its file holds it, in its own unit and on its own grid."""
        scan = self.scan(row)
        return None if scan is None else scan.slices[_place(row, scan)]

    def give_up(self, reason: object) -> None:
        """No translation is compared from here on."""
        log.warning("%s (translations are not compared with the truth)", reason)
        self.folder = None


def _place(row: Row, scan: PreparedScan) -> int:
    return row.index if len(scan.images) > row.index else 0


class TranslationErrors:
    """The errors of a source's translations, taken slice by slice in the order of their scans: those that
    `duiit evaluate --paired` finds in the files that `duiit translate` would write of them. One scan is held."""

    def __init__(self, truth: Truth) -> None:
        self.truth, self.opt = truth, truth.opt
        self.found = ScanErrors(ct_window(self.opt.ct_window))
        self._row: Row | None = None
        self._fakes: list[Slice] = []
        self._trues: list[Slice] = []
        self._volume = (set[str](), 0)          # kind of the truth's file, and how many slices it has

    def take(self, row: Row, fake: np.ndarray) -> None:
        """fake: float32 (C, H, W) in [-1, 1] at loading size."""
        true = self.truth.slice(row)
        if true is None:
            return
        if self._row is None or row.scan != self._row.scan or true.image.shape[-2:] != self._trues[-1].image.shape[-2:]:
            self._end_scan()
        self._row, intensity, scan = row, self.truth.intensity, self.truth.scan(row)
        assert scan is not None
        self._volume = {scan.scan.kind}, len(scan.slices)
        self._fakes.append(replace(true, image=intensity.restore(to_own_grid(fake, true, self.opt)),
                                   unit=intensity.unit, span=(intensity.low, intensity.high)))
        self._trues.append(true)

    def _end_scan(self) -> None:
        if self._row is not None and self._fakes and self.truth.folder is not None:
            kinds, whole = self._volume
            try:
                self.found.add(self._row.patient, self._row.scan, self._fakes, self._trues,
                               volume=is_volume(kinds, len(self._fakes), whole))
            except UserError as error:
                self.truth.give_up(error)
        self._row, self._fakes, self._trues = None, [], []

    def report(self) -> dict[str, Any]:
        """As ScanErrors reports; {} where no truth is known."""
        self._end_scan()
        return self.found.report(without_body=self.found.empty) if self.found.rows else {}
