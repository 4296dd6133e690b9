"""Reads NIfTI and other volume files in any orientation as axial slices, and turns volumes back into the source's own
axes.

The served view (see `Geometry`) has columns to the patient's left, rows to posterior, slices from foot to head: LPS.
An oblique volume is served along its own axes, after those are permuted and flipped to lie nearest to LPS; nothing
is resampled, so the way back is exact.
"""
from pathlib import Path

import numpy as np
from nibabel import orientations as ornt
from nibabel.filebasedimages import FileBasedImage
from nibabel.nifti1 import Nifti1Pair
from nibabel.spatialimages import SpatialImage

from duiit.data.readers.common import check_size, finish, notice, reading, settle_unit
from duiit.data.readers.slice import GREY, Geometry
from duiit.data.readers.volumes import open_volume
from duiit.util.errors import UserError

_SERVED = "LPS"
_MM = {1: 1e3, 2: 1.0, 3: 1e-3}         # of a metre, millimetre, micron: the spatial codes of xyzt_units
_EXTENT = 1.0, 5000.0           # mm; no scan of a body is smaller or larger


def read_nifti(path: Path, expected: str | None = None) -> tuple[list[np.ndarray], str, Geometry]:
    """Axial slices, float32 (H, W) or (3, H, W) for colour, foot to head; their unit; where they lie.

    expected: the unit the cohort is known to have. Raises UserError for several frames, damaged files, and headers
    whose affine does not span space.
    """
    with reading(path, "a volume"):
        image = _spatial(open_volume(path), path)
        shape = _volume_shape(image.shape, path)
        affine = _affine_in_mm(image)
        geometry, to_served = _orient(affine, shape, path)
        width, height, count = (shape[axis] for axis in np.argsort(to_served[:, 0]))
        check_size(path, (count, height, width))
        _check_extent(affine, shape, path)
        stored = np.dtype(image.get_data_dtype())
        volume = np.asanyarray(image.dataobj)
        if stored.names:  # colour volumes are records of R, G, B (and alpha)
            volume = np.stack([volume[name] for name in stored.names[:3]], axis=-1)
            stored = volume.dtype
        scaled = stored.kind in "bu" and volume.dtype.kind == "f"
        volume = ornt.apply_orientation(volume.reshape(*shape, *volume.shape[len(image.shape):]), to_served)
        slices = np.moveaxis(volume, (2, 1, 0), (0, -2, -1))  # (W, H, N, ...) -> (N, ..., H, W)
    return list(finish(slices, path)), settle_unit(expected, stored, scaled, path, GREY), geometry


def _spatial(image: FileBasedImage, path: Path) -> SpatialImage:
    """`image`, made sure of: a CIFTI file is NIfTI by its name, and holds values on a surface."""
    if not isinstance(image, SpatialImage):
        raise UserError(f"{path}: holds no volume but {type(image).__name__} data; save the volume itself")
    return image


def _affine_in_mm(image: SpatialImage) -> np.ndarray:
    """The image's affine in mm, whatever unit of length its header names; none (0) is taken for mm, as is usual."""
    affine = np.array(image.affine, dtype=np.float64)
    if isinstance(image, Nifti1Pair):                                   # every NIfTI, the second version too
        affine[:3] *= _MM.get(int(image.header["xyzt_units"]) & 7, 1.0)     # the other bits are the unit of time
    return affine


def _check_extent(affine: np.ndarray, shape: tuple[int, int, int], path: Path) -> None:
    """A notice where the volume is too small or too large for a part of a body."""
    widest = float(max(np.linalg.norm(affine[:3, :3], axis=0) * shape))
    if not _EXTENT[0] <= widest <= _EXTENT[1]:
        notice(f"{path}: its header makes it {widest:.3g} mm wide; correct its affine or its unit of length "
               "(xyzt_units) if that is not so")


def to_source_orientation(volume: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The inverse of reading: served slices (N, H, W) as an array along the source file's own three axes."""
    if geometry.orientation is None:
        raise ValueError("this geometry does not come from a volume file")
    return ornt.apply_orientation(np.transpose(volume, (2, 1, 0)), _between(_SERVED, geometry.orientation))


def to_source_affine(geometry: Geometry, shape: tuple[int, int, int]) -> np.ndarray:
    """The affine, (4, 4) RAS+ in mm, of the source file's own axes, from the served view's.

    shape: (N, H, W) of the served volume.
    """
    count, height, width = shape
    back = _between(_SERVED, geometry.orientation or _SERVED)
    return geometry.affine @ ornt.inv_ornt_aff(back, (width, height, count))


def _volume_shape(shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    if any(n != 1 for n in shape[3:]):
        frames = " x ".join(str(n) for n in shape[3:])
        raise UserError(f"{path}: holds several frames or components ({frames} volumes); save one volume a file")
    if len(shape) < 2:
        raise UserError(f"{path}: has {len(shape)} dimensions, not a volume's three; restore or remove it")
    width, height, count = (*shape[:3], 1)[:3]
    return width, height, count


def _orient(affine: np.ndarray, shape: tuple[int, int, int], path: Path) -> tuple[Geometry, np.ndarray]:
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or np.isnan(source := ornt.io_orientation(affine)).any() \
            or not steps.all() or abs(np.linalg.det(affine[:3, :3] / steps)) < 1e-6:
        raise UserError(f"{path}: its affine (sform or qform) does not span space; repair the header or convert anew")
    to_served = ornt.ornt_transform(source, ornt.axcodes2ornt(_SERVED))
    served = affine @ ornt.inv_ornt_aff(to_served, shape)
    return Geometry(served, "".join(ornt.ornt2axcodes(source))), to_served


def _between(start: str, end: str) -> np.ndarray:
    return ornt.ornt_transform(ornt.axcodes2ornt(start), ornt.axcodes2ornt(end))
