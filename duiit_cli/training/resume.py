"""Where a run begins: anew, from weights alone, or from a training state, and then only as the run that it was."""
import glob
import logging
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duiit.data.preparing import augmentation
from duiit.options import run_file
from duiit.options.train_options import changed
from duiit.util import run_status
from duiit.util.errors import UserError
from duiit.util.facts import Facts
from duiit.util.states import StateFiles

log = logging.getLogger(__name__)


def starting_point(opt: Namespace, folder: Path, states: StateFiles) -> tuple[Path | None, bool]:
    """(path of the state to go on from, or None; whether anything is gone on with). Raises UserError.

    A run that was killed before it saved anything begins anew. `--epoch`, `--load_iter` and `--epoch_count` ask for
    the weights alone: then every option may be another.
    """
    trained = any(folder.glob("*_net_*.pth"))
    if not opt.continue_train:
        if trained and (folder / run_file.NAME).is_file():
            raise UserError(f"--name {opt.name}: {folder} already holds a trained run; give another --name, "
                            "go on with it by --continue_train, or remove the folder")
        states.clear()
        return None, False
    recorded = run_file.read(opt.checkpoints_dir, opt.name)
    differing = changed(opt, recorded)
    if opt.epoch != "latest" or opt.load_iter or "epoch_count" in differing:
        suffix = f"iter_{opt.load_iter}" if opt.load_iter else opt.epoch
        if not any(folder.glob(f"{glob.escape(suffix)}_net_*.pth")):
            raise UserError(f"{folder}: holds no weights {suffix}_net_*.pth; --epoch and --load_iter take those that "
                            "are there")
        log.info("starting from weights alone, with a new schedule")
        return None, True
    path = states.newest()
    if path is None:
        log.info("starting from the weights alone: there is no training state" if trained else
                 "nothing was saved yet: the run begins anew")
        return None, trained
    if differing:
        raise UserError(f"--{differing[0]}: the run goes on as it began, and this changes what it computes; leave it "
                        "out, or start anew from weights alone with --epoch best or --epoch N")
    if hasattr(opt, "push") and "push" not in recorded:
        raise UserError(f"--name {opt.name}: was begun by an earlier version, which pushed the generator another way; "
                        "start anew, or from weights alone with --epoch best or --epoch N")
    return path, True


def is_complete(opt: Namespace, folder: Path, state: Mapping[str, Any]) -> bool:
    """True, and said with what would train longer, where a run that ended well has nothing left to do."""
    last = opt.n_epochs + opt.n_epochs_decay
    if state["epoch"] > last:
        done = f"all {last} epochs are trained"
        longer = f"start from its weights with a new schedule: --epoch {last} (or best), --n_epochs, --n_epochs_decay"
    elif 0 < opt.max_steps <= state["steps"]:
        done, longer = f"{state['steps']} steps are trained", "give a larger --max_steps, or 0 for all epochs"
    elif 0 < opt.early_stop <= state["stale"]:
        done, longer = f"--early_stop {opt.early_stop} ended it", "give a larger --early_stop, or 0"
    else:
        return False
    if run_status.read(folder).get("state", run_status.FINISHED) != run_status.FINISHED:
        return False                            # stopped after its last step: what comes then is still to be done
    log.info("%s is already complete: %s. To train longer, %s", opt.name, done, longer)
    return True


def note_threads(opt: Namespace, recorded: Mapping[str, Any]) -> None:
    """Says where a run goes on with another number of threads than it began with: then sums are rounded otherwise."""
    before = recorded.get("threads", opt.threads)
    if opt.device == "cpu" and before != opt.threads:
        log.info("the run began with %d threads and goes on with %d: the last digits may differ from those of an "
                 "undisturbed run; --threads %d gives the same", before, opt.threads, before)


def refuse_other_data(opt: Namespace, recorded: Mapping[str, Any], facts: Facts, images: int, images_then: int) -> None:
    """Raises UserError where the data are not those that the run began with: other facts, sources or images."""
    said = opt.facts.said()
    differing = changed(opt, recorded) + [name for name, value in facts.said().items() if said.get(name) != value]
    if images != images_then or differing:
        what = f"{images} images instead of {images_then}" if images != images_then else f"another {differing[0]}"
        raise UserError(f"--dataroot {opt.dataroot}: these are not the data that the run began with ({what}); bring "
                        "those back, or start anew from weights alone with --epoch best or --epoch N")


def refuse_other_draws(opt: Namespace, state: Mapping[str, Any]) -> None:
    """Raises UserError where an augmented run was begun by a version that drew other numbers from the same seed."""
    if getattr(opt, "augment", "none") != "none" and state.get("drawing") != augmentation.DRAWING:
        raise UserError(f"--augment {opt.augment}: the run was begun by an earlier version, which drew other numbers "
                        "from the same seed; start anew, or from weights alone with --epoch best or --epoch N")
