"""Translated images back into files: relative paths mirror the source's, values are in the target's own unit.

PNG holds 8 bits of the target's window (what a viewer shows and a loader reads back), or 16 with the scale back to its
unit; TIFF and NumPy hold float32 in the unit itself (HU for CT); TIFF of 16 bits says what range [-1, 1] stood for, so
that it is read back as the network made it; NIfTI holds a whole scan (int16 for HU, else float32) with the geometry it
was read with.
"""
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path, PurePosixPath

import nibabel
import numpy as np
import tifffile
from PIL import Image, PngImagePlugin

from duiit.data.preparing.intensity import Intensity
from duiit.data.readers.common import stem_of
from duiit.data.readers.images import PNG_INTERCEPT, PNG_SLOPE, PNG_UNIT
from duiit.data.readers.nifti import to_source_affine, to_source_orientation
from duiit.data.readers.slice import HU, Geometry, Label, Scan, Slice
from duiit.data.readers.tiff import TIFF_SPACING, TIFF_SPAN, TIFF_UNIT
from duiit.util.errors import UserError
from duiit.util.files import below

ENDINGS = {"png": ".png", "png16": ".png", "tiff": ".tif", "tiff16": ".tif", "npy": ".npy", "nifti": ".nii.gz"}
INT16 = np.iinfo(np.int16)


class Taken:
    """Whether a path, relative to a folder, is a file that was named for it, or a folder of such files: as asking the
    disk, but before they are written."""

    def __init__(self, files: Iterable[str] = ()) -> None:
        self._paths: set[str] = set()
        self.add(files)

    def __call__(self, name: str) -> bool:
        return name in self._paths

    def add(self, files: Iterable[str]) -> None:
        for file in files:
            self._paths |= {file, *(parent.as_posix() for parent in PurePosixPath(file).parents)}


def write_scan(folder: str | PathLike[str], scan: Scan, slices: Sequence[Slice], images: Iterable[np.ndarray],
               intensity: Intensity, kind: str, spacing: float | None = None,
               names: Sequence[str] | None = None) -> list[tuple[str, str, Label]]:
    """Writes one translated scan under `folder`.

    scan, slices: the source's Scan and its Slice records. images: for each, float32 (C, H, W) in [-1, 1], asked for one
    by one where each is a file. intensity: the target's range. kind: a key of ENDINGS. spacing: mm a pixel of the
    images, for tiff16 to tell. names: of `file_names`, by default such that nothing in `folder` is written over.
    Returns [(file relative to `folder`, patient, label)], one a file. Raises UserError for images that the format
    cannot hold.
    """
    if kind == "nifti":
        return [_write_nifti(folder, slices, list(images), intensity)]
    names = names or file_names(scan, slices, kind, lambda name: Path(folder, name).exists())
    for name, image in zip(names, images, strict=True):
        path = below(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "png":
            Image.fromarray(_display(image)).save(path)
        elif kind == "png16":
            _write_png16(path, image, intensity)
        elif kind == "tiff16":
            _write_tiff16(path, image, intensity, spacing)
        else:
            values = np.moveaxis(intensity.restore(image), 0, -1)           # (H, W, C)
            values = values[..., 0] if values.shape[-1] == 1 else values
            _write_tiff(path, values) if kind == "tiff" else np.save(path, values)
    return [(name, s.patient, s.label) for name, s in zip(names, slices, strict=True)]


def file_names(scan: Scan, slices: Sequence[Slice], kind: str, taken: Callable[[str], bool]) -> list[str]:
    """The files of `write_scan`, relative to its folder. nifti: one. Else one a slice: its file's own relative path, or
    <scan>/<number> where one file holds several slices. taken: whether there is such a path already."""
    ending = ENDINGS[kind]
    if kind == "nifti":
        return [_nifti_name(slices)]
    paths = [s.path.relative_to(scan.root) for s in slices]
    if len(set(paths)) < len(paths) or scan.kind == "nifti" or scan.frames is not None:
        digits = max(3, len(str(slices[-1].index + 1)))
        full = paths[0].as_posix() if taken(scan.name) else scan.name
        return [f"{full}/{s.index + 1:0{digits}d}{ending}" for s in slices]
    stems = [p.parent / stem_of(p) for p in paths]
    # 1.png beside 1.npy: the second one keeps its own ending too.
    both = {stem for stem in stems if stems.count(stem) > 1 or taken(f"{stem.as_posix()}{ending}")}
    return [f"{(p if stem in both else stem).as_posix()}{ending}" for p, stem in zip(paths, stems, strict=True)]


def _display(image: np.ndarray) -> np.ndarray:
    """(C, H, W) in [-1, 1] -> uint8 (H, W) or (H, W, 3)."""
    pixels = np.rint((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)
    if pixels.shape[0] not in (1, 3):
        raise UserError(f"--format png: holds 1 or 3 channels, not {pixels.shape[0]}; give --format tiff or npy")
    return pixels[0] if pixels.shape[0] == 1 else np.moveaxis(pixels, 0, -1)


def _write_png16(path: Path, image: np.ndarray, intensity: Intensity) -> None:
    """All 16 bits of the target's range, with the slope and intercept back to its unit as text in the file."""
    if image.shape[0] != 1:
        raise UserError(f"--format png16: holds 1 channel, not {image.shape[0]}; give --format tiff or npy")
    stored = _sixteen_bits(image[0])
    scale = PngImagePlugin.PngInfo()
    for key, value in ((PNG_SLOPE, (intensity.high - intensity.low) / 65535), (PNG_INTERCEPT, intensity.low),
                       (PNG_UNIT, intensity.unit)):
        scale.add_text(key, str(value))
    Image.fromarray(stored).save(path, pnginfo=scale)


def _sixteen_bits(image: np.ndarray) -> np.ndarray:
    """[-1, 1] -> all of uint16."""
    return np.rint((np.clip(image, -1, 1) + 1) * (65535 / 2)).astype(np.uint16)


def _write_tiff(path: Path, values: np.ndarray) -> None:
    """One image (H, W) or (H, W, C). Left to itself, tifffile takes two channels for pages and a fourth for alpha."""
    if values.ndim == 3:
        tifffile.imwrite(path, values, photometric="rgb" if values.shape[-1] == 3 else "minisblack",
                         planarconfig="contig")
    else:
        tifffile.imwrite(path, values, photometric="minisblack")


def _write_tiff16(path: Path, image: np.ndarray, intensity: Intensity, spacing: float | None) -> None:
    """All 16 bits of the target's range, which stands in the file's description, with the unit."""
    if image.shape[0] not in (1, 3):
        raise UserError(f"--format tiff16: holds 1 or 3 channels, not {image.shape[0]}; give --format npy")
    stored = _sixteen_bits(image)
    told = {TIFF_UNIT: intensity.unit, TIFF_SPAN: [float(intensity.low), float(intensity.high)]}
    told |= {} if spacing is None else {TIFF_SPACING: [spacing, spacing]}
    grey = stored.shape[0] == 1
    tifffile.imwrite(path, stored[0] if grey else np.moveaxis(stored, 0, -1),
                     photometric="minisblack" if grey else "rgb", compression="zlib", metadata=told)


def _nifti_name(slices: Sequence[Slice]) -> str:
    return f"{slices[0].scan}.nii.gz"


def _write_nifti(folder: str | PathLike[str], slices: Sequence[Slice], images: Sequence[np.ndarray],
                 intensity: Intensity) -> tuple[str, str, Label]:
    first = slices[0]
    name = _nifti_name(slices)
    if images[0].shape[0] != 1 or len({i.shape for i in images}) > 1:
        raise UserError(f"--format nifti: {first.scan} has several channels or mixed sizes; give --format tiff or npy")
    path = below(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_nifti(path, *as_volume(slices, images, intensity), intensity.unit)
    return name, first.patient, first.label


def as_volume(slices: Sequence[Slice], images: Sequence[np.ndarray],
              intensity: Intensity) -> tuple[np.ndarray, np.ndarray]:
    """(values, affine): a scan's translated slices (1, H, W) as one float32 array in the target's unit, and the affine
    of its indices, (4, 4) in RAS+ mm. Its axes are those of the source's NIfTI file, else (column, row, slice)."""
    volume = intensity.restore(np.stack(images)[:, 0])                                      # (N, H, W)
    geometry = _geometry_of(slices, volume.shape)
    if geometry.orientation is None:
        return volume.transpose(2, 1, 0), geometry.affine
    return to_source_orientation(volume, geometry), to_source_affine(geometry, volume.shape)


def save_nifti(path: str | PathLike[str], values: np.ndarray, affine: np.ndarray, unit: str) -> None:
    """int16 for HU, whose fractions no scanner tells, as long as it holds them, else float32. The header says mm."""
    whole = np.rint(values)
    fits = unit == HU and INT16.min <= whole.min() and whole.max() <= INT16.max
    stored = whole.astype(np.int16) if fits else values.astype(np.float32)
    image = nibabel.Nifti1Image(np.ascontiguousarray(stored), affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _geometry_of(slices: Sequence[Slice], shape: tuple[int, ...]) -> Geometry:
    """Where a volume of `shape` (N, H, W) lies that was made from these slices: chosen ones of a scan, evenly spaced,
    and perhaps with other pixels over the same field of view. Unknown geometry: pixels of 1 mm, in LPS.
    """
    known = slices[0].geometry or Geometry(np.diag([-1.0, -1.0, 1.0, 1.0]))
    step = slices[1].index - slices[0].index if len(slices) > 1 else 1
    rows, columns = (old / new for old, new in zip(slices[0].image.shape[-2:], shape[-2:], strict=True))
    chosen = np.diag([columns, rows, step, 1.0])
    chosen[:3, 3] = (columns - 1) / 2, (rows - 1) / 2, slices[0].index      # pixel centres, not corners
    return replace(known, affine=known.affine @ chosen)
