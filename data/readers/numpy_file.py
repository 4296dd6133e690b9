"""Reads NumPy arrays (.npy, or .npz with one array): (H, W), a volume (N, H, W), or colour (H, W, 3). Never pickles."""
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from duiit.data.readers.common import check_size, finish, reading, settle_unit
from duiit.data.readers.slice import DISPLAY
from duiit.util.errors import UserError


def array_shape(path: Path) -> tuple[int, ...]:
    """The array's shape from the file's header alone. Raises UserError."""
    with reading(path, "a NumPy array"):
        return _header(path)[0]


def is_flat(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape is one image, (H, W) or (H, W, 2 to 4), and not a volume."""
    return len(shape) == 2 or (len(shape) == 3 and shape[-1] in (2, 3, 4))


def read_array(path: Path, expected: str | None = None) -> tuple[list[np.ndarray], str]:
    """The images of one array file, each float32 (H, W) or (3, H, W), with their unit; first axis is the slices'.

    expected: the unit the cohort is known to have. Raises UserError, for arrays of Python objects too.
    """
    with reading(path, "a NumPy array"):
        shape, dtype = _header(path)
        if len(shape) not in (2, 3):
            raise UserError(f"{path}: has {len(shape)} dimensions; save an image (H, W) or a volume (N, H, W)")
        flat = is_flat(shape)
        check_size(path, shape[:2] if flat else shape)
        if flat and shape[2:] not in ((), (3,)):
            raise UserError(f"{path}: has {shape[2]} channels, and nothing says that one of them is alpha; save 1 or 3")
        if dtype.kind not in "buif":
            raise UserError(f"{path}: holds values of type {dtype}, not numbers; save it as integers or floats")
        loaded = np.load(path, allow_pickle=False)
        pixels = loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]]
    if flat:
        pixels = pixels[None] if pixels.ndim == 2 else pixels[None].transpose(0, 3, 1, 2)
    return list(finish(pixels, path)), settle_unit(expected, dtype, False, path, DISPLAY)


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type, after making sure that the file is as long as they say."""
    size = path.stat().st_size
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            return _array_header(file, size, path)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) != 1:
            names = ", ".join(member.filename for member in members[:5])
            raise UserError(f"{path}: holds {len(members)} arrays ({names}); save one array a file")
        with archive.open(members[0]) as file:
            return _array_header(file, members[0].file_size, path)


def _array_header(file: IO[bytes], size: int, path: Path) -> tuple[tuple[int, ...], np.dtype]:
    start = file.read(len(npy.MAGIC_PREFIX))
    if start != npy.MAGIC_PREFIX:
        kind = "a Python pickle, which is never loaded" if start[:1] == b"\x80" else "not a NumPy array"
        raise UserError(f"{path}: is {kind}; save it with numpy.save")
    version = tuple(file.read(2))
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise UserError(f"{path}: holds Python objects (a pickle), which are never loaded; save it as plain numbers")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > size:
        raise UserError(f"{path}: is shorter than its header says; restore or remove it")
    return shape, dtype
