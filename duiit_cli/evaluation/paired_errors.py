"""The paired part of `duiit evaluate`: each translated image of a folder against its truth in another. The figures:
scan_errors.py.
"""
import logging
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from duiit.data import readers
from duiit.data.preparing.intensity import ct_window
from duiit.data.readers.slice import Scan, Slice
from duiit.util.errors import UserError
from duiit.util.problems import counted
from duiit_cli.evaluation.pairing import Index, Place
from duiit_cli.evaluation.scan_errors import ScanErrors, is_volume, plane

log = logging.getLogger(__name__)


@dataclass
class Unmatched:
    count: int = 0
    first: str | None = None

    def add(self, path: Path) -> None:
        self.count, self.first = self.count + 1, self.first or str(path)


@dataclass
class PairedErrors:
    """Compares scans of --fake with --real. real: the Index of --real, complete. masks: that of --mask, or None."""
    opt: Namespace
    real: Index
    masks: Index | None = None
    unmatched: Unmatched = field(default_factory=Unmatched)
    used: set[Place] = field(default_factory=set)               # places in `real`
    example: Path | None = None                                 # any image of --fake

    def __post_init__(self) -> None:
        self.found = ScanErrors(ct_window(self.opt.ct_window))

    def compare(self, scan: Scan, slices: Sequence[Slice]) -> None:
        """Takes the slices of one translated scan."""
        self.example = self.example or slices[0].path
        groups: dict[tuple[int, tuple[int, ...]], list[tuple[Slice, Place]]] = {}
        for s, place in zip(slices, self.real.find(scan, slices), strict=True):
            if place is None:
                self.unmatched.add(s.path)
            else:
                groups.setdefault((place[0], s.image.shape[-2:]), []).append((s, place))
        for (number, _), pairs in groups.items():
            self.used |= {place for _, place in pairs}
            self._add(scan, self.real.scans[number], [s for s, _ in pairs], [place for _, place in pairs])

    def _add(self, scan: Scan, real_scan: Scan, fakes: Sequence[Slice], places: Sequence[Place]) -> None:
        trues = [self.real.slice(place) for place in places]
        for f, t in zip(fakes, trues, strict=True):
            _same_size(f, t, "the real image", "translate without --keep_network_size, or give images of one size")
        masks = None if self.masks is None else [self._mask(self.masks, real_scan, place) for place in places]
        volume = is_volume({scan.kind, real_scan.kind}, len(trues), len(self.real.read(places[0][0])))
        self.found.add(scan.patient, scan.name, fakes, trues, masks, volume)

    def _mask(self, masks: Index, real_scan: Scan, place: Place) -> np.ndarray:
        """The mask (H, W) of the real slice at `place`."""
        slices = self.real.read(place[0])
        found = masks.find(real_scan, slices)[place[1]]
        if found is None:
            raise UserError(f"--mask {self.opt.mask}: holds no mask for {slices[place[1]].path}")
        mask = masks.slice(found)
        _same_size(mask, slices[place[1]], "its image", "give masks of the images' size")
        return plane(mask.image) > 0

    # -- what it comes to --------------------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """As ScanErrors reports. Raises UserError where nothing matched."""
        self._say()
        if not self.found.rows:
            raise UserError("--paired: " + ("no image has a voxel in its body mask; give --mask" if self.used else
                                            self._nothing_matched()))
        return self.found.report(unmatched_fake=self.unmatched.count, without_body=self.found.empty,
                                 unmatched_real=len(self.real.places) - len(self.used))

    def _say(self) -> None:
        if self.unmatched.count and self.used:
            log.warning("without a real one under their path, and left out of the comparison: %s of --fake, the first "
                        "is %s", counted(self.unmatched.count, "image"), self.unmatched.first)
        rest = [place for place in self.real.places.values() if place not in self.used]
        if rest and self.used:
            log.info("without a translated one: %s of --real, the first is %s", counted(len(rest), "image"),
                     self.real.slice(min(rest)).path)

    def _nothing_matched(self) -> str:
        return (f"no image under --fake {self.opt.fake} has a real one of the same relative path under --real "
                f"{self.opt.real}: there lies {self.example}, here {self.real.scans[0].files[0]}")


def mask_index(folder: str | PathLike[str], opt: Namespace) -> Index:
    """The Index of a folder of masks."""
    scans = readers.find_scans(Path(folder), masks=True)
    if not scans:
        raise UserError(f"--mask {folder}: holds no images")
    index = Index(scans, lambda number: readers.select_slices(readers.read_scan(scans[number]), opt.slices))
    for number in range(len(scans)):
        index.note(number, index.read(number))
    return index


def _same_size(one: Slice, other: Slice, what: str, remedy: str) -> None:
    sizes = ["{}x{}".format(*s.image.shape[-2:]) for s in (one, other)]
    if sizes[0] != sizes[1]:
        raise UserError(f"{one.path}: has {sizes[0]} pixels, and {what} {other.path} has {sizes[1]}; {remedy}")
