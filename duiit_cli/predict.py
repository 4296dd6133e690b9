"""`duiit predict`: one predicted label a scan, from its slices."""
import csv
import logging
import sys
from pathlib import Path

import numpy as np

from duiit_cli.adapter import OptionsCommand
from options import PredictOptions
from util.errors import UserError

log = logging.getLogger(__name__)


def run(opt):
    from data.modality_dataset import loader_of
    from duiit_cli.inference import load_model, predict, read
    from util.files import write_csv, write_json
    from util.progress import track

    scans = loader_of(opt.target).find_scans(Path(opt.input), opt)
    model = load_model(opt, "predictor")
    rows = []
    for scan in track(scans, "predicting", total=len(scans)):
        prepared = read(scan, opt.target, opt.output_nc, opt)
        used = [i for i, empty in enumerate(prepared.empty) if opt.keep_empty or not empty]
        if not used:
            log.warning("%s: every slice is constant or almost empty; no prediction", scan.name)
        answers = predict(model.predictor(), [prepared.images[i] for i in used], opt, model.device)
        slices = [prepared.slices[i] for i in used]
        rows += per_slice(scan, slices, answers, opt) if opt.per_slice else [per_scan(scan, answers, opt)]
    if not rows:
        raise UserError(f"--input {opt.input}: every slice is constant or almost empty; "
                        "--keep_empty takes them all the same")
    if not opt.output:
        print_csv(rows)
        return
    write_json(opt.output, rows) if opt.output.lower().endswith(".json") else write_csv(opt.output, rows)
    log.info("%d rows written to %s", len(rows), opt.output)


def print_csv(rows):
    columns = list(dict.fromkeys(key for row in rows for key in row))       # a scan without an answer has fewer
    writer = csv.DictWriter(sys.stdout, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def per_scan(scan, answers, opt):
    """One row: the scan's prediction (mean over its slices), how far its slices spread, their number."""
    row = {"id": scan.name, "patient": scan.patient, **_answer(answers, opt), "slices": len(answers)}
    row["file"] = str(scan.files[0] if len(scan.files) == 1 else scan.files[0].parent)
    return {**row, **_label(scan.label)}


def per_slice(scan, slices, answers, opt):
    """One row a slice, numbered from 1 in anatomical order."""
    rows = []
    for s, answer in zip(slices, answers, strict=True):
        values = {k: v for k, v in _answer(answer[None], opt).items() if k != "spread"}
        rows.append({"id": scan.name, "patient": scan.patient, "slice": s.index + 1, **values, "file": str(s.path),
                     **_label(s.label)})
    return rows


def _answer(answers, opt):
    """prediction and spread (standard deviation over slices), or the class and each class's mean probability."""
    if not len(answers):
        return {"prediction": "", "spread": ""}
    if opt.task == "classification":
        mean = answers.mean(axis=0)                                 # (K,)
        spread = answers[:, mean.argmax()].std()
        return {"prediction": opt.classes[int(mean.argmax())], "spread": round(float(spread), 4),
                **{f"p_{name}": round(float(p), 4) for name, p in zip(opt.classes, mean, strict=True)}}
    return {"prediction": round(float(np.mean(answers)), 3), "spread": round(float(np.std(answers)), 3)}


def _label(label):
    return {"label": "" if label is None else label}


command = OptionsCommand("predict", PredictOptions, run, help="""Predict the label of target scans with a trained run
(--model predictor, or the predictor of a duiit run). --input is a file, a folder, a DICOM series or a NIfTI volume.

\b
duiit predict --name mix --input ./new_ct --output ages.csv""")
