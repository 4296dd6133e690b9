"""What `duiit predict` does: one predicted label a scan, from its slices, with an interval and a flag if it is unusual.

The columns are described in docs/predicting.md. What makes intervals and flags honest is in calibration.py.
"""
import csv
import logging
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import Module

from duiit.data.checking.fingerprint import ScanFacts, unlike
from duiit.data.modality_dataset import loader_of
from duiit.data.readers.slice import Label, Scan
from duiit.util import threads
from duiit.util.conformal import bound, patients_needed, prediction_set
from duiit.util.errors import UserError
from duiit.util.files import cell, write_csv, write_json
from duiit.util.logs import printable
from duiit.util.pipeline import Helpers, in_order
from duiit.util.progress import track
from duiit_cli.inference import calibration
from duiit_cli.inference.calibration import facts_of_scan
from duiit_cli.inference.networks import Batches, as_answers, asking, load_model, read
from duiit_cli.inference.prediction_report import report
from duiit_cli.inference.scan_answers import asked_images, label_of, of_scan, used_slices

log = logging.getLogger(__name__)
UNREADABLE, EMPTY, UNLIKE, UNJUDGED = "unreadable", "no signal", "unlike training", "not judged"


def predict_scans(opt: Namespace) -> int:
    """What `duiit predict` does. Exit status 0, or 2 where some scan could not be read (the others' rows are written
    all the same)."""
    rows, scans, unreadable = predictions(opt, load_model(opt, "predictor"))
    if opt.output:
        write_rows(rows, opt.output)
    else:
        print_csv(rows)
    if unreadable:
        log.error("%d of %d scans could not be read, as told above; mend them or take them out", unreadable, scans)
    return 2 if unreadable else 0


def predictions(opt: Namespace, model: Any) -> tuple[list[dict[str, Any]], int, int]:
    """(rows, how many scans there are, how many could not be read): the table of `duiit predict`, a dict a row, by the
    run's model."""
    scans = loader_of(opt.target).find_scans(Path(opt.input), opt)
    net = model.predictor()
    results = [*examine(scans, net, opt, model.device)]
    unreadable = [r for r in results if r.flag == UNREADABLE]
    _refuse_nothing(results, unreadable, opt)
    rows = slice_rows(results, opt) if opt.per_slice else scan_rows(results, net, opt, model.device)
    return rows, len(results), len(unreadable)


def write_rows(rows: list[dict[str, Any]], path: str) -> None:
    """As JSON where the name ends so, else as CSV."""
    write_json(path, rows) if path.lower().endswith(".json") else write_csv(path, rows)
    log.info("%d rows written to %s", len(rows), path)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is kept of a slice: its image is let go when its scan is done."""
    index: int
    label: Label
    path: Path


@dataclass
class Result:
    """One scan: its slices' answers (N,) or (N, K) and the slices they are of, its label, or why there is none."""
    scan: Scan
    answers: np.ndarray | None = None
    slices: list[Asked] = field(default_factory=list)
    label: Label = None
    facts: list[ScanFacts] = field(default_factory=list)       # its ScanFacts, if it shows anything
    flag: str = ""
    reason: str = ""


def examine(scans: Sequence[Scan], net: Module, opt: Namespace, device: torch.device) -> Iterator[Result]:
    """Asks the predictor of each scan, in order; the next ones are read meanwhile, and batches go on from scan to
    scan."""
    batches = Batches[Result, np.ndarray](asking(net, opt, device), opt.batch_size)
    with Helpers(threads.helpers()) as readers:
        found = in_order(readers, partial(look_at, opt=opt), scans, lambda seen: seen.weight)
        for seen in track(found, "predicting", len(scans), "scans"):
            if seen.result.flag == EMPTY:
                log.warning("%s: every slice is constant or almost empty; no prediction", seen.result.scan.name)
            yield from _answered(batches.add(seen.result, seen.images), opt)
    yield from _answered(batches.flush(), opt)


def _answered(done: Iterable[tuple[Result, list[np.ndarray]]], opt: Namespace) -> Iterator[Result]:
    for result, answers in done:
        if answers:
            result.answers = as_answers(answers, opt)
        yield result


@dataclass
class Seen:
    """A scan that was read. result: all but the answers. images: what is to be asked. weight: its bytes as read."""
    result: Result
    images: list[np.ndarray] = field(default_factory=list)
    weight: int = 0


def look_at(scan: Scan, opt: Namespace) -> Seen:
    """Reads one scan."""
    try:
        prepared = read(scan, opt.target, opt.output_nc, opt)
    except UserError as error:
        return Seen(Result(scan, flag=UNREADABLE, reason=str(error), label=scan.label))
    used = used_slices(prepared, opt)
    asked = [Asked(s.index, s.label, s.path) for s in (prepared.slices[i] for i in used)]
    result = Result(scan, slices=asked, label=label_of(scan, [s.label for s in asked]),
                    facts=facts_of_scan(prepared, opt))
    if not used:
        result.flag, result.reason = EMPTY, "every slice is constant or almost empty"
    return Seen(result, asked_images(prepared, used), prepared.weight)


def _refuse_nothing(results: Sequence[Result], unreadable: Sequence[Result], opt: Namespace) -> None:
    """UserError where there is no answer at all; else each unreadable scan gets its line."""
    if len(unreadable) == len(results):
        several = f" (and so on: none of {len(results)} scans can be read)" if len(results) > 1 else ""
        raise UserError(unreadable[0].reason + several)
    if all(r.answers is None for r in results):
        raise UserError(f"--input {opt.input}: every slice is constant or almost empty; "
                        "--keep_empty takes them all the same")
    for r in unreadable:
        log.warning("no prediction: %s", r.reason)


# -- one row a scan ----------------------------------------------------------------------------------------------

def scan_rows(results: Sequence[Result], net: Module, opt: Namespace, device: torch.device) -> list[dict[str, Any]]:
    run = calibration.of_run(opt, net, device)
    limit = _limit(run, opt)
    rows = [_scan_row(r, run, limit, opt) for r in results]
    report(rows, opt)
    return rows


def _limit(run: calibration.Calibration, opt: Namespace) -> float | None:
    """The largest score that the interval allows; None, with the reason in a line, where there can be no interval."""
    if not opt.interval or run.scores is None:
        return None
    scores = run.scores[opt.aggregate]
    if not run.honest:
        log.warning("--epoch best: was chosen by the very patients that the interval rests on, and the run does not "
                    "keep how they fared in other epochs: it holds less often than --interval %g says; use --epoch "
                    "latest where that matters", opt.interval)
    limit = bound(scores, opt.interval)
    if limit is None:
        log.warning("no interval: at --interval %g it needs %d labelled patients in validation and in no other part, "
                    "and the run has %d; give a lower --interval, or train with a larger --val_fraction", opt.interval,
                    patients_needed(opt.interval), len(scores))
    return limit


def _scan_row(r: Result, run: calibration.Calibration, limit: float | None, opt: Namespace) -> dict[str, Any]:
    answer = None if r.answers is None else of_scan(r.answers, opt.aggregate)
    flag, reason = _judged(r, run)
    parts = run.parts.get(r.scan.patient, ())
    return {"id": r.scan.name, "patient": r.scan.patient, **_answer(answer, r.answers, opt),
            **_interval(answer, limit, opt), "slices": len(r.slices), "flag": flag, "reason": reason, "label": r.label,
            "error": _error(answer, r.label, opt), "split": "+".join(p for p in ("train", "val", "test") if p in parts),
            "file": str(r.scan.files[0] if len(r.scan.files) == 1 else r.scan.files[0].parent)}


def _judged(r: Result, run: calibration.Calibration) -> tuple[str, str]:
    """(flag, reason): reading's own verdict, else whether the scan looks like those the run was trained on."""
    if r.flag or not r.facts:
        return r.flag, r.reason
    if run.fingerprint is None:
        return UNJUDGED, "what the training scans look like is not known"
    reasons = unlike(r.facts[0], run.fingerprint)
    return (UNLIKE, "; ".join(reasons)) if reasons else ("", "")


def _answer(answer: Any, answers: Any, opt: Namespace) -> dict[str, Any]:
    """prediction and spread (standard deviation over slices); of classes also the probability of each."""
    if opt.task == "classification":
        best = None if answer is None else int(answer.argmax())
        return {"prediction": None if answer is None else opt.facts.classes[best],
                "spread": None if answer is None else round(float(answers[:, best].std()), 4),
                **{f"p_{name}": None if answer is None else round(float(answer[k]), 4)
                   for k, name in enumerate(opt.facts.classes)}}
    if answer is None:
        return {"prediction": None, "spread": None}
    return {"prediction": round(answer, 3), "spread": round(float(answers.std()), 3)}


def _interval(answer: Any, limit: float | None, opt: Namespace) -> dict[str, Any]:
    """lower and upper end; of classes the set that holds the true one, with ; between the names."""
    if answer is None or limit is None:
        return {"set": None} if opt.task == "classification" else {"lower": None, "upper": None}
    if opt.task == "classification":
        return {"set": ";".join(opt.facts.classes[k] for k in prediction_set(answer, limit))}
    return {"lower": round(answer - limit, 3), "upper": round(answer + limit, 3)}


def _error(answer: Any, label: Any, opt: Namespace) -> float | None:
    """prediction - label; of classes 0 where it is right and 1 where it is wrong. None where either is missing."""
    if answer is None or label is None:
        return None
    if opt.task == "classification":
        return int(opt.facts.classes[int(answer.argmax())] != label)
    return round(answer - label, 3)


# -- one row a slice ---------------------------------------------------------------------------------------------

def slice_rows(results: Iterable[Result], opt: Namespace) -> list[dict[str, Any]]:
    """One row a slice, numbered from 1 in anatomical order."""
    rows = []
    for r in results:
        if r.answers is None:
            continue
        for s, answer in zip(r.slices, r.answers, strict=True):
            answer = answer if opt.task == "classification" else float(answer)
            values = {k: v for k, v in _answer(answer, r.answers, opt).items() if k != "spread"}
            rows.append({"id": r.scan.name, "patient": r.scan.patient, "slice": s.index + 1, **values,
                         "label": s.label, "error": _error(answer, s.label, opt), "file": str(s.path)})
    return rows


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    seen = sys.stdout.isatty()
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: cell(printable(v) if seen and isinstance(v, str) else v) for k, v in row.items()})
