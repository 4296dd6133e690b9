"""What all readers share: the limits on what is an image, and making one clear line of any failure."""
import logging
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePath

import numpy as np

from duiit.data.readers.slice import DISPLAY, GREY, HU
from duiit.util.errors import UserError
from duiit.util.logs import quiet_libraries, remarks_on

quiet_libraries()
log = logging.getLogger(__name__)

MAX_PIXELS = 100_000_000       # one image; the largest radiographs have 30 million
MAX_VOXELS = 1_500_000_000     # one volume: 6 GB as float32
AIR_HU = -1024.0               # the lowest value a 12-bit scanner means; lower ones mark what it has not seen
MIN_SIDE = 2
SHOWN = 0.02                   # share of an image that has to show something; the last slice of a head has 0.19


def stem_of(path: PurePath) -> str:
    """The file's name without its ending; `.nii.gz` counts as one ending."""
    return path.name[:-7] if path.name.lower().endswith(".nii.gz") else path.stem


@lru_cache(maxsize=4096)
def notice(message: str) -> None:
    """Log a warning once per process, however often the same scan is read."""
    log.warning(message)


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a decoder raises while it reads `path` into a UserError of one line that names the file.

    Decoders raise nearly every exception type on damaged input (struct.error, KeyError, IndexError, zlib.error ...),
    so the net is wide on purpose. Empty and locked files are told here, as decoders have other words for them.
    """
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise UserError(f"{path}: is empty (0 bytes); restore or remove it")
        with remarks_on(path) as errors:
            yield
        if errors:
            first = textwrap.shorten(errors[0], 140, placeholder=" ...")
            log.warning("%s: could be read, but not without %d errors (first: %s); look whether its images are whole",
                        path, len(errors), first)
    except UserError:
        raise
    except PermissionError:
        raise UserError(f"{path}: no permission to read it; change its access rights or remove it") from None
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file (a broken link?); restore or remove it") from None
    except MemoryError:
        raise UserError(f"{path}: does not fit into memory; reduce its size or remove it") from None
    except Exception as error:
        reason = textwrap.shorten(str(error), 140, placeholder=" ...") or type(error).__name__
        raise UserError(f"{path}: cannot be read as {what} ({reason}); restore the file or remove it") from error


def check_size(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse, before any pixel is decoded, a size that cannot be an image or would exhaust the memory.

    shape: (H, W) of one image, or (N, H, W) of a volume. Raises UserError.
    """
    height, width = shape[-2:]
    size = " x ".join(str(n) for n in shape)
    if min(height, width) < MIN_SIDE or min(shape) < 1:
        raise UserError(f"{path}: is only {size} pixels, which is not an image; remove it")
    if height * width > MAX_PIXELS or int(np.prod(shape, dtype=object)) > MAX_VOXELS:
        raise UserError(f"{path}: claims {size} pixels, more than can be read; reduce its size or remove it")


def finish(pixels: np.ndarray, path: Path) -> np.ndarray:
    """`pixels` of any real type as contiguous float32, checked: an image's size, and every value finite.

    pixels: (..., H, W). Raises UserError.
    """
    if pixels.dtype.kind not in "buif":
        raise UserError(f"{path}: holds values of type {pixels.dtype}, not numbers; save it as integers or floats")
    if min(pixels.shape[-2:]) < MIN_SIDE:
        check_size(path, pixels.shape)
    with np.errstate(over="ignore"):
        image = np.ascontiguousarray(pixels, dtype=np.float32)
    if pixels.dtype.kind == "f" and not np.isfinite(image).all():
        count = int(image.size - np.isfinite(image).sum())
        raise UserError(f"{path}: {count} pixels are not finite numbers (NaN or infinite); replace them, or remove it")
    return image


def settle_unit(expected: str | None, stored: np.dtype, scaled: bool, path: Path, eight_bit: str) -> str:
    """The unit of a file that does not say it itself, from what its folder is expected to hold.

    expected: what the loader says the cohort holds, or None. stored: the type on disk. scaled: whether the file
    brought a slope and intercept of its own. eight_bit: the unit of plain 8-bit values.
    Plain unsigned integers cannot be Hounsfield units, as air lies at -1000: 8 bits are an image windowed for
    display, 16 bits an unknown offset, which is only said, not guessed. Nor can signed ones of 8 bits.
    """
    if stored.kind in "bu" and stored.itemsize == 1 and not scaled:
        return DISPLAY if expected == HU else eight_bit
    if expected == HU and not scaled and (stored.kind in "bu" or (stored.kind == "i" and stored.itemsize == 1)):
        sign = "signed" if stored.kind == "i" else "unsigned"
        notice(f"{path.parent}: {sign} {8 * stored.itemsize}-bit values cannot be Hounsfield units; "
               f"treated as grey values (first seen in {path.name})")
        return GREY
    return expected or GREY


def has_signal(image: np.ndarray, unit: str | None = None) -> bool:
    """Whether an image shows something: False for constant and nearly empty ones, on which normalisation explodes.

    image: (H, W) or (C, H, W), any unit; with channels, one that shows something is enough.
    unit: sharpens the answer where the scale is known (HU: denser than fat and air; DISPLAY: 12 grey levels of 255).
    """
    return any(_channel_has_signal(channel, unit) for channel in np.atleast_3d(image.T).T)


def _channel_has_signal(channel: np.ndarray, unit: str | None) -> bool:
    low, high = float(channel.min()), float(channel.max())
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        return False
    if unit == HU:
        return bool((channel > -200).mean() >= SHOWN)
    # Nearly empty images have their background's level as the median, and hardly a pixel that stands clear of it.
    clear = max(0.05 * (high - low), 12.0 if unit == DISPLAY else 0.0)
    return bool((np.abs(channel - np.median(channel)) > clear).mean() >= SHOWN)
