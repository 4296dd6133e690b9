"""What `duiit translate` does: a folder of source images becomes a folder of synthetic target images with the same
labels. Scans are read ahead and written behind (util/pipeline.py) while the generator is at work on those in between.
"""
import hashlib
import json
import logging
from argparse import Namespace
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import Module

from duiit.data.modality_dataset import loader_of
from duiit.data.preparing import resampling
from duiit.data.preparing.intensity import BY_SCAN, Intensity, ct_window
from duiit.data.preparing.transforms import blend_neighbours
from duiit.data.readers.labels import WRITTEN
from duiit.data.readers.slice import HU, Label, Scan, Slice
from duiit.data.writing import dicom, images
from duiit.data.writing.dicom import SeriesIdentity
from duiit.models import find_model_using_name
from duiit.util import threads
from duiit.util.errors import UserError
from duiit.util.files import write_csv
from duiit.util.part_folder import PartFolder, part_folder
from duiit.util.pipeline import Helpers, as_many, in_order
from duiit.util.progress import track
from duiit.util.version import __version__
from duiit_cli.inference.calibration import digest
from duiit_cli.inference.networks import (
    Batches,
    PreparedScan,
    load_model,
    read,
    refuse_without,
    target_intensity,
    translate,
    translating,
)

log = logging.getLogger(__name__)
Rows = list[tuple[str, str, Label]]             # file, patient, label
DICOM_MODALITIES = {"mri": "MR", "pet": "PT", "ct": "CT"}      # what DICOM calls the modalities of these folders
VOLUMES = ("nifti", "dicom")        # formats that hold a scan whole, empty slices and all
LOT = 4                             # batches, after which a scan is the last of its lot


def translate_scans(opt: Namespace, model: Any = None) -> None:
    """What `duiit translate` does. model: the run's, where it is loaded already."""
    refuse_without(model or find_model_using_name(opt.model), "translator", opt)
    source, intensity = source_of(opt), target_intensity(opt)
    writer = Writer(opt, intensity)
    model = model or load_model(opt, "translator")
    net = model.translator(source)
    scans = loader_of(source).find_scans(Path(opt.input), opt)
    with part_folder(opt.output, _made_with(opt, intensity, net, model.device), opt.force, opt.resume) as part:
        if not part.complete:
            Translation(part, source, writer, opt).go(scans, net, model.device)
    rows = _rows(part)
    unlabelled = sum(label is None for _, _, label in rows)
    log.info("%d files of %d scans written to %s, %d without a label", len(rows), len(scans), opt.output, unlabelled)


def _rows(part: PartFolder) -> Rows:
    return [(file, patient, label) for entry in part.entries for file, patient, label in entry["rows"]]


def _made_with(opt: Namespace, intensity: Intensity, net: Module, device: torch.device) -> dict[str, str]:
    """What decides the files besides the scans. Where all that lies does not, nor the number of threads."""
    free = {"input", "output", "force", "resume", "checkpoints_dir", "cache_dir", "dataroot", "device", "gpu_ids",
            "threads", "num_threads", "verbose", "words", "plugins", "facts", "preset", "seed"}
    options = {f"--{k}": str(v) for k, v in sorted(vars(opt).items()) if k not in free}
    return {**options, "the version of DUIIT": __version__, "the kind of --device": device.type,
            "the target's range": str(intensity), "the generator's weights, SHA-256": digest(net)}


@dataclass
class Waiting:
    """A scan on its way. state: a digest of what is known of its files and labels, from before they were read."""
    state: str
    prepared: PreparedScan
    weight: int


class Translation:
    """Scans through the generator into a PartFolder.

    They are finished in lots: a batch never holds images of two, so that what is made of a scan is the same to the last
    bit whether the translation was interrupted before its lot or not.
    """

    def __init__(self, part: PartFolder, source: str, writer: "Writer", opt: Namespace) -> None:
        self.part, self.source, self.writer, self.opt = part, source, writer, opt
        self.taken = images.Taken(file for entry in part.entries for file in entry["files"])
        self.writing: deque[tuple[str, str, Future[Rows]] | None] = deque()     # scan, state, its rows; None: lot ends
        self.lot: dict[str, Any] = {"scans": [], "rows": []}                    # what is written of the lot at hand

    def go(self, scans: Sequence[Scan], net: Module, device: torch.device) -> None:
        opt, left = self.opt, self._unfinished(scans)
        batches = Batches[Waiting, np.ndarray](translating(net, opt, device), opt.batch_size)
        number, asked = threads.helpers(), 0
        with Helpers(number) as writers, Helpers(number) as readers:
            found = in_order(readers, self._read, left, lambda waiting: waiting.weight)
            for waiting in track(found, f"translating {self.source}", total=len(left)):
                pictures, waiting.prepared.images = waiting.prepared.images, []
                asked += len(pictures)
                self._write(writers, batches.add(waiting, pictures))
                del pictures
                if asked >= LOT * opt.batch_size:
                    self._write(writers, batches.flush())
                    self.writing.append(None)
                    asked = 0
            self._write(writers, batches.flush())
            self.writing.append(None)
            self._collect(0)
        rows = _rows(self.part)
        write_csv(self.part.folder / "labels.csv", [(f, p, "" if label is None else label) for f, p, label in rows],
                  WRITTEN)

    def _unfinished(self, scans: Sequence[Scan]) -> Sequence[Scan]:
        """The scans that are still to be translated. Raises UserError where those that were are not as they were."""
        finished = [known for entry in self.part.entries for known in entry["scans"]]
        for number, (name, state) in enumerate(finished):
            if number >= len(scans) or scans[number].name != name or _state_of(scans[number]) != state:
                raise UserError(f"--resume: the scan {name}, its label or its place among the others is not as it was "
                                f"when {self.part.part} was begun; give --force without --resume to begin anew")
        if finished:
            log.info("%d of %d scans are finished and stay as they are", len(finished), len(scans))
        return scans[len(finished):]

    # -- in the threads ----------------------------------------------------------------------------------------

    def _read(self, scan: Scan) -> Waiting:
        state = _state_of(scan)
        prepared = read(scan, self.source, self.opt.input_nc, self.opt)
        weight = prepared.weight
        # What comes after asks the slices for their size and their place only.
        prepared.slices = [replace(s, image=np.broadcast_to(np.float32(0), s.image.shape)) for s in prepared.slices]
        return Waiting(state, prepared, weight)

    def _write_one(self, helpers: Helpers, prepared: PreparedScan, made: list[np.ndarray], names: list[str]) -> Rows:
        slices, pictures = finished(prepared, made, self.opt)

        def unless_stopped() -> Iterator[np.ndarray]:
            for picture in pictures:
                helpers.go_on()
                yield picture

        return self.writer.write(self.part.folder, prepared.scan, slices, unless_stopped(), names)

    # -- between them ------------------------------------------------------------------------------------------

    def _write(self, writers: Helpers, done: Iterable[tuple[Waiting, list[np.ndarray]]]) -> None:
        """Hands translated scans over, under names that are given in their order."""
        for waiting, made in done:
            prepared = waiting.prepared
            kept = shown(prepared, self.opt)
            names = self.writer.names(prepared.scan, [prepared.slices[n] for n in kept], self.taken) if kept else []
            self.taken.add(names)
            job = partial(self._write_one, writers, prepared, made, names) if kept else list
            self.writing.append((prepared.scan.name, waiting.state, writers.submit(job)))
            self._collect(as_many(writers, waiting.weight))

    def _collect(self, most: int) -> None:
        """Waits for scans to be written until so many are left at most; a lot that is written is noted."""
        while sum(w is not None for w in self.writing) > most or (self.writing and self.writing[0] is None):
            first = self.writing.popleft()
            if first is not None:
                name, state, future = first
                self.lot["rows"] += future.result()
                self.lot["scans"].append([name, state])
            elif self.lot["scans"]:
                self.part.note([file for file, _, _ in self.lot["rows"]], **self.lot)
                self.lot = {"scans": [], "rows": []}


def _state_of(scan: Scan) -> str:
    """A digest of what is known of a scan without reading it: files (their sizes and when they changed), labels."""
    found: list[Any] = [scan.name, scan.patient, scan.kind, scan.unit, scan.frames]
    for file in scan.files:
        try:
            known = file.stat()
        except OSError:
            raise UserError(f"{file}: cannot be read; restore or remove it") from None
        found.append([file.relative_to(scan.root).as_posix(), known.st_size, known.st_mtime_ns, scan.label_of(file)])
    return hashlib.blake2b(json.dumps(found).encode(), digest_size=16).hexdigest()


def source_of(opt: Namespace) -> str:
    """The source modality that --input holds: --source, the run's only one, or the input folder's own name."""
    sources = opt.sources.split(",") if opt.sources else []
    if not sources:
        raise UserError(f"--name {opt.name}: a run of --model {opt.model} has no sources and cannot translate")
    if opt.source:
        if opt.source not in sources:
            raise UserError(f"--source {opt.source}: the run translates {', '.join(sources)}")
        return opt.source
    if len(sources) == 1:
        return sources[0]
    name = Path(opt.input).resolve().name
    if name not in sources:
        raise UserError(f"--source is missing: the run translates {', '.join(sources)}, and --input {opt.input} is "
                        "named like none of them")
    return name


def translate_scan(net: Module, scan: Scan, source: str, opt: Namespace,
                   device: torch.device) -> tuple[list[Slice], list[np.ndarray]]:
    """(slices, images): the scan's Slice records and, for each, its translation (C, H, W) in [-1, 1]."""
    prepared = read(scan, source, opt.input_nc, opt)
    slices, pictures = finished(prepared, translate(net, prepared.images, opt, device), opt)
    return slices, list(pictures)


def shown(prepared: PreparedScan, opt: Namespace) -> list[int]:
    """Positions of the slices that are written. There is nothing on the empty ones to train on."""
    return [n for n, empty in enumerate(prepared.empty) if opt.format in VOLUMES or opt.keep_empty or not empty]


def finished(prepared: PreparedScan, made: list[np.ndarray],
             opt: Namespace) -> tuple[list[Slice], Iterator[np.ndarray]]:
    """(slices, images) that are written: blended with their neighbours, at the size that is asked for."""
    slices, kept = prepared.slices, shown(prepared, opt)
    made = blend_neighbours(made, opt.slice_blend)
    if opt.keep_network_size:
        slices = resampling.on_network_grid(slices, made, opt)
        return [slices[n] for n in kept], (made[n] for n in kept)
    return [slices[n] for n in kept], (resampling.to_own_grid(made[n], slices[n], opt) for n in kept)


class Writer:
    """Writes translated scans in --format."""

    def __init__(self, opt: Namespace, intensity: Intensity) -> None:
        self.opt, self.intensity = opt, intensity
        self.identity = _dicom_identity(opt, intensity) if opt.format == "dicom" else None

    def names(self, scan: Scan, slices: Sequence[Slice], taken: images.Taken) -> list[str]:
        """The files to write, relative to their folder."""
        if self.identity:
            return dicom.file_names(scan, slices, taken)
        return images.file_names(scan, slices, self.opt.format, taken)

    def write(self, folder: Path, scan: Scan, slices: list[Slice], pictures: Iterable[np.ndarray],
              names: list[str]) -> Rows:
        """pictures: for each slice, float32 (C, H, W) in [-1, 1]. Returns a row a file."""
        if self.identity is None:
            spacing = self.opt.spacing if self.opt.keep_network_size else None
            return images.write_scan(folder, scan, slices, pictures, self.intensity, self.opt.format, spacing, names)
        stack = np.stack(list(pictures))                                                    # (N, C, H, W)
        if stack.shape[1] != 1:
            raise UserError(f"--format dicom: holds 1 channel, not {stack.shape[1]}; give --format tiff or npy")
        return dicom.write_dicom(folder, scan, slices, self.intensity.restore(stack[:, 0]), identity=self.identity,
                                 keep_identity=self.opt.keep_identity, names=names)


def _dicom_identity(opt: Namespace, intensity: Intensity) -> SeriesIdentity:
    if intensity.unit != HU:
        raise UserError(f"--format dicom: writes CT, but the target of this run is in {intensity.unit} values; "
                        "give --format nifti or tiff")
    identity = _identity(opt, intensity)
    if identity.window:
        log.warning("--format dicom: this run knows only %g to %g HU (--ct_window %s): bone and air are written as "
                    "these ends, under a tag that says HU. Each file says so; do not measure beyond",
                    *identity.window, opt.ct_window)
    return identity


def _identity(opt: Namespace, intensity: Intensity) -> SeriesIdentity:
    """What synthetic series are named after: the same weights and settings make the same series again."""
    # Runs of before have the names that they had.
    new = [*([] if opt.pet_window == BY_SCAN else [opt.pet_window]), *(["averaged"] if opt.averaged else [])]
    digest = hashlib.sha256(repr([opt.ct_window, opt.slice_blend, opt.slices, opt.source, *new]).encode())
    for path in sorted(Path(opt.checkpoints_dir, opt.name).glob(f"{opt.epoch}_net_G_A*.pth")):
        digest.update(path.read_bytes())
    whole, source = ct_window("full"), source_of(opt)
    limited = intensity.low > whole.low or intensity.high < whole.high
    return SeriesIdentity(opt.name, f"DUIIT {__version__}", digest.hexdigest(),
                          source=DICOM_MODALITIES.get(source.lower(), source),
                          window=(intensity.low, intensity.high) if limited else None)
