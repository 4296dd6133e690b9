"""Reads the pixels of one DICOM series into the modality's unit: HU for CT, SUV for PET where the header allows it."""
import logging
import warnings
from operator import itemgetter
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut, apply_rescale, get_decoder
from pydicom.uid import UID

from duiit.data.readers.common import AIR_HU, check_size, finish, notice, reading
from duiit.data.readers.dicom_series import NOT_IMAGES, is_incomplete, slice_normal
from duiit.data.readers.slice import DISPLAY, GREY, HU, SUV, Geometry
from duiit.data.readers.suv import suv_factor
from duiit.util.errors import UserError

warnings.filterwarnings("ignore", module=r"pydicom\.")  # about odd values that the user cannot mend

log = logging.getLogger(__name__)
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TISSUE_HU = (-900.0, 3071.0)  # a padding value in here could as well be an honest pixel


def read_series(files: tuple[Path, ...]) -> tuple[list[tuple[np.ndarray, Path]], str, Geometry | None]:
    """The images of a series, in the order of `files` (frames by position), each with its file; unit; geometry.

    Images are float32, (H, W) or (3, H, W), oriented as stored. Geometry is None where the header tells no position.
    Raises UserError for damaged files, unsupported compression, and images of unlike sizes.
    """
    images, places, units, factor = [], [], set(), None
    for path in files:
        with reading(path, "a DICOM image"):
            ds = _load(path)
            if factor is None:
                factor = _suv_of(ds, path)
            pixels, unit = _values(ds, path, factor)
            frames = [(_depth(place), i, place) for i in range(len(pixels)) for place in [_frame_place(ds, i)]]
            frames.sort(key=itemgetter(0, 1))
        images += [(finish(pixels[i], path), path) for _, i, _ in frames]
        places += [place for _, _, place in frames]
        units.add(unit)
    if len({image.shape for image, _ in images}) > 1:
        raise UserError(f"{files[0].parent}: the images of one series differ in size; split the series")
    return images, units.pop() if len(units) == 1 else GREY, _geometry(places, files[0])


def patient_age(path: Path) -> str | None:
    """Patient's Age (0010,1010), PS3.3 C.7.2.2, as it is written; None where it is missing or the file is damaged."""
    try:
        ds = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=["PatientAge"])
        return str(ds.get("PatientAge") or "") or None
    except Exception:  # reading its pixels will say what is wrong with the file
        return None


def _load(path: Path) -> pydicom.Dataset:
    ds = pydicom.dcmread(path, force=True)
    modality = ds.get("Modality") or "no modality"
    if not ds.get("Rows") or not ds.get("Columns") or modality in NOT_IMAGES:
        if is_incomplete(ds):
            raise UserError(f"{path}: is not a DICOM file, or only a part of one; restore or remove it")
        raise UserError(f"{path}: is a DICOM object without an image of the patient ({modality}); remove it")
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


def _values(ds: pydicom.Dataset, path: Path, factor: float) -> tuple[np.ndarray, str]:
    """(N, H, W) or (N, 3, H, W) in the modality's unit, and that unit."""
    stored = _decoded(ds, path)
    stored = stored if int(ds.get("NumberOfFrames") or 1) > 1 else stored[None]
    if ds.get("PhotometricInterpretation") == "PALETTE COLOR":  # PS3.3 C.7.6.3.1.5: entries of 8 or 16 bits
        stored = apply_color_lut(stored, ds)
        stored = (stored >> 8 if stored.dtype.itemsize > 1 else stored).astype(np.uint8)
    if stored.ndim == 4:
        return np.moveaxis(stored, -1, 1)[:, :3], DISPLAY if stored.dtype == np.uint8 else GREY
    values = np.stack([apply_rescale(frame, _rescale_of(ds, i)) for i, frame in enumerate(stored)])
    modality = str(ds.get("Modality") or "")
    unit = _unit(ds, modality, values, factor, path)
    if unit == SUV:
        values = values * factor
    values = _without_padding(ds, stored, values, unit)
    if unit == GREY and ds.get("PhotometricInterpretation") == "MONOCHROME1":  # PS3.3 C.7.6.3.1.2: lowest is white
        values = values.max() + values.min() - values
    return values, unit


def _decoded(ds: pydicom.Dataset, path: Path) -> np.ndarray:
    """The stored values as pydicom decodes them, colours as RGB."""
    syntax = ds.file_meta.TransferSyntaxUID
    try:
        return ds.pixel_array
    except Exception as error:
        if not syntax.is_compressed:
            raise
        raise UserError(f"{path}: compressed as {syntax.name} in a way that cannot be decoded here; pip install "
                        "'duiit[dicom]' adds a decoder; else restore the file or remove it") from error


def _unit(ds: pydicom.Dataset, modality: str, values: np.ndarray, factor: float, path: Path) -> str:
    if modality == "PT":
        return SUV if factor > 0 else GREY
    if modality != "CT":
        return GREY
    # Rescale Type (0028,1054): CT images may leave it out, and then mean HU (PS3.3 C.8.2.1.1.2 and C.11.1.1.2).
    kind = str(_rescale_of(ds, 0).get("RescaleType") or "HU").upper()
    if kind not in ("HU", "US", "HU_MOD"):
        notice(f"{path.parent}: CT with Rescale Type (0028,1054) '{kind}', not HU; treated as grey values")
        return GREY
    if "RescaleIntercept" not in _rescale_of(ds, 0) and values.min() >= 0 and values.max() > 255:
        notice(f"{path.parent}: CT without Rescale Intercept (0028,1052) and without negative values cannot be in HU; "
               "treated as grey values")
        return GREY
    return HU


def _rescale_of(ds: pydicom.Dataset, frame: int) -> pydicom.Dataset:
    """What holds slope and intercept of one frame: its functional group (PS3.3 C.7.6.16.2.9), else the image itself."""
    return _functional_group(ds, frame, "PixelValueTransformationSequence") or ds


def _functional_group(ds: pydicom.Dataset, frame: int, name: str) -> pydicom.Dataset | None:
    """An item of the multi-frame functional groups (PS3.3 C.7.6.16): the frame's own, else the one that all share."""
    per_frame, shared = ds.get("PerFrameFunctionalGroupsSequence"), ds.get("SharedFunctionalGroupsSequence")
    for group in (per_frame[frame] if per_frame and frame < len(per_frame) else None, shared[0] if shared else None):
        if group is not None and group.get(name):
            return group[name][0]
    return None


def _without_padding(ds: pydicom.Dataset, stored: np.ndarray, values: np.ndarray, unit: str) -> np.ndarray:
    """`values` with what the scanner has not seen set to air (CT) or to the lowest seen value, PS3.3 C.7.5.1.1.2."""
    padding = _padding(ds, stored)
    if padding is not None and padding.any() and not padding.all():
        # Some headers name a tissue value as padding, against the standard; true padding reaches into a corner.
        at_corner = padding[:, [0, 0, -1, -1], [0, -1, 0, -1]].any()
        suspect = unit == HU and _TISSUE_HU[0] < values[padding].min() and values[padding].max() < _TISSUE_HU[1]
        if at_corner or not suspect:
            values = np.where(padding, AIR_HU if unit == HU else values[~padding].min(), values)
    return np.maximum(values, AIR_HU) if unit == HU else values


def _padding(ds: pydicom.Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Where stored values are Pixel Padding Value (0028,0120), or up to the Range Limit (0028,0121)."""
    value = ds.get("PixelPaddingValue")
    if not isinstance(value, int) or stored.dtype.kind not in "iu":
        return None
    limit = ds.get("PixelPaddingRangeLimit")
    ends = (value, limit if isinstance(limit, int) else value)
    # Written with the wrong sign (63536 for -2000), it means the same bits.
    low, high = sorted(int(np.array(end).astype(stored.dtype)) for end in ends)
    return (stored >= low) & (stored <= high)


def _suv_of(ds: pydicom.Dataset, path: Path) -> float:
    """The series' factor to SUV, or -1 with a notice; 1 for what is not PET."""
    if ds.get("Modality") != "PT":
        return 1.0
    factor, reason = suv_factor(ds)
    if factor is None or not np.isfinite(factor) or factor <= 0:
        notice(f"{path.parent}: PET stays in grey values instead of SUV: {reason or 'the factor is not positive'}")
        return -1.0
    return factor


def _frame_place(ds: pydicom.Dataset, frame: int) -> np.ndarray | None:
    """(4, 3) in LPS mm: steps along columns and rows, slice step, origin (PS3.3 C.7.6.2.1.1); None where not told."""
    plane = _functional_group(ds, frame, "PlaneOrientationSequence") or ds
    origin = (_functional_group(ds, frame, "PlanePositionSequence") or ds).get("ImagePositionPatient")
    measures = _functional_group(ds, frame, "PixelMeasuresSequence") or ds
    try:
        orientation = np.asarray(plane.get("ImageOrientationPatient"), dtype=float)
        row_step, column_step = (float(value) for value in measures.get("PixelSpacing"))
        gap = abs(float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 1.0)) or 1.0
        normal = slice_normal(orientation)
        place = np.stack([orientation[:3] * column_step, orientation[3:] * row_step, normal * gap,
                          np.asarray(origin, dtype=float)])
    except (TypeError, ValueError):
        return None
    return place if np.isfinite(place).all() and min(row_step, column_step) > 0 else None


def _depth(place: np.ndarray | None) -> float:
    """mm along the slice normal; 0 where not told, which leaves frames in their order."""
    return 0.0 if place is None else round(float(place[2] @ place[3] / np.linalg.norm(place[2])), 3)


def _geometry(places: list[np.ndarray | None], path: Path) -> Geometry | None:
    """One affine for the series; the slice step is the mean one, which keeps a tilted gantry's shear."""
    known = [place for place in places if place is not None]
    if not known or len(known) < len(places):
        return None
    origins = np.stack([place[3] for place in known])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = known[0][:3].T, origins[0]
    steps = np.diff(origins, axis=0)
    if len(steps) and np.linalg.norm(steps.mean(axis=0)) > 1e-3:
        affine[:3, 2] = steps.mean(axis=0)
        if np.abs(steps - steps.mean(axis=0)).max() > 0.1:
            log.info("%s: the distance between slices varies; the mean one stands for it", path.parent)
    return Geometry(_LPS_TO_RAS @ affine)
