"""Reads TIFF files of any depth, byte order, compression and number of pages, through tifffile with imagecodecs.

No second decoder stands by: one that knows less would give the first page alone, other types or other byte orders
without a word. What tifffile cannot decode is refused.
"""
import re
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, TIFF, TiffFile, TiffPage, TiffPageSeries

from duiit.data.readers.common import MAX_VOXELS, check_size, finish, reading, settle_unit
from duiit.data.readers.slice import DISPLAY, GREY, HU, SUV
from duiit.util.errors import UserError

# Keys of the JSON in a TIFF's description by which `duiit translate` says what its 16 bits mean: 0 and 65535 are the
# ends of the span, in the unit.
TIFF_UNIT, TIFF_SPAN = "unit", "span"
TIFF_SPACING = "spacing"        # mm between rows and between columns, where the network's grid has one (--spacing)
_UNITS = (HU, SUV, GREY, DISPLAY)

_KINDS = {PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB, PHOTOMETRIC.PALETTE}
_JPEG = {COMPRESSION.OJPEG, COMPRESSION.JPEG}       # whose decoder gives RGB for YCbCr
_ALPHA = {EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA}
_DESCRIBED = {"shaped", "imagej", "ome"}            # whose descriptions say which pages are channels

Meaning = tuple[str, tuple[float, float]]


def read_tiff(path: Path, expected: str | None) -> tuple[list[np.ndarray], str, tuple[float, float] | None]:
    """All images in a TIFF, each float32 (H, W) or (3, H, W), their unit and their span (see `Slice`).

    Every page counts: of several sizes, types or colours none can be left out, so such a file is refused. Left out are
    only pages that the file itself calls reduced copies or transparency masks. Raises UserError.
    """
    with TiffFile(path, _multifile=False) as file:
        pages = _pages(file, path)
        series = _described(file, pages, path)
        images = _by_page(pages, path) if series is None else _by_series(series, path)
        meaning, stored = _meaning(file, path), np.dtype(pages[0].dtype)
    if meaning is None:
        return [finish(image, path) for image in images], settle_unit(expected, stored, False, path, DISPLAY), None
    unit, (low, high) = meaning
    return [finish(image * ((high - low) / 65535) + low, path) for image in images], unit, (low, high)


# -- which pages there are ---------------------------------------------------------------------------------------

def _pages(file: TiffFile, path: Path) -> list[TiffPage]:
    """The pages that are images by themselves, all of one size, type and colour, and all of their data there."""
    file.pages.useframes = False
    every = [page for page in file.pages if isinstance(page, TiffPage)]
    if not every:
        raise UserError(f"{path}: holds no image; restore or remove it")
    _check_last(file, every[-1], path)
    largest = max(page.imagelength * page.imagewidth for page in every)
    pages = [page for page in every if not page.is_mask
             and not (page.is_reduced and page.imagelength * page.imagewidth < largest)]
    kinds = Counter(_look(page) for page in pages)
    if len(kinds) > 1:
        what = ", ".join(f"{count} of {look}" for look, count in kinds.items())
        raise UserError(f"{path}: holds images that do not belong into one stack ({what}); save one kind alone")
    for page in pages:
        _check_page(page, path)
        _refuse_inner_images(page, path)
    if len(pages) * pages[0].size > MAX_VOXELS * 3:
        raise UserError(f"{path}: claims more pixels than can be read; reduce its size or remove it")
    return pages


def _check_last(file: TiffFile, page: TiffPage, path: Path) -> None:
    """Each page says where the next one is; tifffile stops where a file that was cut off leads nowhere."""
    tiff, handle = file.tiff, file.filehandle
    handle.seek(page.offset)
    count, = struct.unpack(tiff.tagnoformat, handle.read(tiff.tagnosize))
    handle.seek(page.offset + tiff.tagnosize + count * tiff.tagsize)
    following, = struct.unpack(tiff.offsetformat, handle.read(tiff.offsetsize))
    if following:
        raise UserError(f"{path}: the pages after number {page.index + 1} are missing; restore or remove it")


def _look(page: TiffPage) -> str:
    """What the pages of one stack have in common, in words."""
    samples = f" x {page.samplesperpixel} channels" if page.samplesperpixel > 1 else ""
    return f"{page.imagelength} x {page.imagewidth}{samples} {page.dtype} {_name(PHOTOMETRIC, page.photometric)}"


def _check_page(page: TiffPage, path: Path) -> None:
    """Refuse, before anything is decoded, what would be decoded wrongly, in part or not at all."""
    check_size(path, (page.imagelength, page.imagewidth))
    kind = page.photometric
    if kind not in _KINDS and not (kind == PHOTOMETRIC.YCBCR and page.compression in _JPEG):
        raise UserError(f"{path}: its colours are {_name(PHOTOMETRIC, kind)}; save it as grey values or RGB")
    if page.dtype is None or not isinstance(page.bitspersample, int):
        raise UserError(f"{path}: its values have {page.bitspersample} bits of a type that cannot be read; save it as "
                        "8-bit, 16-bit or float values")
    if kind == PHOTOMETRIC.MINISWHITE and np.dtype(page.dtype).kind not in "bu":
        raise UserError(f"{path}: white is its lowest value, and type {page.dtype} has no highest to count it from; "
                        "save it with black as the lowest value (MINISBLACK)")
    if kind == PHOTOMETRIC.PALETTE and (page.colormap is None or page.samplesperpixel > 1):
        raise UserError(f"{path}: its pixels stand for colours that it does not hold; restore or remove it")
    try:
        TIFF.DECOMPRESSORS[page.compression]
    except (KeyError, ImportError):
        raise UserError(f"{path}: its compression ({_name(COMPRESSION, page.compression)}) cannot be decoded; save it "
                        "with LZW, deflate or none") from None
    size = page.parent.filehandle.size
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if not parts or any(offset <= 0 or count <= 0 or offset + count > size for offset, count in parts):
        raise UserError(f"{path}: a part of page {page.index + 1} is missing; restore or remove it")


def _refuse_inner_images(page: TiffPage, path: Path) -> None:
    """Pages may hold images of their own (SubIFDs): smaller copies for viewers, and else what must not be lost."""
    for inner in page.pages or () if page.subifds else ():
        if isinstance(inner, TiffPage) and not inner.is_reduced \
                and inner.imagelength * inner.imagewidth >= page.imagelength * page.imagewidth:
            raise UserError(f"{path}: page {page.index + 1} holds further images within (SubIFDs); save one stack of "
                            "plain pages")


def _name(of: Any, number: int) -> str:
    try:
        return str(of(number).name)
    except ValueError:
        return f"number {number}"


# -- what their description makes of them ------------------------------------------------------------------------

def _described(file: TiffFile, pages: list[TiffPage], path: Path) -> TiffPageSeries | None:
    """The series whose description (OME, ImageJ, tifffile) says more than "one image a page"; None where pages do.

    Raises UserError where a description tells of other images than there are.
    """
    if not (file.is_ome or file.is_imagej or file.is_shaped):
        return None
    series = [one for one in file.series if one.kind in _DESCRIBED]
    if not series and not file.is_imagej:       # tifffile makes nothing of the description: pages are pages
        if file.is_ome and pages[0].samplesperpixel == 1 and re.search('SizeC="(?!1")', file.ome_metadata or ""):
            raise UserError(f"{path}: its pages are channels, in an OME set of several files; save one stack of images")
        return None
    planes = sum(one.size // pages[0].size for one in series) or (file.imagej_metadata or {}).get("images", 0)
    whole = len(series) == len(file.series) and all(page is not None for one in series for page in one.pages)
    alone = len(pages) == len(file.pages) == len(series) == 1       # ImageJ keeps large stacks under one page
    if not whole or not (planes == len(pages) or (alone and planes > 1)):
        raise UserError(f"{path}: its description tells of {planes} images, and it holds {len(pages)}; save it anew as "
                        "one stack of images")
    several = [one for one in series if any(n > 1 for axis, n in zip(one.axes, one.shape, strict=True) if axis == "C")]
    if len(series) > 1 and several:
        raise UserError(f"{path}: holds {len(series)} stacks of several channels; save one a file")
    for one in series:
        _stack_axes(one.axes, one.shape, path)
    return series[0] if several or planes > len(pages) else None


def _by_page(pages: list[TiffPage], path: Path) -> list[np.ndarray]:
    return [image for page in pages for image in _images(page.asarray(), page.axes, page, path)]


def _by_series(series: TiffPageSeries, path: Path) -> list[np.ndarray]:
    page = series.keyframe
    if page.photometric == PHOTOMETRIC.PALETTE and "C" in series.axes and len(series.pages) > 1:
        raise UserError(f"{path}: has several channels of palette colours; save it as grey values or RGB")
    return _images(series.asarray(), series.axes, page, path)


# -- pixels ------------------------------------------------------------------------------------------------------

def _images(pixels: np.ndarray, axes: str, page: TiffPage, path: Path) -> list[np.ndarray]:
    """Images (H, W) or (3, H, W) from an array whose axes tifffile has named: S and C are colours, others pages."""
    order = _stack_axes(axes, pixels.shape, path)
    pixels = pixels.reshape([n for n, axis in zip(pixels.shape, axes, strict=True) if n > 1 or axis in "YX"])
    if page.photometric == PHOTOMETRIC.PALETTE:
        pixels, order = _colours(page, pixels), "S" + order
    else:
        pixels = _from_black_to_white(pixels, page)
    colour = next((axis for axis in order if axis in "SC"), "")
    stack = [axis for axis in order if axis not in "YX" + colour]
    places = [order.index(axis) for axis in [*stack, *colour, "Y", "X"]]
    pixels = np.transpose(pixels, places)
    images = list(pixels) if stack else [pixels]
    return [_without_alpha(image, page if colour == "S" else None, path) for image in images]


def _stack_axes(axes: str, shape: tuple[int, ...], path: Path) -> str:
    """The axes longer than 1, and Y and X, checked: at most one of colours and one of images."""
    order = "".join(axis for axis, n in zip(axes, shape, strict=True) if n > 1 or axis in "YX")
    colours = sum(axis in "SC" for axis in order)
    if "Y" not in order or "X" not in order or colours > 1 or len(order) - colours > 3:
        raise UserError(f"{path}: has too many dimensions ({axes}); save one stack of images a file")
    return order


def _colours(page: TiffPage, pixels: np.ndarray) -> np.ndarray:
    """uint8 (3, ...) of pixels that are numbers of colours. A table has 16 bits a colour; some writers fill only 8."""
    table = np.asarray(page.colormap)
    if table.max() > 255:
        table = table >> 8
    return table.astype(np.uint8)[:, pixels]


def _from_black_to_white(pixels: np.ndarray, page: TiffPage) -> np.ndarray:
    """As stored, but black as the lowest value; fewer than 8 bits spread over 0 to 255."""
    bits = page.bitspersample
    if pixels.dtype.kind == "b":
        pixels, bits = pixels.astype(np.uint8), 1
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        pixels = np.subtract((1 << bits) - 1, pixels, dtype=pixels.dtype)
    if pixels.dtype.kind == "u" and bits < 8:
        return pixels * np.float32(255 / ((1 << bits) - 1))
    return pixels


def _without_alpha(image: np.ndarray, page: TiffPage | None, path: Path) -> np.ndarray:
    """page: where the channels are samples, of which the file may call some alpha; by its place alone none is."""
    if image.ndim == 2:
        return image
    extra = tuple(page.extrasamples) if page is not None and page.photometric != PHOTOMETRIC.PALETTE else ()
    known = len(image) - len(extra)
    image = image[[i for i in range(len(image)) if i < known or extra[i - known] not in _ALPHA]]
    if len(image) not in (1, 3):
        raise UserError(f"{path}: has {len(image)} channels, none of them called alpha; 1 or 3 can be read, so save "
                        "each channel as a file, or three as RGB")
    return image[0] if len(image) == 1 else image


def _meaning(file: tifffile.TiffFile, path: Path) -> Meaning | None:
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
    with reading(path, "an image"), TiffFile(path) as file:
        told = (file.shaped_metadata or ({},))[0].get(TIFF_SPACING)
        if told is None:
            return None
        row, column = (float(mm) for mm in told)
        if not (np.isfinite([row, column]).all() and min(row, column) > 0):
            raise UserError(f"{path}: its description names no pixel spacing that can be used; translate it again")
        return row, column
