"""Reads 2-D image files: PNG, JPEG, BMP, PNM through Pillow, TIFF (any depth, several pages) through tifffile."""
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from duiit.data.readers.common import check_size, finish, reading, settle_unit
from duiit.data.readers.slice import DISPLAY, GREY, HU, SUV
from duiit.util.errors import UserError

# Text chunks by which a PNG says what its unsigned integers mean: value in `Unit` = slope * stored + intercept.
PNG_SLOPE, PNG_INTERCEPT, PNG_UNIT = "RescaleSlope", "RescaleIntercept", "Unit"

# Keys of the JSON in a TIFF's description by which `duiit translate` says what its 16 bits mean: 0 and 65535 are the
# ends of the span, in the unit.
TIFF_UNIT, TIFF_SPAN = "unit", "span"
TIFF_SPACING = "spacing"        # mm between rows and between columns, where the network's grid has one (--spacing)
_UNITS = (HU, SUV, GREY, DISPLAY)

_AS_STORED = {"L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"}


def read_image(path: Path, expected: str | None = None) -> tuple[list[np.ndarray], str, tuple[float, float] | None]:
    """All images in one file, each float32 (H, W) or (3, H, W), their unit and their span (see `Slice`).

    Values are as stored, alpha is left out. expected: the unit the cohort is known to have, used where the file's type
    can hold it. 8-bit files are DISPLAY. Raises UserError.
    """
    with reading(path, "an image"):
        if path.suffix.lower() in (".tif", ".tiff"):
            return _read_tiff(path, expected)
        pixels, text = _read_with_pillow(path)
        if PNG_SLOPE in text or PNG_INTERCEPT in text:
            pixels = pixels * float(text.get(PNG_SLOPE, 1)) + float(text.get(PNG_INTERCEPT, 0))
            return [finish(pixels, path)], text.get(PNG_UNIT) or expected or GREY, None
        return [finish(pixels, path)], settle_unit(expected, pixels.dtype, False, path, DISPLAY), None


def _read_with_pillow(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    """(H, W) or (3, H, W) as stored, and the file's text chunks."""
    try:
        image = Image.open(path)
    except Image.DecompressionBombError:
        raise UserError(f"{path}: claims more pixels than can be read; reduce its size or remove it") from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: {_what_instead(path)}") from None
    with image:
        check_size(path, (image.height, image.width))
        _refuse_deep_colour(path, image)
        if image.mode == "1":
            image = image.convert("L")
        elif image.mode not in _AS_STORED:
            image = _colour_without_alpha(image)
        pixels = np.asarray(image)
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


def _refuse_deep_colour(path: Path, image: Image.Image) -> None:
    """Pillow silently cuts 16-bit colour PNGs to 8 bits; say so instead."""
    if image.format != "PNG":
        return
    with path.open("rb") as file:
        header = file.read(26)  # signature (8), IHDR length and name (8), width, height (8), bit depth, colour type
    if header[24] == 16 and header[25] != 0:
        raise UserError(f"{path}: 16-bit PNG with colour or alpha is not supported; save it as 16-bit grey or as TIFF")


def _what_instead(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:] == b"DICM":
        return "is a DICOM file under an image's name; rename it to end in .dcm"
    return f"is not an image, though its name ends in {path.suffix}; restore or remove it"


def _read_tiff(path: Path, expected: str | None) -> tuple[list[np.ndarray], str, tuple[float, float] | None]:
    meaning = None
    try:
        pixels, axes, meaning = _tiff_pixels(path)
    except UserError:
        raise
    except Exception as error:
        # Without imagecodecs tifffile lacks some compressions (LZW, JPEG) that Pillow's libtiff knows.
        if "imagecodecs" not in str(error):
            raise
        pixels, _ = _read_with_pillow(path)
        axes = "YX" if pixels.ndim == 2 else "SYX"
    pages = _pages(pixels, axes, path)
    if meaning is None:
        return [finish(page, path) for page in pages], settle_unit(expected, pixels.dtype, False, path, DISPLAY), None
    unit, (low, high) = meaning
    return [finish(page * ((high - low) / 65535) + low, path) for page in pages], unit, (low, high)


def _tiff_pixels(path: Path) -> tuple[np.ndarray, str, tuple[str, tuple[float, float]] | None]:
    """The first image series of a TIFF, the letters of its axes, colours spread out where it has a palette, and its
    unit and span where it tells them."""
    with tifffile.TiffFile(path) as file:
        if not file.series:
            raise UserError(f"{path}: holds no image; restore or remove it")
        series, page = file.series[0], file.pages.first
        check_size(path, (page.imagelength, page.imagewidth))
        if series.size > 4_000_000_000:
            raise UserError(f"{path}: claims more pixels than can be read; reduce its size or remove it")
        pixels = series.asarray()
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            table = page.colormap  # (3, 2**bits), 16 bits a colour whatever the pixels' own depth
            if table is None:
                raise UserError(f"{path}: its pixels stand for colours that it does not hold; restore or remove it")
            return (table[:, pixels] >> 8).astype(np.uint8), "S" + series.axes, None
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind in "bu":
            pixels = ~pixels  # for unsigned values: highest - value
        pixels = pixels.astype(np.uint8) * 255 if pixels.dtype.kind == "b" else pixels
        return pixels, series.axes, _meaning(file, path)


def _meaning(file: tifffile.TiffFile, path: Path) -> tuple[str, tuple[float, float]] | None:
    """Unit and span of a TIFF that `duiit translate` wrote; None of any other."""
    told = (file.shaped_metadata or ({},))[0]
    if TIFF_SPAN not in told or file.series[0].dtype != np.uint16:
        return None
    low, high = (float(x) for x in told[TIFF_SPAN])
    if told.get(TIFF_UNIT) not in _UNITS or not (np.isfinite([low, high]).all() and low < high):
        raise UserError(f"{path}: its description names no unit and range that can be used; translate it again")
    return told[TIFF_UNIT], (low, high)


def tiff_spacing(path: Path) -> tuple[float, float] | None:
    """mm between rows and between columns of a TIFF that `duiit translate` wrote; None where it does not tell."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    with reading(path, "an image"), tifffile.TiffFile(path) as file:
        told = (file.shaped_metadata or ({},))[0].get(TIFF_SPACING)
        if told is None:
            return None
        row, column = (float(mm) for mm in told)
        if not (np.isfinite([row, column]).all() and min(row, column) > 0):
            raise UserError(f"{path}: its description names no pixel spacing that can be used; translate it again")
        return row, column


def _pages(pixels: np.ndarray, axes: str, path: Path) -> list[np.ndarray]:
    """Images (H, W) or (3, H, W) from an array whose axes tifffile has named: S and C are colours, others pages."""
    order = "".join(axis for axis in axes if pixels.shape[axes.index(axis)] > 1 or axis in "YX")
    pixels = pixels.reshape([n for axis, n in zip(axes, pixels.shape, strict=True) if axis in order])
    colour = next((axis for axis in order if axis in "SC"), "")
    stack = [axis for axis in order if axis not in "YX" + colour]
    if len(stack) > 1 or "Y" not in order or "X" not in order:
        raise UserError(f"{path}: has too many dimensions ({axes}); save one stack of images a file")
    pixels = np.transpose(pixels, [order.index(axis) for axis in [*stack, *colour, "Y", "X"]])
    pages = list(pixels) if stack else [pixels]
    return [_without_alpha(page, path) for page in pages]


def _without_alpha(page: np.ndarray, path: Path) -> np.ndarray:
    if page.ndim == 2 or page.shape[0] == 3:
        return page
    if page.shape[0] in (2, 4):  # the last of them is alpha
        return page[0] if page.shape[0] == 2 else page[:3]
    raise UserError(f"{path}: has {page.shape[0]} channels; 1 or 3 can be read")
