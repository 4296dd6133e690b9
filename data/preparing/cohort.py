"""A cohort: every slice of one modality, decoded once, brought to [-1, 1] and loading size, and kept on disk.

Reading medical files is slow (decompression, rescaling, resampling), and every epoch needs every slice. So each slice
is prepared once into one memory-mapped file of 16-bit integers (a step of 3e-5 of [-1, 1], 0.06 HU in the full window);
the operating system keeps in memory what is in use, and loader processes and runs share it. The folder's name is a
digest of the source files' bytes (each file's known from util/file_index.py while it is as it was) and of every setting
that shapes the result: a changed file or setting makes a new one, and two runs that prepare the same cohort at once
make the same folder, of which one wins.
"""
import hashlib
import json
import logging
import math
import os
import shutil
import uuid
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from duiit.data import readers
from duiit.data.preparing.intensity import Intensity, fixed_windows, intensity_of
from duiit.data.preparing.resampling import spacing_of, to_loading_size
from duiit.data.preparing.transforms import to_channels
from duiit.data.readers.masks import few_whole_numbers
from duiit.data.readers.slice import Scan, Slice
from duiit.util.errors import UserError
from duiit.util.file_index import FileIndex, cache_root
from duiit.util.files import atomic_folder, write_text
from duiit.util.progress import track

T = TypeVar("T")
R = TypeVar("R")
log = logging.getLogger(__name__)
VERSION = 3                     # raise it when the way slices are prepared changes: old caches are then left alone
STEP = 32767
DTYPE = np.dtype(np.int16)
READERS = 4                     # scans decoded at once: a thin-slice CT takes 0.3 GB


@dataclass(frozen=True)
class Row:
    """One prepared slice. file: relative to the modality's folder. low, high, unit: its scan's Intensity."""
    patient: str
    scan: str
    file: str
    index: int
    label: float | str | None
    empty: bool
    shape: tuple[int, int, int]
    offset: int
    low: float
    high: float
    unit: str

    @property
    def intensity(self) -> Intensity:
        return Intensity(self.low, self.high, self.unit)


class Cohort:
    """Prepared slices of one modality: `rows` (what is known of each) and `image(row)` (its pixels)."""

    def __init__(self, rows: Sequence[Row], folder: str | PathLike[str]) -> None:
        self.rows, self.folder = rows, Path(folder)
        self._path = self.folder / "images.bin"
        self._pixels: np.ndarray | None = None

    def image(self, row: Row) -> np.ndarray:
        """float32 (C, H, W) in [-1, 1] at loading size."""
        return as_float(self.stored(row))

    def stored(self, row: Row) -> np.ndarray:
        """The same as it lies on disk, int16 in [-STEP, STEP], not copied: for cropping before converting."""
        if self._pixels is None:            # opened on first use, in whichever process serves the images
            self._pixels = self.pixels()
        return pixels_of(row, self._pixels)

    def pixels(self) -> np.ndarray:
        """All stored pixels as they lie in the file, int16 (n,), mapped: read where they are looked at."""
        return np.asarray(np.memmap(self._path, dtype=DTYPE, mode="r"))        # plain slices cost less

    def recall(self, what: str, scans: Sequence[Scan], find: Callable[[Scan], Any]) -> list[Any]:
        """What `find` finds in each of these scans of the cohort, as JSON has it; looked for once, whichever run asks.

        what: a file's name, for all that it depends on besides the scans' files and what shapes a cohort.
        """
        path = self.folder / f"{what}.json"
        kept = _kept(path)
        new = {s.name: find(s) for s in track([s for s in scans if s.name not in kept], "looking at scans")}
        kept |= new
        try:
            if new:
                write_text(path, json.dumps({**_kept(path), **new}, allow_nan=False), durable=False)
        except UserError as error:          # somebody else's cache, a full disk
            log.debug("not kept for the next time: %s", error)
        return [kept[s.name] for s in scans]

    def __getstate__(self) -> dict[str, Any]:
        # A worker process opens its own map instead of copying the pixels.
        return {**self.__dict__, "_pixels": None}


def pixels_of(row: Row, pixels: Any) -> Any:
    """The slice's own of all stored pixels, (C, H, W), as a view: array of array, tensor of tensor."""
    return pixels[row.offset:row.offset + math.prod(row.shape)].reshape(row.shape)


def as_stored(image: np.ndarray) -> np.ndarray:
    """float32 in [-1, 1] of any shape -> the int16 that are kept of it."""
    return np.round(image * STEP).astype(DTYPE)


def as_float(stored: np.ndarray) -> np.ndarray:
    """Stored int16 pixels of any shape -> float32 in [-1, 1], in one pass."""
    return np.multiply(stored, np.float32(1 / STEP), dtype=np.float32)


def prepare(scans: Sequence[Scan], prepare_slice: Callable[[Slice], Slice], modality: str, channels: int,
            opt: Namespace) -> Cohort:
    """Cohort of `scans`. prepare_slice: Slice -> Slice, the modality's own conversion (channel choice, unit).

    Unreadable files raise UserError that names them; nothing is kept then.
    """
    folder = cache_root(opt) / f"{modality}-{_digest(scans, modality, channels, opt)}"
    index = _index(folder)
    if index is None:
        log.info("preparing %d %s scans, once, in %s", len(scans), modality, folder.parent)
        mine = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}")
        with atomic_folder(mine) as part:
            _fill(part, scans, prepare_slice, modality, channels, opt)
        index = _index(mine)
        if index is None:
            raise UserError(f"{mine}: is not as it was written; look to its disk, or choose another --cache_dir")
        _settle(mine, folder)
    by_name = {s.name: s for s in scans}
    return Cohort([_row(entry, by_name[entry["scan"]]) for entry in index], folder)


def _kept(path: Path) -> dict[str, Any]:
    """{scan: what was found} of a file of `Cohort.recall`; {} where it is missing or damaged."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _index(folder: Path) -> list[dict[str, Any]] | None:
    """The entries of a prepared folder; None where there is none, or where a part of it is gone."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        pixels = sum(int(np.prod(entry["shape"])) for entry in index)
        return index if (folder / "images.bin").stat().st_size == pixels * DTYPE.itemsize else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _settle(mine: Path, folder: Path) -> None:
    """Gives the prepared folder its name; where another run was faster, its folder is the same and mine goes."""
    if _index(folder) is None:
        shutil.rmtree(folder, ignore_errors=True)       # damaged: half deleted, or cut off
    try:
        mine.rename(folder)
    except OSError:
        if _index(folder) is None:
            raise
        shutil.rmtree(mine, ignore_errors=True)


def _row(entry: dict[str, Any], scan: Scan) -> Row:
    """Patients and labels come from the tables as they are now, pixels from the cache."""
    label = scan.label_of(scan.root / entry["file"])
    return Row(patient=scan.patient, label=label, **{**entry, "shape": tuple(entry["shape"])})


def _digest(scans: Sequence[Scan], modality: str, channels: int, opt: Namespace) -> str:
    settings: list[Any] = [VERSION, modality, channels, opt.preprocess, opt.load_size, opt.crop_size, opt.slices,
                           opt.ct_window, opt.pet_window, opt.mri_channel, spacing_of(opt)]
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
    files = [(scan, file) for scan in scans for file in scan.files]
    with FileIndex(scans[0].root, cache_root(opt)) as known, ThreadPoolExecutor() as pool:
        found = pool.map(lambda path: known.recall(path, "digest", _file_digest), [f for _, f in files])
        for (scan, file), content in zip(files, found, strict=True):
            digest.update(f"{scan.name}\0{scan.unit}\0{scan.frames}\0{file.relative_to(scan.root).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); mend or remove it") from None


def _fill(folder: Path, scans: Sequence[Scan], prepare_slice: Callable[[Slice], Slice], modality: str, channels: int,
          opt: Namespace) -> None:
    index, offset = [], 0
    like_masks: list[Path] = []
    windows = fixed_windows(opt)

    def one(scan: Scan) -> list[tuple[dict[str, Any], np.ndarray]]:
        """What is kept of a scan: its index entries without their offset, and its pixels. The scan itself is let go."""
        slices, intensity = prepared_scan(scan, prepare_slice, windows, channels, opt)
        if few_whole_numbers(s.image for s, _, _ in slices):
            like_masks.append(scan.files[0])
        return [({"scan": scan.name, "file": s.path.relative_to(scan.root).as_posix(), "index": s.index, "empty": empty,
                  "shape": image.shape, "low": intensity.low, "high": intensity.high, "unit": intensity.unit},
                 as_stored(image)) for s, image, empty in slices]

    with (folder / "images.bin").open("wb") as file, ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as pool:
        for slices in track(_in_order(pool, one, scans), f"reading {modality}", total=len(scans)):
            for entry, stored in slices:
                file.write(stored.tobytes())
                index.append({**entry, "offset": offset})
                offset += stored.size
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    if like_masks:
        log.warning("%s: %d of %d scans hold only a handful of whole numbers, as segmentations do (such as %s); take "
                    "them out of the folder if they are no images", scans[0].root, len(like_masks), len(scans),
                    min(like_masks))


def _in_order(pool: Executor, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """pool.map, but with only a few results waiting: a cohort is larger than memory."""
    waiting = []
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > READERS:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
    finally:
        for future in waiting:          # after an error: what has not begun need not begin
            future.cancel()


def prepared_scan(scan: Scan, prepare_slice: Callable[[Slice], Slice], windows: Mapping[str, Intensity], channels: int,
                  opt: Namespace) -> tuple[list[tuple[Slice, np.ndarray, bool]], Intensity]:
    """Reads one scan: ([(Slice, float32 (C, H, W) in [-1, 1] at loading size, is it empty)], its Intensity)."""
    slices = [prepare_slice(s) for s in readers.select_slices(readers.read_scan(scan), opt.slices)]
    spans = {s.span for s in slices}
    span = spans.pop() if len(spans) == 1 else None
    intensity = intensity_of(slices[0].unit, [s.image for s in slices], windows, span)
    done = []
    for s in slices:
        image = to_channels(intensity.normalise(s.image), channels)
        done.append((s, to_loading_size(image, s, opt), not readers.has_signal(s.image, s.unit)))
    return done, intensity
