"""What a run knows of itself besides its weights: how far its predictor errs on validation patients, for an honest
interval, and what its training scans look like, for telling scans that are unlike them.

Both are kept in the run's folder: `calibration_<epoch>.json`, bound to its weights by their digest, and
`dataset_fingerprint.json`. They are made when training ends, so that a run can be taken elsewhere without its data; a
run that has none (stopped, or of another epoch) gets them on its first `duiit predict`, while its data are there.
"""
import copy
import hashlib
import json
import logging
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn import Module

from duiit.data import splits
from duiit.data.checking import fingerprint
from duiit.data.modality_dataset import ModalityDataset, PreparedDataset
from duiit.data.preparing.cohort import Row
from duiit.data.preparing.intensity import BY_SCAN, fixed_windows
from duiit.data.readers.slice import Label, Scan
from duiit.options import run_file
from duiit.util import checkpoint
from duiit.util.errors import UserError
from duiit.util.files import write_json
from duiit.util.progress import track
from duiit_cli.inference.networks import PreparedScan, own_scans, predict, read
from duiit_cli.inference.scan_answers import (
    AGGREGATES,
    asked_images,
    label_of,
    of_scan,
    score_of,
    used_slices,
)
from duiit_cli.inference.validated import cross_fitted

log = logging.getLogger(__name__)
T = TypeVar("T")
Parts = Mapping[str, set[str]]      # {patient: the parts of the split that hold images of theirs}
VERSION = 1
BEST = "best"           # the epoch that validation patients choose
SAMPLE = 100            # training scans that the fingerprint is made of, evenly spread: ranges need no more
# What shapes a slice, and what shapes an answer: facts that were found under other settings are not these.
SLICES = ("target", "ct_window", "pet_window", "mri_channel", "slices", "keep_empty")
ANSWERS = (*SLICES, "task", "preprocess", "load_size", "output_nc")

# How the run's own labels are read, whatever is said of those of the scans to predict.
TABLES = ("label_column", "id_column", "patient_regex")


@dataclass(frozen=True)
class Calibration:
    """scores: {aggregate: [score of each validation patient]}, absolute errors or 1 - the true class's probability;
    fingerprint: the training scans' fingerprint; both None where unknown. parts: {patient: {parts of the split}}.
    honest: False where these patients have chosen the epoch and their errors in it are too small."""
    scores: dict[str, list[float]] | None
    fingerprint: dict[str, Any] | None
    parts: Parts
    honest: bool = True


def write_calibration(model: Any, opt: Namespace, dataset: Any = None) -> None:
    """At the end of a training, on one process: stores what predictions will need. Never stops a run that is done.

    dataset: what was trained on, whose images are prepared already; else the scans are read.
    """
    if not hasattr(model, "predictor"):
        return
    folder, net = Path(opt.checkpoints_dir) / opt.name, model.predictor()
    if not (folder / splits.NAME).is_file():            # a plug-in's data set, with parts of its own making
        return
    net = copy.deepcopy(getattr(net, "module", net)).eval()
    target = dataset.members[dataset.target] if isinstance(dataset, PreparedDataset) else None
    try:
        for epoch in ("latest", BEST):
            weights = folder / f"{epoch}_net_P.pth"
            if weights.is_file():
                checkpoint.load_weights(net, weights, model.device)
                _scores(opt, net, model.device, folder, epoch, target)
        _fingerprint(opt, folder, target)
    except UserError as error:
        log.warning("nothing is kept for intervals and flags of `duiit predict`: %s", error)


def of_run(opt: Namespace, net: Module, device: torch.device) -> Calibration:
    """Calibration of the run that opt.name names, with `net` for its predictor; found now if they are not kept."""
    folder = Path(opt.checkpoints_dir) / opt.name
    epoch = f"iter_{opt.load_iter}" if opt.load_iter > 0 else opt.epoch
    opt, run = copy.copy(opt), run_file.read(opt.checkpoints_dir, opt.name)
    vars(opt).update({k: run.get(k) for k in TABLES})
    found = _or_none("interval", _scores, opt, net, device, folder, epoch)
    seen = _or_none("flag", _fingerprint, opt, folder)
    parts = parts_of(folder, opt) if (folder / splits.NAME).is_file() else {}
    if found is None:
        return Calibration(None, seen, parts)
    return Calibration(found["scores"], seen, parts, honest=epoch != BEST or found.get("cross_fitted", False))


def _or_none(what: str, find: Callable[..., T], *args: Any) -> T | None:
    try:
        return find(*args)
    except UserError as error:
        log.warning("no %s: the run keeps none, and it cannot be found now (%s)", what, error)
        return None


# -- how far the predictor errs --------------------------------------------------------------------------------------

def _scores(opt: Namespace, net: Module, device: torch.device, folder: Path, epoch: str,
            target: ModalityDataset | None = None) -> dict[str, Any]:
    """What calibration_<epoch>.json holds, found now where it is not kept."""
    made_with = {**{name: getattr(opt, name) for name in ANSWERS}, "weights": digest(net)}
    if opt.spacing is not None:                 # runs from before there was one keep what they have
        made_with["spacing"] = opt.spacing
    path = folder / f"calibration_{epoch}.json"
    kept = _read(path)
    if kept.get("made_with") == made_with:
        return kept
    honest = cross_fitted(folder) if epoch == BEST and at_validation(opt, folder) else None
    scores = honest or calibrate(opt, net, device, parts_of(folder, opt), target)
    meaning = "1 - probability of the true class" if opt.task == "classification" else "absolute error in label units"
    found = {"version": VERSION, "epoch": epoch, "score": f"{meaning}, of each validation patient's worst scan",
             "patients": len(scores["mean"]), "scores": scores, "made_with": made_with}
    if epoch == BEST:
        found["cross_fitted"] = honest is not None
    _write(path, found, kept, "weights")
    return found


def at_validation(opt: Namespace, folder: Path) -> bool:
    """Whether answers are now asked as they were when the run was validated."""
    run = run_file.read(folder.parent, folder.name)
    return all(run.get(name) == getattr(opt, name) for name in (*ANSWERS, "spacing"))


def calibrate(opt: Namespace, net: Module, device: torch.device, parts: Parts,
              target: ModalityDataset | None = None) -> dict[str, list[float]]:
    """{aggregate: sorted scores}, one of each labelled patient who is in validation only: of the worst scan, since a
    new patient's scan may be any. target: the target's prepared images; else its scans are read."""
    scans = [s for s in (target.scans if target else target_scans(opt)) if parts.get(s.patient) == {"val"}]
    images_of = _prepared(target, opt) if target else partial(_read_images, opt=opt)
    worst: dict[str, defaultdict[str, float]] = {how: defaultdict(float) for how in AGGREGATES}
    for scan in track(scans, "calibrating", len(scans), "scans"):
        images, label = images_of(scan)
        for how, score in _errors(images, label, opt, net, device).items():
            worst[how][scan.patient] = max(worst[how][scan.patient], score)
    return {how: sorted(scores.values()) for how, scores in worst.items()}


def _read_images(scan: Scan, opt: Namespace) -> tuple[list[np.ndarray], Label]:
    """A scan's images that say something, (C, H, W) in [-1, 1], and its label; from its files."""
    try:
        prepared = read(scan, opt.target, opt.output_nc, opt)
    except UserError as error:
        log.warning("left out of the calibration: %s", error)
        return [], None
    used = used_slices(prepared, opt)
    return asked_images(prepared, used), label_of(scan, [prepared.slices[i].label for i in used])


def _prepared(target: ModalityDataset, opt: Namespace) -> Callable[[Scan], tuple[list[np.ndarray], Label]]:
    """The same, to the bit, from what training prepared."""
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    for row in target.cohort.rows:
        if opt.keep_empty or not row.empty:
            rows[row.scan].append(row)
    return lambda scan: ([target.cohort.image(r) for r in rows[scan.name]],
                         label_of(scan, [r.label for r in rows[scan.name]]))


def _errors(images: Sequence[np.ndarray], label: Label, opt: Namespace, net: Module,
            device: torch.device) -> dict[str, float]:
    """{aggregate: score} of one scan; {} where it has no label or shows nothing."""
    if label is None or not images or (opt.task == "classification" and label not in opt.facts.classes):
        return {}
    answers = predict(net, images, opt, device)
    return {how: score_of(of_scan(answers, how), label, opt) for how in AGGREGATES}


def digest(net: Module) -> str:
    """Of the weights themselves: the same however and wherever they are saved."""
    done = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        done.update(name.removeprefix("module.").encode())
        done.update(np.ascontiguousarray(value.detach().cpu().numpy()).data)
    return done.hexdigest()


# -- what the training scans look like -------------------------------------------------------------------------------

def _fingerprint(opt: Namespace, folder: Path, target: ModalityDataset | None = None) -> dict[str, Any]:
    made_with = {name: getattr(opt, name) for name in SLICES}
    path = folder / fingerprint.NAME
    kept = _read(path)
    if kept.get("made_with") == made_with:
        return kept["modalities"][opt.target]["fingerprint"]
    seen = training_fingerprint(opt, parts_of(folder, opt), target)
    found = {"version": VERSION, "modalities": {opt.target: {"fingerprint": seen}}, "made_with": made_with}
    _write(path, found, kept)
    return seen


def training_fingerprint(opt: Namespace, parts: Parts, target: ModalityDataset | None = None) -> dict[str, Any]:
    """The fingerprint of (a sample of) the target's training scans. target: the target's prepared images, beside which
    is kept what was measured of a scan, for the next run on it."""
    scans = [s for s in (target.scans if target else target_scans(opt)) if "train" in parts.get(s.patient, ())]
    chosen = [scans[i] for i in np.unique(np.linspace(0, len(scans) - 1, min(SAMPLE, len(scans))).astype(int))]
    find = partial(_measured, opt=opt)
    if target:
        found = target.cohort.recall(f"facts_{fingerprint.VERSION}{'_empty' * opt.keep_empty}", chosen, find)
    else:
        found = [find(scan) for scan in track(chosen, "looking at training scans", len(chosen), "scans")]
    facts = [fingerprint.ScanFacts(**f) for f in found if f]
    if not facts:
        raise UserError(f"no training scan of {opt.target} is in {opt.dataroot}")
    return fingerprint.summarise(facts)


def _measured(scan: Scan, opt: Namespace) -> dict[str, Any] | None:
    """ScanFacts as JSON has them; None of a scan that cannot be read, or in which every slice is empty."""
    try:
        prepared = read(scan, opt.target, opt.output_nc, opt)
    except UserError as error:
        log.warning("left out of the fingerprint: %s", error)
        return None
    return next((asdict(facts) for facts in facts_of_scan(prepared, opt)), None)


def facts_of_scan(prepared: PreparedScan, opt: Namespace) -> list[fingerprint.ScanFacts]:
    """[ScanFacts] of a PreparedScan; [] where every slice is empty."""
    used = [prepared.slices[i] for i in used_slices(prepared, opt)]
    return [fingerprint.facts_of(used, fixed_windows(opt))] if used else []


# -- what both need --------------------------------------------------------------------------------------------------

def target_scans(opt: Namespace) -> list[Scan]:
    """The target's scans in the run's own data. Raises UserError."""
    if not opt.dataroot or not Path(opt.dataroot).is_dir():
        raise UserError(f"--dataroot {opt.dataroot}: no such folder; say where the run's data are now")
    return own_scans(opt, opt.target)


def parts_of(folder: Path, opt: Namespace) -> Parts:
    """{patient of the target: {parts of the split that hold images of theirs}}. Raises UserError."""
    if not (folder / splits.NAME).is_file():
        raise UserError(f"{folder}: holds no {splits.NAME}, so who was trained on is not known")
    return splits.patients_parts(folder, opt.target)


def _read(path: Path) -> dict[str, Any]:
    """What a file of ours holds; {} where there is none, or none that can be used."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if "made_with" in kept:                         # what was found before there was the option
            kept["made_with"] = {"pet_window": BY_SCAN, **kept["made_with"]}
        return kept if kept["version"] == VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write(path: Path, found: Mapping[str, Any], kept: Mapping[str, Any], *changing: str) -> None:
    """Writes what was found, unless the file has the same under other settings: then this call is the exception."""
    ours, theirs = ({k: v for k, v in f.get("made_with", {}).items() if k not in changing} for f in (found, kept))
    if kept and ours != theirs:
        return
    try:
        write_json(path, found)
    except UserError as error:                          # somebody else's run, say
        log.info("not kept for the next time: %s", error)
