"""Reads every scan of a modality once, on all cores, and keeps what a check has to know of it, but no pixels.

Reader processes rather than threads: decoding small images is Python for the most part, and threads take turns there.
"""
import hashlib
import logging
import multiprocessing
import os
import signal
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from duiit.data import readers
from duiit.data.checking.fingerprint import ScanFacts, facts_of
from duiit.data.modality_dataset import ModalityDataset
from duiit.data.preparing.intensity import fixed_windows
from duiit.data.readers.common import notice
from duiit.data.readers.dicom_series import read_header
from duiit.data.readers.masks import few_whole_numbers
from duiit.data.readers.slice import Scan, Slice
from duiit.util.errors import UserError

SMALL = 2**24           # bytes on disk; what is less is read before processes would have started
CHUNK = 4               # scans handed to a process at once


@dataclass(frozen=True)
class SliceFound:
    """One slice, named like a row of a prepared cohort, so that a split can be drawn of it."""
    patient: str
    scan: str
    file: str
    index: int
    label: float | str | None
    empty: bool
    digest: bytes               # of its pixels


@dataclass(frozen=True)
class Found:
    """What reading one scan told. facts: of its slices that are not empty, None where all are."""
    patient: str
    scan: str
    files: int
    in_root: bool               # a single 2-D image, right in the modality's folder
    slices: list[SliceFound]
    sizes: Counter[str]
    unit: str
    spacing: str
    facts: ScanFacts | None
    patient_id: str = ""        # PatientID of a DICOM header
    notices: list[str] = field(default_factory=list)
    few_values: bool = False    # whole numbers, and so few that it may be a segmentation


def survey(scans: Sequence[Scan], loader: type[ModalityDataset], opt: Namespace) -> Iterator[Found | UserError]:
    """Yields Found, or the UserError that reading raised, for each of `scans`, in order."""
    work = partial(survey_scan, loader=loader, opt=opt)
    workers = min(opt.num_threads, os.cpu_count() or 1, len(scans))
    if workers < 2 or _bytes(scans) < SMALL:
        yield from map(work, scans)
        return
    # Forked processes have all modules loaded already. They read files and never touch torch, whose threads would
    # not have come along.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(workers, context, _ignore_interrupts) as pool:
        try:
            yield from pool.map(work, scans, chunksize=CHUNK)
        except BrokenProcessPool:
            raise UserError("a process that read scans was ended by the system, most likely for lack of memory; "
                            "run again with --num_threads 1") from None


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # Ctrl-C is the main process's to answer


def _bytes(scans: Iterable[Scan]) -> int:
    total = 0
    for scan in scans:
        for path in scan.files:
            try:
                total += path.stat().st_size
            except OSError:
                continue                                # reading it will say what is wrong
        if total >= SMALL:
            break
    return total


def survey_scan(scan: Scan, loader: type[ModalityDataset], opt: Namespace) -> Found | UserError:
    """Found, or the UserError that reading raised."""
    with warnings_kept() as notices:
        try:
            slices = [loader.prepare(s, opt) for s in readers.select_slices(readers.read_scan(scan), opt.slices)]
        except UserError as error:
            return error
    found = [_slice_found(s, scan) for s in slices]
    used = [s for s, f in zip(slices, found, strict=True) if opt.keep_empty or not f.empty]
    geometry = slices[0].geometry
    return Found(
        scan.patient, scan.name, len(scan.files), scan.kind == "images" and scan.files[0].parent == scan.root, found,
        Counter("x".join(map(str, s.image.shape)) for s in slices), slices[0].unit,
        "" if geometry is None else "x".join(f"{n:.3g}" for n in geometry.spacing),
        facts_of(used, fixed_windows(opt)) if used else None, _patient_id(scan), notices,
        few_whole_numbers(s.image for s in slices))


def _slice_found(s: Slice, scan: Scan) -> SliceFound:
    return SliceFound(s.patient, scan.name, Path(s.path).relative_to(scan.root).as_posix(), s.index, s.label,
                      not readers.has_signal(s.image, s.unit), hashlib.blake2b(s.image.data, digest_size=16).digest())


def _patient_id(scan: Scan) -> str:
    if scan.kind != "dicom":
        return ""
    try:
        header = read_header(scan.files[0])
    except Exception:           # whatever a damaged header makes pydicom raise; the pixels could be read
        return ""
    return header.patient_id if header else ""


@contextmanager
def warnings_kept() -> Iterator[list[str]]:
    """Collects what `duiit.data` logs as warnings, as text, instead of printing it: a check reports it with the
    problems."""
    kept, logger = [], logging.getLogger("duiit.data")

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                kept.append(record.getMessage())
            else:
                logging.getLogger().handle(record)

    keeper, before = Keeper(), logger.propagate
    logger.addHandler(keeper)
    logger.propagate = False
    notice.cache_clear()        # each is logged once a process; who collects them wants them all
    try:
        yield kept
    finally:
        logger.removeHandler(keeper)
        logger.propagate = before
