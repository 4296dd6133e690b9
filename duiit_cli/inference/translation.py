"""What `duiit translate` does: a folder of source images becomes a folder of synthetic target images with the same
labels."""
import hashlib
import logging
from argparse import Namespace
from collections.abc import Callable, Sequence
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
from duiit.data.writing.dicom import SeriesIdentity, write_dicom
from duiit.data.writing.images import write_scan
from duiit.models import find_model_using_name
from duiit.util.errors import UserError
from duiit.util.files import atomic_folder, write_csv
from duiit.util.progress import track
from duiit.util.version import __version__
from duiit_cli.inference.networks import load_model, read, refuse_without, target_intensity, translate

log = logging.getLogger(__name__)
Writer = Callable[[Path, Scan, list[Slice], list[np.ndarray]], list[tuple[str, str, Label]]]
DICOM_MODALITIES = {"mri": "MR", "pet": "PT", "ct": "CT"}      # what DICOM calls the modalities of these folders
VOLUMES = ("nifti", "dicom")        # formats that hold a scan whole, empty slices and all


def translate_scans(opt: Namespace, model: Any = None) -> None:
    """What `duiit translate` does. model: the run's, where it is loaded already."""
    refuse_without(model or find_model_using_name(opt.model), "translator", opt)
    source, intensity = source_of(opt), target_intensity(opt)
    write = writer_of(opt, intensity)
    model = model or load_model(opt, "translator")
    net = model.translator(source)
    scans = loader_of(source).find_scans(Path(opt.input), opt)
    rows: list[tuple[str, str, Label]] = []
    with atomic_folder(opt.output, opt.force) as folder:
        for scan in track(scans, f"translating {source}", total=len(scans)):
            slices, images = translate_scan(net, scan, source, opt, model.device)
            rows += write(folder, scan, slices, images) if slices else []
        write_csv(folder / "labels.csv", [(f, p, "" if label is None else label) for f, p, label in rows], WRITTEN)
    unlabelled = sum(label is None for _, _, label in rows)
    log.info("%d files of %d scans written to %s, %d without a label", len(rows), len(scans), opt.output, unlabelled)


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
    slices = prepared.slices
    images = blend_neighbours(translate(net, prepared.images, opt, device), opt.slice_blend)
    if opt.keep_network_size:
        slices = resampling.on_network_grid(slices, images, opt)
    else:
        images = [resampling.to_own_grid(i, s, opt) for i, s in zip(images, slices, strict=True)]
    if opt.format in VOLUMES or opt.keep_empty:
        return slices, images
    kept = [n for n, empty in enumerate(prepared.empty) if not empty]       # there is nothing on these to train on
    return [slices[n] for n in kept], [images[n] for n in kept]


def writer_of(opt: Namespace, intensity: Intensity) -> Writer:
    """The function (folder, scan, slices, images) -> [(file, patient, label)] that writes --format."""
    if opt.format != "dicom":
        spacing = opt.spacing if opt.keep_network_size else None
        return lambda folder, scan, slices, images: write_scan(folder, scan, slices, images, intensity, opt.format,
                                                               spacing)
    if intensity.unit != HU:
        raise UserError(f"--format dicom: writes CT, but the target of this run is in {intensity.unit} values; "
                        "give --format nifti or tiff")
    identity = _identity(opt, intensity)
    if identity.window:
        log.warning("--format dicom: this run knows only %g to %g HU (--ct_window %s): bone and air are written as "
                    "these ends, under a tag that says HU. Each file says so; do not measure beyond",
                    *identity.window, opt.ct_window)
    return partial(_write_dicom, intensity=intensity, identity=identity, keep_identity=opt.keep_identity)


def _write_dicom(folder: Path, scan: Scan, slices: list[Slice], images: Sequence[np.ndarray], intensity: Intensity,
                 identity: SeriesIdentity, keep_identity: bool) -> list[tuple[str, str, Label]]:
    if images[0].shape[0] != 1:
        raise UserError(f"--format dicom: holds 1 channel, not {images[0].shape[0]}; give --format tiff or npy")
    volume = intensity.restore(np.stack(images)[:, 0])
    return write_dicom(folder, scan, slices, volume, identity=identity, keep_identity=keep_identity)


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
