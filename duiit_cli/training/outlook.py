"""What a training will take on a CPU, said before its first step: at full size one step can take a quarter of an hour.

One image of the first batch, at half its size where the networks take that, goes through a step of a model that is
thrown away; a step's time grows with images and pixels. Small steps are done before that would be, and nothing is said.
"""
import copy
import logging
import time
from argparse import Namespace
from typing import Any

import torch

from duiit.models import create_model
from duiit.util import checkpoint
from duiit.util.progress import spoken

log = logging.getLogger(__name__)
LARGE = 4 * 256 ** 2            # pixels of a batch from which a first step is long enough to be announced
LONG = 12 * 3600                # seconds of training from which the way to a smaller one is named
SMALLER = "`--preset phantom`, or a smaller --load_size and --crop_size, makes it small"


def announce(opt: Namespace, batch: dict[str, Any], steps: int) -> bool:
    """Before the first step on a CPU: about how long it and all `steps` will take, where that is much. Changes nothing
    of the run. Returns whether anything was said."""
    if opt.device != "cpu" or _pixels(batch) < LARGE:
        return False
    log.info("timing one image, to tell how long this will take")
    before = checkpoint.random_state(opt.device)
    try:
        seconds = _estimate(opt, batch)
    except Exception as error:              # a plug-in's model that takes no such batch: no estimate, and no harm
        log.debug("no estimate: %s", error)
        return False
    finally:
        checkpoint.set_random_state(before, opt.device)
    log.info("a step of %d images takes about %s on this CPU", opt.batch_size, spoken(seconds))
    tell(opt, seconds, steps)
    return True


def tell(opt: Namespace, seconds: float, steps: int) -> None:
    """Warns where `steps` of so many seconds take long on a CPU."""
    if opt.device == "cpu" and seconds * steps > LONG:
        log.warning("this will take about %s on this CPU (%s steps): %s", spoken(seconds * steps), f"{steps:,}",
                    SMALLER)


def _pixels(batch: dict[str, Any]) -> int:
    """Of the largest modality in the batch."""
    return max((v.shape[0] * v[0, 0].numel() for v in _images(batch).values()), default=0)


def _images(batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in batch.items() if isinstance(v, torch.Tensor) and v.ndim == 4}


def _estimate(opt: Namespace, batch: dict[str, Any]) -> float:
    """Seconds of a step on the whole batch."""
    probe = copy.copy(opt)
    probe.compile = "off"                   # compiling would take longer than what is to be told
    model = create_model(probe)
    model.restored = True                   # fresh weights serve as well
    model.setup(probe)
    model.train()
    smaller = [_part(batch, images, parts) for images, parts in ((1, 2), (1, 1), (2, 1))]
    for last, small in zip((False, False, True), smaller, strict=True):
        began = time.monotonic()
        try:
            with model.acceleration.step():
                model.set_input(small)
                model.optimize_parameters()
            break
        except Exception:       # a U-Net takes its own size alone, and a batch norm of small images wants two of them
            if last:
                raise
    return (time.monotonic() - began) * _pixels(batch) / _pixels(small)


def _part(batch: dict[str, Any], images: int, parts: int) -> dict[str, Any]:
    """The batch's first `images`, and of each a corner with one of so many parts of its sides."""
    few = {k: v[:images] for k, v in batch.items()}
    return {**few, **{k: v[..., :v.shape[-2] // parts, :v.shape[-1] // parts] for k, v in _images(few).items()}}
