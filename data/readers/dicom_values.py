"""From the stored pixels of a DICOM file to the modality's unit: rescaling, lowest-is-white, padding."""
from pathlib import Path

import numpy as np
import pydicom
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_color_lut, apply_modality_lut
from pydicom.uid import JPEGTransferSyntaxes

from duiit.data.readers.common import AIR_HU, notice
from duiit.data.readers.dicom_frames import functional_group
from duiit.data.readers.slice import DISPLAY, GREY, HU, SUV
from duiit.util.errors import UserError

_TISSUE_HU = (-900.0, 3071.0)  # a padding value in here could as well be an honest pixel


def values_of(ds: pydicom.Dataset, path: Path, factor: float) -> tuple[np.ndarray, str]:
    """(N, H, W) or (N, 3, H, W) in the modality's unit, and that unit. factor: to SUV, not positive if not known."""
    stored = _decoded(ds, path)
    stored = stored if int(ds.get("NumberOfFrames") or 1) > 1 else stored[None]
    if ds.get("PhotometricInterpretation") == "PALETTE COLOR":  # PS3.3 C.7.6.3.1.5: entries of 8 or 16 bits
        stored = apply_color_lut(stored, ds)
        stored = (stored >> 8 if stored.dtype.itemsize > 1 else stored).astype(np.uint8)
    if stored.ndim == 4:
        return np.moveaxis(stored, -1, 1)[:, :3], DISPLAY if stored.dtype == np.uint8 else GREY
    values = np.stack([_rescaled(frame, _rescale_of(ds, i), path) for i, frame in enumerate(stored)])
    unit = _unit(ds, values, factor, path)
    if unit == SUV:
        values = values * factor
    # Only a picture is turned: what is in HU or SUV means the same whichever way it is shown.
    if unit in (GREY, DISPLAY) and ds.get("PhotometricInterpretation") == "MONOCHROME1":
        values = _lowest_black(ds, stored, path)
    return _without_padding(ds, stored, values, unit), unit


def _decoded(ds: pydicom.Dataset, path: Path) -> np.ndarray:
    """The stored values as pydicom decodes them, colours as RGB."""
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax in JPEGTransferSyntaxes:
        _check_ends(ds, path)
    try:
        return ds.pixel_array
    except Exception as error:
        if not syntax.is_compressed:
            raise
        raise UserError(f"{path}: compressed as {syntax.name} in a way that cannot be decoded here; pip install "
                        "'duiit[dicom]' adds a decoder; else restore the file or remove it") from error


def _check_ends(ds: pydicom.Dataset, path: Path) -> None:
    """Refuses JPEGs without an end after their last scan: decoders fill what was lost with grey, without a word."""
    count = int(ds.get("NumberOfFrames") or 1)
    for n, frame in enumerate(generate_frames(ds.PixelData, number_of_frames=count)):
        if frame.rfind(b"\xff\xd9") <= frame.rfind(b"\xff\xda"):      # EOI and SOS, which stuffing keeps out of data
            raise UserError(f"{path}: its compressed image {n + 1} of {count} is cut off; restore or remove it")


# -- rescaling -----------------------------------------------------------------------------------------------------

def _rescale_of(ds: pydicom.Dataset, frame: int) -> pydicom.Dataset:
    """What holds slope and intercept of one frame: its functional group (PS3.3 C.7.6.16.2.9), else the image itself."""
    return functional_group(ds, frame, "PixelValueTransformationSequence") or ds


def _slope_and_intercept(rescale: pydicom.Dataset) -> tuple[float, float]:
    """Rescale Slope (0028,1053) and Intercept (0028,1052); one that is missing or empty changes nothing: 1 and 0."""
    slope, intercept = rescale.get("RescaleSlope"), rescale.get("RescaleIntercept")
    return 1.0 if slope in (None, "") else float(slope), 0.0 if intercept in (None, "") else float(intercept)


def _rescaled(frame: np.ndarray, rescale: pydicom.Dataset, path: Path) -> np.ndarray:
    """Stored values -> the modality's, by the Modality LUT where there is one (PS3.3 C.11.1)."""
    if rescale.get("ModalityLUTSequence"):
        return apply_modality_lut(frame, rescale)
    slope, intercept = _slope_and_intercept(rescale)
    if slope == 0 and frame.min() < frame.max():
        raise UserError(f"{path}: its Rescale Slope (0028,1053) is 0, which makes all pixels alike; correct the header")
    return frame if (slope, intercept) == (1.0, 0.0) else frame.astype(np.float64) * slope + intercept


def _lowest_black(ds: pydicom.Dataset, stored: np.ndarray, path: Path) -> np.ndarray:
    """The values of an image whose lowest is white (MONOCHROME1, PS3.3 C.7.6.3.1.2), lowest black as in all others.

    Turned within the range that the header allows, not that of the file, so that all images of a series go together.
    """
    turned = np.empty(stored.shape, np.float64)
    for i, frame in enumerate(stored):
        rescale = _rescale_of(ds, i)
        if rescale.get("ModalityLUTSequence"):      # such a table is for the values as they are stored
            bits = int(rescale.ModalityLUTSequence[0].LUTDescriptor[2])
            turned[i] = 2.0 ** bits - 1 - _rescaled(frame, rescale, path)
            continue
        # 0 to 2^b - 1, or -2^(b-1) to 2^(b-1) - 1: the sum of both ends. Floats have no ends.
        ends = {"u": 2.0 ** int(ds.BitsStored) - 1, "b": 1.0, "i": -1.0}.get(frame.dtype.kind, 0.0)
        turned[i] = _rescaled(ends - frame, rescale, path)
    return turned


# -- units ---------------------------------------------------------------------------------------------------------

def _unit(ds: pydicom.Dataset, values: np.ndarray, factor: float, path: Path) -> str:
    modality = str(ds.get("Modality") or "")
    if modality == "PT":
        return SUV if factor > 0 else GREY
    if modality != "CT":
        return GREY
    rescale = _rescale_of(ds, 0)
    # Rescale Type (0028,1054): CT images may leave it out, and then mean HU (PS3.3 C.8.2.1.1.2 and C.11.1.1.2).
    kind = str(rescale.get("RescaleType") or "HU").upper()
    if kind not in ("HU", "US", "HU_MOD"):
        notice(f"{path.parent}: CT with Rescale Type (0028,1054) '{kind}', not HU; treated as grey values")
        return GREY
    if _is_display(ds, rescale):
        notice(f"{path.parent}: 8-bit CT images without a rescale are not in HU; taken as windowed for display")
        return DISPLAY
    if rescale.get("RescaleIntercept") in (None, "") and values.min() >= 0 and values.max() > 255:
        notice(f"{path.parent}: CT without Rescale Intercept (0028,1052) and without negative values cannot be in HU; "
               "treated as grey values")
        return GREY
    return HU


def _is_display(ds: pydicom.Dataset, rescale: pydicom.Dataset) -> bool:
    """Whether a CT holds 0 to 255 as they are: HU need more than 8 bits, and air far below 0."""
    if rescale.get("ModalityLUTSequence") or ds.get("PixelRepresentation") or not ds.get("BitsStored"):
        return False
    return int(ds.BitsStored) <= 8 and _slope_and_intercept(rescale) == (1.0, 0.0)


# -- padding -------------------------------------------------------------------------------------------------------

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
