"""Reads the pixels of one DICOM series into the modality's unit: HU for CT, SUV for PET where the header allows it."""
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from duiit.data.readers.common import check_size, finish, notice, reading
from duiit.data.readers.dicom_frames import frame_order, frame_place
from duiit.data.readers.dicom_kinds import MOSAIC, kind_of
from duiit.data.readers.dicom_series import NOT_IMAGES, is_incomplete
from duiit.data.readers.dicom_stacks import same_places
from duiit.data.readers.dicom_values import values_of
from duiit.data.readers.slice import GREY, Geometry
from duiit.data.readers.suv import suv_factor
from duiit.util.errors import UserError
from duiit.util.file_index import FileIndex
from duiit.util.logs import remarks_on

UNEVEN = 0.1            # mm that a slice may lie off before it is told
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_series(files: tuple[Path, ...],
                only: tuple[int, ...] | None = None) -> tuple[list[tuple[np.ndarray, Path]], str, Geometry | None]:
    """The images of a series, in the order of `files` (frames by position), each with its file; unit; geometry.

    only: the frames wanted, in order, None for all. Images are float32, (H, W) or (3, H, W), oriented as stored.
    Geometry is None where the header tells no position. Raises UserError for damaged files, unsupported compression,
    images of unlike sizes, and several images at one position, which no order would make a volume of.
    """
    images, places, units, factor = [], [], set(), None
    for path in files:
        with reading(path, "a DICOM image"):
            ds = _load(path)
            if factor is None:
                factor = _suv_of(ds, path)
            pixels, unit = values_of(ds, path, factor)
            order = frame_order(ds) if only is None else list(only)
            places += [frame_place(ds, i) for i in order]
        images += [(finish(pixels[i], path), path) for i in order]
        units.add(unit)
    if len({image.shape for image, _ in images}) > 1:
        raise UserError(f"{files[0].parent}: the images of one series differ in size; split the series")
    return images, units.pop() if len(units) == 1 else GREY, _geometry(places, files)


def patient_age(path: Path, index: FileIndex) -> str | None:
    """Patient's Age (0010,1010), PS3.3 C.7.2.2, as it is written; None where it is missing or the file is damaged."""
    try:
        return index.recall(path, "age", _patient_age)
    except Exception:  # reading its pixels will say what is wrong with the file
        return None


def _patient_age(path: Path) -> str | None:
    with remarks_on(path):
        ds = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=["PatientAge"])
        return str(ds.get("PatientAge") or "") or None


def _load(path: Path) -> pydicom.Dataset:
    ds = pydicom.dcmread(path, force=True)
    modality = ds.get("Modality") or "no modality"
    if not ds.get("Rows") or not ds.get("Columns") or modality in NOT_IMAGES:
        if is_incomplete(ds):
            raise UserError(f"{path}: is not a DICOM file, or only a part of one; restore or remove it")
        raise UserError(f"{path}: is a DICOM object without an image of the patient ({modality}); remove it")
    if kind_of(ds) == MOSAIC:
        raise UserError(f"{path}: is a Siemens mosaic, which tiles many slices into one image; convert it to NIfTI "
                        "with dcm2niix")
    if not any(name in ds for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UserError(f"{path}: its header is there but its pixels are missing; restore or remove it")
    check_size(path, (int(ds.get("NumberOfFrames") or 1), int(ds.Rows), int(ds.Columns)))
    _check_decoder(ds, path)
    return ds


def _check_decoder(ds: pydicom.Dataset, path: Path) -> None:
    syntax: UID | None = ds.file_meta.get("TransferSyntaxUID")
    if syntax is None:  # no file meta (PS3.10 7.1): what pydicom found by trying
        ds.file_meta.TransferSyntaxUID = _guess(ds)
        return
    if not syntax.is_compressed:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        raise UserError(f"{path}: compressed as {syntax.name}, which cannot be read; store it uncompressed") from None
    if not available:
        raise UserError(f"{path}: compressed as {syntax.name}, which needs another decoder: pip install 'duiit[dicom]'")


def _guess(ds: pydicom.Dataset) -> UID:
    implicit, little = ds.original_encoding
    if implicit:
        return pydicom.uid.ImplicitVRLittleEndian
    return pydicom.uid.ExplicitVRLittleEndian if little or little is None else pydicom.uid.ExplicitVRBigEndian


def _suv_of(ds: pydicom.Dataset, path: Path) -> float:
    """The series' factor to SUV, or -1 with a notice; 1 for what is not PET."""
    if ds.get("Modality") != "PT":
        return 1.0
    factor, reason = suv_factor(ds)
    if factor is None or not np.isfinite(factor) or factor <= 0:
        notice(f"{path.parent}: PET stays in grey values instead of SUV: {reason or 'the factor is not positive'}")
        return -1.0
    return factor


def _geometry(places: list[np.ndarray | None], files: tuple[Path, ...]) -> Geometry | None:
    """One affine for the series; the slice step is the mean one, which keeps a tilted gantry's shear."""
    known = [place for place in places if place is not None]
    if not known or len(known) < len(places):
        return None
    origins = np.stack([place[3] for place in known])
    _refuse_repeats(origins @ known[0][2] / np.linalg.norm(known[0][2]), files)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = known[0][:3].T, origins[0]
    steps = np.diff(origins, axis=0)
    if len(steps):
        affine[:3, 2] = steps.mean(axis=0)
        _tell_unevenness(origins, files)
    return Geometry(_LPS_TO_RAS @ affine)


def _tell_unevenness(origins: np.ndarray, files: tuple[Path, ...]) -> None:
    """A line where slices would lie elsewhere in a volume of even steps, which is all that NIfTI can hold."""
    even = origins[0] + np.arange(len(origins))[:, None] * (origins[-1] - origins[0]) / (len(origins) - 1)
    off = float(np.linalg.norm(origins - even, axis=1).max())
    if off > UNEVEN:
        apart = np.linalg.norm(np.diff(origins, axis=0), axis=1)
        where = files[0] if len(files) == 1 else files[0].parent
        notice(f"{where}: its {len(origins)} slices lie {apart.min():.2f} to {apart.max():.2f} mm apart, so that a "
               f"volume of even steps (NIfTI) puts them up to {off:.1f} mm off; translate with --format dicom, which "
               "keeps each in its place, or add slices that are missing")


def _refuse_repeats(depths: np.ndarray, files: tuple[Path, ...]) -> None:
    count = len(depths) - len(set(same_places(depths)))
    if count:
        where = files[0] if len(files) == 1 else f"{files[0].parent}: the series of {files[0].name}"
        raise UserError(f"{where}: {count} of {len(depths)} images lie at the position of another, and nothing in "
                        "their headers tells them apart; take out those that do not belong together")
