"""Where the stored pixels of a training's cohorts are served from (`--cache`): the disk, memory, or the GPU's memory.

Whichever it is, the same pixels are cropped and flipped in the same way, so batches are the same to the bit.
"""
import logging
from collections.abc import Sequence

import numpy as np
import torch

from duiit.data.preparing.cohort import Cohort
from duiit.util.errors import UserError

log = logging.getLogger(__name__)
SHARE = 3           # auto takes one in so many of the GPU's free bytes: networks, gradients and batches need the rest


def keep_pixels(cohorts: Sequence[Cohort], where: str, device: str) -> list[np.ndarray | torch.Tensor | None]:
    """The pixels of each cohort: an array in memory (ram), a tensor on `device` (gpu), or None where they are to be
    mapped from the disk. Raises UserError where memory does not hold them all."""
    if where == "auto":
        where = "gpu" if device.startswith("cuda") and _size(cohorts) <= _free(device) / SHARE else "disk"
    if where == "disk":
        return [None] * len(cohorts)
    log.info("%.2f GiB of images are kept in memory of the %s", _size(cohorts) / 2**30,
             "GPU" if where == "gpu" else "machine")
    try:
        return [in_memory(c) if where == "ram" else on_device(c, device) for c in cohorts]
    except (MemoryError, torch.OutOfMemoryError):
        raise UserError(f"--cache {where}: there is no room for {_size(cohorts) / 2**30:.2f} GiB of images; take "
                        "--cache disk, which needs none") from None


def in_memory(cohort: Cohort) -> np.ndarray:
    """int16 (n,), read into memory."""
    return cohort.pixels().copy()


def on_device(cohort: Cohort, device: str) -> torch.Tensor:
    """int16 (n,) on the device, which then crops and flips itself."""
    return torch.from_numpy(in_memory(cohort)).to(device)


def _size(cohorts: Sequence[Cohort]) -> int:
    return sum(c.pixels().nbytes for c in cohorts)


def _free(device: str) -> int:
    return torch.cuda.mem_get_info(device)[0]
