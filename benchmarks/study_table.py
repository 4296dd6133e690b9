"""What the studies have in common: a table with one row a cell (a method on one split), read from the experiments that
`duiit experiment` left. A study's table alone is enough to go on with: what stands in it is never run again, on
whatever machine.
"""
import csv
import fcntl
import json
import sys
from pathlib import Path

from duiit.util import statistics
from duiit.util.errors import UserError
from duiit.util.files import write_csv
from duiit_cli.experiments.reporting.results import Experiment
from duiit_cli.main import main as duiit

PARTS = ("train", "val", "test")
# Errors in years and years², image errors in HU or grey levels of 255 (mae) and dB (psnr), times in seconds. fidelity:
# how well the split's PURE network reads the label from translated images, by image. paired: errors against the true
# image, within the window that was trained on, over what `paired_over` says. ventricles: of held-out source patients,
# in years' worth (bias, sd) and shares of the patients (off by more than 5 or 10 years).
CELL = ("mse_patient", "mse_image", "mae_patient", "mae_image", "validation_mse_patient", "chosen",
        "floor_mse_patient", "floor_mse_image", "floor_mae_patient", "floor_mae_image",
        *(f"{p}_{what}" for p in PARTS for what in ("patients", "images")), "extra_images",
        *(f"fidelity_{part}_{m}" for part in ("held_out", "trained_on") for m in ("n", "mae", "r")),
        "paired_n", "paired_mae", "paired_psnr", "paired_ssim", "fd_predictor",
        "ventricles_patients", "ventricles_slope", "ventricles_bias", "ventricles_sd", "ventricles_off_5",
        "ventricles_off_10", "seconds", "translator_seconds", "settings", "paired_over")
WORDS = {"method", "chosen", "settings", "paired_over"}             # columns that hold no numbers
SINCE = {"paired_over": "whole image"}              # columns that earlier tables have not, and what holds for these
DASH = "–"


def read(path, columns, settings=None, words=()):
    """[row, …] of a table, numbers as numbers; [] where there is none yet. words: further columns that hold no numbers.
    Raises UserError for a table that is not one, or that holds cells of other settings than `settings`."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows, found = list(reader), reader.fieldnames
    except FileNotFoundError:
        return []
    if tuple(found or ()) not in (tuple(columns), tuple(c for c in columns if c not in SINCE)):
        raise UserError(f"--table {path}: its columns are not those of this study; give another file")
    if settings and any(r["settings"] != settings for r in rows):
        raise UserError(f"--table {path}: holds cells of other sizes, patients or preset than these; give another file")
    rows = [{**SINCE, **r} for r in rows]
    return [{k: r[k] if k in WORDS or k in words else _number(r[k]) for k in columns} for r in rows]


def _number(text):
    return None if text == "" else float(text) if "." in text or "e" in text else int(text)


def write(path, rows, columns, key):
    """Writes the rows in the order of their keys."""
    rows = sorted(rows, key=key)
    write_csv(path, [{k: "" if row.get(k) is None else row[k] for k in columns} for row in rows], columns)


def add(path, rows, columns, key, words=()):
    """Adds rows to a table that others may be adding to, and returns all that it holds then. A row that is there stays:
    what was trained again beside new methods, to judge by, is not another measurement."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        there = read(path, columns, words=words)
        known = {key(r) for r in there}
        there += [r for r in rows if key(r) not in known]
        write(path, there, columns, key)
    Path(f"{path}.lock").unlink(missing_ok=True)
    return there


def run(study, summary):
    """What a study's main does: `study()` gives the exit status and the rows, `summary(rows)` what is printed of them;
    errors are one line."""
    try:
        code, rows = study()
        print(summary(rows))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return code


def call(*words):
    """Exit status of `duiit`."""
    try:
        duiit([str(w) for w in words])
    except SystemExit as stop:
        return stop.code or 0
    return 0


# -- from an experiment ------------------------------------------------------------------------------------------

def rows_of(folder, settings):
    """Yields a row for every finished cell of the experiment in `folder`, which has one split. A cell whose translator
    was not judged is not whole, and left to a later call."""
    experiment = Experiment(folder)
    for (name, _), cell in experiment.cells.items():
        if name in experiment.translators and (name, 0) not in experiment.qualities:
            continue
        validation = cell.record.get("validation", {}).get("by_patient", {})
        row = {**dict.fromkeys(CELL), "method": name, "extra_images": cell.counts.get("extra_images"),
               "chosen": cell.record.get("chosen", ""), "validation_mse_patient": validation.get("mse"),
               "seconds": cell.record.get("seconds"), "settings": settings, "paired_over": ""}
        for unit in ("patient", "image"):
            errors, floor = cell.errors[f"by_{unit}"], cell.floor[f"by_{unit}"]
            for metric in ("mse", "mae"):
                row |= {f"{metric}_{unit}": errors.get(metric), f"floor_{metric}_{unit}": floor.get(metric)}
        row |= {f"{p}_{what}": cell.counts[p][what] for p in PARTS for what in ("patients", "images")}
        row |= _of_translator(experiment, name)
        yield {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}


def _of_translator(experiment, name):
    quality = experiment.qualities.get((name, 0))
    if not quality:
        return {}
    found = next(iter(quality["sources"].values()))
    row = {"fd_predictor": found["distribution"].get("fd_predictor")}
    for part, errors in found["label_fidelity"].items():
        row |= {f"fidelity_{part}_{ours}": errors.get("by_image", errors).get(theirs)
                for ours, theirs in (("n", "n"), ("mae", "mae"), ("r", "pearson_r"))}
    row |= _against_truth(found["paired"])
    widths = found.get("ventricles", {}).get("held_out", {})
    row |= {f"ventricles_{ours}": widths.get(theirs) for ours, theirs in (
        ("patients", "patients"), ("slope", "slope"), ("bias", "bias_label"), ("sd", "sd_label"), ("off_5", "off_5"),
        ("off_10", "off_10"))}
    record = experiment.folder / "translators" / name / "split_00" / "translator.json"
    return row | {"translator_seconds": json.loads(record.read_text(encoding="utf-8")).get("seconds")}


def _against_truth(paired):
    """Within the window where there is one: beyond it, nothing could be made."""
    if not paired:
        return {}
    if "mask" not in paired:                    # an earlier version's, which knew no mask
        return {**SINCE, **{f"paired_{name.partition('_')[0]}": value for name, value in paired.items()}}
    ending = "_in_window" if paired.get("window") else ""
    found = {name: next((v["mean"] for k, v in paired.items() if k.startswith(name) and k.endswith(ending)), None)
             for name in ("mae", "psnr", "ssim")}
    return {"paired_n": paired["n"]["images"], "paired_over": paired["mask"],
            **{f"paired_{name}": value for name, value in found.items()}}


def over(rows):
    """What the errors against the true images were taken over, for the head of a table: `whole image`."""
    return " or ".join(sorted({r["paired_over"] for r in rows if r["paired_mae"] is not None and r["paired_over"]}))


# -- in words ----------------------------------------------------------------------------------------------------

def grid(lines):
    """Lines of a Markdown table, the first of which heads it."""
    return ["| " + " | ".join(line) + " |" for line in [lines[0], ["---"] * len(lines[0]), *lines[1:]]]


def mean_sd(values):
    found = statistics.summary(values)
    if not found["n"]:
        return DASH
    digits = 0 if found["mean"] >= 100 else 1 if found["mean"] >= 10 else 2
    return f"{found['mean']:.{digits}f}" + ("" if found["sd"] is None else f" ± {found['sd']:.{digits}f}")


def p_value(value):
    return "<0.001" if value < 0.001 else f"{value:.3f}"
