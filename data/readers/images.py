"""Reads 2-D image files by what they hold, whatever they are called: PNG, JPEG and BMP through Pillow, PNM through
netpbmfile (Pillow stretches some of its values and cuts others), TIFF in `tiff.py`."""
from pathlib import Path

import numpy as np
from netpbmfile import NetpbmFile
from PIL import Image, UnidentifiedImageError

from duiit.data.readers.common import check_size, finish, reading, settle_unit
from duiit.data.readers.slice import DISPLAY, GREY
from duiit.data.readers.tiff import TIFF_SPAN, TIFF_UNIT, read_tiff
from duiit.util.errors import UserError

__all__ = ["PNG_INTERCEPT", "PNG_SLOPE", "PNG_UNIT", "TIFF_SPAN", "TIFF_UNIT", "read_image"]

# Text chunks by which a PNG says what its unsigned integers mean: value in `Unit` = slope * stored + intercept.
PNG_SLOPE, PNG_INTERCEPT, PNG_UNIT = "RescaleSlope", "RescaleIntercept", "Unit"

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNM = tuple(b"P%d" % n + space for n in range(1, 7) for space in (b" ", b"\t", b"\n", b"\r", b"#"))
_PILLOW = ("PNG", "JPEG", "BMP")
_AS_STORED = {"L", "I;16", "I;16B", "I;16L", "I;16N"}
_COLOURS = {"RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "LA", "La", "YCbCr"}


def read_image(path: Path, expected: str | None = None) -> tuple[list[np.ndarray], str, tuple[float, float] | None]:
    """All images in one file, each float32 (H, W) or (3, H, W), their unit and their span (see `Slice`).

    Values are as stored, alpha is left out. expected: the unit the cohort is known to have, used where the file's type
    can hold it. 8-bit files are DISPLAY. Raises UserError.
    """
    with reading(path, "an image"):
        with path.open("rb") as file:
            start = file.read(132)
        if start.startswith(_TIFF):
            return read_tiff(path, expected)
        if start.startswith(_PNM):
            pixels, stored = _read_pnm(path)
            return [finish(pixels, path)], settle_unit(expected, stored, False, path, DISPLAY), None
        pixels, text = _read_with_pillow(path, start)
        if PNG_SLOPE in text or PNG_INTERCEPT in text:
            pixels = pixels * float(text.get(PNG_SLOPE, 1)) + float(text.get(PNG_INTERCEPT, 0))
            return [finish(pixels, path)], text.get(PNG_UNIT) or expected or GREY, None
        return [finish(pixels, path)], settle_unit(expected, pixels.dtype, False, path, DISPLAY), None


def _read_pnm(path: Path) -> tuple[np.ndarray, np.dtype]:
    """(H, W) or (3, H, W), and the type it is stored in. Up to 8 bits fill 0 to 255, whatever white is stored as."""
    with NetpbmFile(path) as file:
        check_size(path, (file.height, file.width))
        samples = file.height * file.width * file.depth
        if file.magicnumber in ("P4", "P5", "P6"):
            row = -(-file.width // 8) if file.magicnumber == "P4" else file.width * file.depth * file.dtype.itemsize
            _check_length(path, path.stat().st_size - file.dataoffset, row * file.height)
        pixels, stored, white = file.asarray(), file.dtype, file.maxval
    if pixels.size != samples:
        raise UserError(f"{path}: holds {pixels.size / samples:g} images; save one a file")
    if stored.kind == "b":
        return np.where(pixels, 0, 255).astype(np.uint8), np.dtype(np.uint8)       # 1 is ink
    if int(pixels.max()) > white:
        raise UserError(f"{path}: holds the value {pixels.max()}, above its white ({white}); restore or remove it")
    if stored.itemsize == 1 and white != 255:
        pixels = pixels * np.float32(255 / white)
    return (pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)), stored


def _check_length(path: Path, length: int, expected: int) -> None:
    """One image exactly, but for a line's end: PNM files may hold several, one behind the other."""
    if length < expected:
        raise UserError(f"{path}: ends before its last row; restore or remove it")
    if length > expected + 2:
        raise UserError(f"{path}: holds more than one image; save one a file")


def _read_with_pillow(path: Path, start: bytes) -> tuple[np.ndarray, dict[str, str]]:
    """(H, W) or (3, H, W) as stored, and the file's text chunks. start: the first bytes of the file."""
    try:
        image = Image.open(path, formats=_PILLOW)
    except Image.DecompressionBombError:
        raise UserError(f"{path}: claims more pixels than can be read; reduce its size or remove it") from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: {_what_instead(path, start)}") from None
    with image:
        check_size(path, (image.height, image.width))
        _refuse(path, image, start)
        if image.mode == "1":
            image = image.convert("L")
        elif image.mode not in _AS_STORED and not (image.mode == "I" and image.format == "PNG"):
            image = _colour_without_alpha(image)
        pixels = np.asarray(image)
        if image.mode == "I":       # some versions of Pillow give the 16 bits of a PNG as int32, as if it had a sign
            pixels = pixels.astype(np.uint16)
        text = {key: value for key, value in image.info.items() if isinstance(key, str) and isinstance(value, str)}
    return (pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)), text


def _colour_without_alpha(image: Image.Image) -> Image.Image:
    """RGB, or grey where the palette or the alpha's partner is grey; what is transparent becomes black."""
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), over).convert("RGB")
    else:
        flat = image.convert("RGB")
    if image.mode in ("LA", "La", "P", "PA"):
        red, green, blue = flat.split()
        if red.tobytes() == green.tobytes() == blue.tobytes():
            return red
    flat.info = image.info
    return flat


def _refuse(path: Path, image: Image.Image, start: bytes) -> None:
    """What Pillow would give in part: the first of several images, or 8 of the 16 bits of a PNG in colour."""
    count = getattr(image, "n_frames", 1)
    if count > 1:
        raise UserError(f"{path}: holds {count} images; save one a file")
    # signature (8), IHDR length and name (8), width, height (8), bit depth, colour type
    if image.format == "PNG" and start[24] == 16 and start[25] != 0:
        raise UserError(f"{path}: 16-bit PNG with colour or alpha is not supported; save it as 16-bit grey or as TIFF")
    if image.mode not in _AS_STORED | _COLOURS and not (image.mode in ("1", "I") and image.format != "JPEG"):
        raise UserError(f"{path}: its colours are {image.mode}; save it as grey values or RGB")


def _what_instead(path: Path, start: bytes) -> str:
    if start[128:] == b"DICM":
        return "is a DICOM file under an image's name; rename it to end in .dcm"
    return (f"is no PNG, JPEG, BMP, PNM or TIFF image, though its name ends in {path.suffix}; convert it to one of "
            "them, restore it, or remove it")
