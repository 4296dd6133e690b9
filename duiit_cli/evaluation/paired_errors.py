"""The paired part of `duiit evaluate`: each translated image against its truth, in the unit that both can be had in.

Slices of one scan are pooled, as if they were its volume; scans are averaged over a patient, and patients over all.
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
from duiit.data.preparing.intensity import Intensity, ct_window, display_range
from duiit.data.readers.slice import DISPLAY, HU, Scan, Slice
from duiit.util.errors import UserError
from duiit.util.image_quality import CT_LIMITS, SSIM_WINDOW, body_mask, masked_errors
from duiit.util.metrics import by_group
from duiit.util.problems import counted
from duiit_cli.evaluation.pairing import Index, Place

log = logging.getLogger(__name__)
VOLUMES = {"nifti", "dicom"}        # what holds neighbouring slices, in order
EVERY, BODY = "whole image", "body found in the real CT"


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
    rows: list[dict[str, Any]] = field(default_factory=list)    # one a scan
    unmatched: Unmatched = field(default_factory=Unmatched)
    used: set[Place] = field(default_factory=set)               # places in `real`
    outlines: set[str] = field(default_factory=set)             # where the masks came from
    empty: int = 0                                              # scans without a voxel in the mask
    example: Path | None = None                                 # any image of --fake

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
        whole = {scan.kind, real_scan.kind} <= VOLUMES and len(trues) == len(self.real.read(places[0][0]))
        volume = whole and len(trues) >= SSIM_WINDOW
        errors, outline = compared(fakes, trues, masks, ct_window(self.opt.ct_window), volume)
        self.outlines.add(outline)
        if errors:
            self.rows.append({"patient": scan.patient, "scan": scan.name, "slices": len(fakes), **errors})
        else:
            self.empty += 1

    def _mask(self, masks: Index, real_scan: Scan, place: Place) -> np.ndarray:
        """The mask (H, W) of the real slice at `place`."""
        slices = self.real.read(place[0])
        found = masks.find(real_scan, slices)[place[1]]
        if found is None:
            raise UserError(f"--mask {self.opt.mask}: holds no mask for {slices[place[1]].path}")
        mask = masks.slice(found)
        _same_size(mask, slices[place[1]], "its image", "give masks of the images' size")
        return _plane(mask.image) > 0

    # -- what it comes to --------------------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """{"n": …, "mask": …, <error>: {"mean", "sd", "n"}}; sd is over patients. Raises UserError: nothing matched."""
        self._say()
        if not self.rows:
            raise UserError("--paired: " + ("no image has a voxel in its body mask; give --mask" if self.used else
                                            self._nothing_matched()))
        patients = [row["patient"] for row in self.rows]
        n = {"patients": len(set(patients)), "scans": len(self.rows), "images": sum(r["slices"] for r in self.rows),
             "voxels": sum(r["voxels"] for r in self.rows), "unmatched_fake": self.unmatched.count,
             "unmatched_real": len(self.real.places) - len(self.used), "without_body": self.empty}
        names = dict.fromkeys(key for row in self.rows for key in row if key not in NOT_ERRORS)
        return {"n": n, "mask": " and ".join(sorted(self.outlines)), **{name: self._mean(name) for name in names}}

    def _mean(self, name: str) -> dict[str, Any]:
        rows = [row for row in self.rows if row.get(name) is not None]
        if not rows:
            return {"mean": None, "sd": None, "n": 0}
        values = list(by_group([row[name] for row in rows], [row["patient"] for row in rows]).values())
        mean = float(np.mean(values))
        known = len(values) > 1 and np.isfinite(mean)
        return {"mean": mean, "sd": float(np.std(values, ddof=1)) if known else None, "n": len(values)}

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


NOT_ERRORS = {"patient", "scan", "slices", "voxels"}


def mask_index(folder: str | PathLike[str], opt: Namespace) -> Index:
    """The Index of a folder of masks."""
    scans = readers.find_scans(Path(folder), masks=True)
    if not scans:
        raise UserError(f"--mask {folder}: holds no images")
    index = Index(scans, lambda number: readers.select_slices(readers.read_scan(scans[number]), opt.slices))
    for number in range(len(scans)):
        index.note(number, index.read(number))
    return index


def compared(fakes: Sequence[Slice], trues: Sequence[Slice], masks: Sequence[np.ndarray] | None, window: Intensity,
             volume: bool) -> tuple[dict[str, Any], str]:
    """({error: value}, what the mask is) of slices and their truth; {} where the mask is empty. masks: (H, W) each."""
    fake, true = (np.stack([_plane(s.image) for s in slices]) for slices in (fakes, trues))
    units = fakes[0].unit, trues[0].unit
    outline = "--mask" if masks is not None else BODY if units[1] == HU else EVERY
    mask = np.stack(masks) if masks is not None else body_mask(true) if units[1] == HU else None
    if units == (HU, HU):
        whole = masked_errors(fake, true, mask, volume=volume)
        if not whole or (window.low <= CT_LIMITS[0] and window.high >= CT_LIMITS[1]):
            return whole, outline
        return whole | _in_window(fake, true, mask, window), outline
    if set(units) == {HU, DISPLAY}:         # 8 bits stand for the window, and nothing is known beyond it
        fake, true = (window.restore(display_range().normalise(image)) if unit == DISPLAY else image
                      for image, unit in zip((fake, true), units, strict=True))
        errors = _in_window(fake, true, mask, window)
        return errors, outline
    if units[0] != units[1]:
        raise UserError(f"{fakes[0].path}: holds {units[0]} values, and {trues[0].path} {units[1]} ones, which cannot "
                        "be compared; give both in one unit")
    limits = (0.0, 255.0) if units[0] == DISPLAY else (float(true.min()), max(float(true.max()), true.min() + 1e-6))
    return masked_errors(fake, true, mask, limits, units[0].lower(), volume), outline


def _in_window(fake: np.ndarray, true: np.ndarray, mask: np.ndarray | None, window: Intensity) -> dict[str, Any]:
    """Errors of images (N, H, W) in HU of which only what the window shows counts."""
    limits = window.low, window.high
    errors = masked_errors(np.clip(fake, *limits), np.clip(true, *limits), mask, limits)
    return {key if key == "voxels" else f"{key}_in_window": value for key, value in errors.items()}


def _plane(image: np.ndarray) -> np.ndarray:
    """(H, W), or the mean of the channels (C, H, W), which are mostly one grey."""
    return image if image.ndim == 2 else image.mean(axis=0)


def _same_size(one: Slice, other: Slice, what: str, remedy: str) -> None:
    sizes = ["{}x{}".format(*s.image.shape[-2:]) for s in (one, other)]
    if sizes[0] != sizes[1]:
        raise UserError(f"{one.path}: has {sizes[0]} pixels, and {what} {other.path} has {sizes[1]}; {remedy}")
