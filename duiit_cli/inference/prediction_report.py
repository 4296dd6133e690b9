"""The lines under a table of predictions: how large the errors are where labels are known, and what was flagged."""
import logging
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from duiit.util import metrics
from duiit.util.problems import counted

log = logging.getLogger(__name__)
SEEN = {"train", "val"}


def report(rows: Sequence[Mapping[str, Any]], opt: Namespace) -> None:
    """Says what the rows come to. Scans of patients that the run was trained or tuned on are counted apart: how well
    their labels are known says nothing of a new patient's."""
    flagged = [r for r in rows if r["flag"]]
    if flagged:
        kinds = dict.fromkeys(r["flag"] for r in flagged)
        log.warning("flagged: %s of %d scans; the column reason says why", ", ".join(
            f"{sum(r['flag'] == kind for r in flagged)} {kind}" for kind in kinds), len(rows))
    known = [r for r in rows if r["error"] is not None]
    seen = [r for r in known if SEEN & set(r["split"].split("+"))]
    new = [r for r in known if r not in seen]
    if new:
        log.info("%s", summary(new, opt))
    if seen:
        log.warning("of patients whom the run was trained or tuned on (by their names), no measure of new ones: %s",
                    summary(seen, opt))


def summary(rows: Sequence[Mapping[str, Any]], opt: Namespace) -> str:
    """`12 scans of 10 patients: MAE 6.1, RMSE 7.9, bias -1.2; 11 labels (92 %) are in the 90 % interval`."""
    if opt.task == "classification":
        found = metrics.classification_errors([r["prediction"] for r in rows], [r["label"] for r in rows])
        errors = f"accuracy {found['accuracy']:.3g}, balanced {found['balanced_accuracy']:.3g}"
        held = [r["label"] in r["set"].split(";") for r in rows if r["set"] is not None]
    else:
        found = metrics.regression_errors([r["prediction"] for r in rows], [r["label"] for r in rows])
        errors = f"MAE {found['mae']:.4g}, RMSE {found['mse'] ** 0.5:.4g}, bias {found['bias']:.4g}"
        held = [r["lower"] <= r["label"] <= r["upper"] for r in rows if r["lower"] is not None]
    scans = f"{counted(len(rows), 'scan')} of {counted(len({r['patient'] for r in rows}), 'patient')}"
    return f"{scans}: {errors}{_coverage(held, opt) if held else ''}"


def _coverage(held: Sequence[bool], opt: Namespace) -> str:
    where = "set" if opt.task == "classification" else "interval"
    return f"; {sum(held)} of {len(held)} labels ({sum(held) / len(held):.0%}) are in the {opt.interval:.0%} {where}"
