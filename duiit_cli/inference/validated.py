"""What every validation of a run found of every patient, kept in its folder as `validation.json`.

The best epoch is the one that these patients like best, so their errors in it are a little small and would make
intervals too narrow. Each patient's honest error is that in the epoch which others would have chosen (cross-fitting, in
folds); for that the errors in every epoch are needed.
"""
import json
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from duiit.models.parts.prediction import Validation
from duiit.util.conformal import chosen_by_others
from duiit.util.files import write_json
from duiit_cli.inference.scan_answers import AGGREGATES, of_scan, score_of

NAME = "validation.json"
VERSION = 1


class Record:
    """The validations of a run so far. Patients are numbered: the file holds no names."""

    def __init__(self, folder: Path, opt: Namespace) -> None:
        self.path, self.opt = folder / NAME, opt
        self.epochs: list[dict[str, Any]] = []
        self.whole = True           # False where an earlier version validated without keeping this

    def begin(self, next_epoch: int | None) -> None:
        """Forgets what was found from `next_epoch` on, which comes again; everything where the run begins anew."""
        if next_epoch is None:
            self._write()
            return
        self.whole = self.path.is_file()
        self.epochs = [e for e in read(self.path.parent) if e["epoch"] < next_epoch]

    def add(self, epoch: int, found: Mapping[str, float]) -> None:
        """Keeps one validation, where it tells patients who are in no other part."""
        if not self.whole or not isinstance(found, Validation) or not found.patients or self.opt.split_by != "patient":
            return
        self.epochs.append({"epoch": epoch, **_by_patient(found, self.opt)})
        self._write()

    def _write(self) -> None:
        write_json(self.path, {"version": VERSION, "epochs": self.epochs})


def read(folder: Path) -> list[dict[str, Any]]:
    """[{"epoch", "errors", "weights", <aggregate>: scores}], a number a patient in each list; [] where nothing is kept
    that can be used."""
    try:
        kept = json.loads((folder / NAME).read_text(encoding="utf-8"))
        epochs: list[dict[str, Any]] = kept["epochs"] if kept["version"] == VERSION else []
        lengths = {len(e[key]) for e in epochs for key in ("errors", "weights", *AGGREGATES)}
        return epochs if len(lengths) < 2 and all(isinstance(e["epoch"], int) for e in epochs) else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def cross_fitted(folder: Path) -> dict[str, list[float]] | None:
    """{aggregate: sorted scores}: each patient's in the epoch that those of other folds choose. None where the
    validations were not kept, or of fewer than two patients."""
    epochs = read(folder)
    if not epochs or len(epochs[0]["errors"]) < 2:
        return None
    chosen = chosen_by_others([e["errors"] for e in epochs], epochs[0]["weights"])
    found = {how: [epochs[e][how][patient] for patient, e in enumerate(chosen)] for how in AGGREGATES}
    return {how: sorted(s for s in scores if s is not None) for how, scores in found.items()}


def _by_patient(found: Validation, opt: Namespace) -> dict[str, list[Any]]:
    """errors and weights: by these the epoch is chosen. The aggregates: the score of each patient's worst scan, None
    where the scan's images have different labels."""
    patients = np.asarray(found.patients)
    done: dict[str, list[Any]] = {"errors": [], "weights": [], **{how: [] for how in AGGREGATES}}
    for patient in dict.fromkeys(found.patients or ()):
        own = np.flatnonzero(patients == patient)
        error, weight = found.error_of(own, opt.task, opt.val_by)
        done["errors"].append(error)
        done["weights"].append(weight)
        scans = [own[np.asarray(found.scans)[own] == scan] for scan in dict.fromkeys(np.asarray(found.scans)[own])]
        scans = [s for s in scans if len(set(found.labels[s].tolist())) == 1]
        for how in AGGREGATES:
            scores = [score_of(of_scan(found.answers[s], how), _label(found.labels[s[0]], opt), opt) for s in scans]
            done[how].append(max(scores) if scores else None)
    return done


def _label(label: Any, opt: Namespace) -> Any:
    return opt.facts.classes[int(label)] if opt.task == "classification" else float(label)
