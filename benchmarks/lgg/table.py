"""The study's table: one row a cell (a method on one split of one assignment of roles), and what it says in Markdown.

The table alone is enough to go on with: what stands in it is never run again, on whatever machine.
"""
import csv
import json
from pathlib import Path
from statistics import mean

from duiit_cli.experiments.results import Experiment
from util import statistics
from util.errors import UserError
from util.files import write_csv

KEY = ("role_seed", "split", "split_by", "method")
PARTS = ("train", "val", "test")
# Errors in years and years², image errors in grey levels of 255 (mae) and dB (psnr), times in seconds.
COLUMNS = (*KEY, "mse_patient", "mse_image", "mae_patient", "mae_image", "floor_mse_patient", "floor_mse_image",
           "floor_mae_patient", "floor_mae_image", *(f"{p}_{what}" for p in PARTS for what in ("patients", "images")),
           "extra_images", *(f"fidelity_{part}_{m}" for part in ("held_out", "trained_on") for m in ("n", "mae", "r")),
           "paired_n", "paired_mae", "paired_psnr", "paired_ssim", "fd_predictor", "seconds", "translator_seconds",
           "settings")
BASELINE, FLOOR = "pure_ct", "floor"
NAMES = {FLOOR: "nothing (always the training mean)", BASELINE: "the target patients alone (PURE)",
         "raw_flair": "+ FLAIR as it is (raw)", "cyclegan_flair": "+ FLAIR translated by a CycleGAN",
         "duiit_flair": "+ FLAIR translated by DUIIT", "oracle_flair": "+ the true T1 of the source patients (oracle)"}
DASH = "–"
NOTE = ("Mean ± standard deviation over assignments of roles. All are drawn from the same patients, so their "
        "differences are not independent and the plain paired p is too small; the corrected one (Nadeau and Bengio) "
        "allows for that, and is strict where more is tested on than trained on. r is the correlation of the answer "
        "with the label; the one who reads the label from translated images is the split's PURE network.")


def read(path, settings=None):
    """[row, …] of a table, numbers as numbers; [] where there is none yet. Raises UserError for a table that is not
    one, or that holds cells of other settings than `settings`."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames
    except FileNotFoundError:
        return []
    if tuple(columns or ()) != COLUMNS:
        raise UserError(f"--table {path}: its columns are not those of this study; give another file")
    if settings and any(r["settings"] != settings for r in rows):
        raise UserError(f"--table {path}: holds cells of other sizes, patients or preset than these; give another file")
    return [{k: v if k in ("split_by", "method", "settings") else _number(v) for k, v in r.items()} for r in rows]


def _number(text):
    return None if text == "" else float(text) if "." in text or "e" in text else int(text)


def write(path, rows):
    """Writes the rows in the order of their keys."""
    rows = sorted(rows, key=key)
    write_csv(path, [{k: "" if row.get(k) is None else row[k] for k in COLUMNS} for row in rows], COLUMNS)


def key(row):
    return tuple(row[k] for k in KEY)


# -- from an experiment ------------------------------------------------------------------------------------------

def gather(folder, role_seed, split, settings):
    """[row, …]: every finished cell of the experiment in `folder`, which has one split."""
    experiment = Experiment(folder)
    rows = []
    for (name, _), cell in experiment.cells.items():
        row = {**dict.fromkeys(COLUMNS), "role_seed": role_seed, "split": split, "method": name,
               "split_by": experiment.settings["split_by"], "extra_images": cell.counts.get("extra_images"),
               "seconds": cell.record.get("seconds"), "settings": settings}
        for unit in ("patient", "image"):
            errors, floor = cell.errors[f"by_{unit}"], cell.floor[f"by_{unit}"]
            for metric in ("mse", "mae"):
                row |= {f"{metric}_{unit}": _round(errors.get(metric)),
                        f"floor_{metric}_{unit}": _round(floor.get(metric))}
        row |= {f"{p}_{what}": cell.counts[p][what] for p in PARTS for what in ("patients", "images")}
        rows.append(row | _of_translator(experiment, name))
    return rows


def _of_translator(experiment, name):
    quality = experiment.qualities.get((name, 0))
    if not quality:
        return {}
    found = next(iter(quality["sources"].values()))
    row = {"fd_predictor": _round(found["distribution"].get("fd_predictor"))}
    for part, errors in found["label_fidelity"].items():
        row |= {f"fidelity_{part}_{ours}": _round(errors.get(theirs))
                for ours, theirs in (("n", "n"), ("mae", "mae"), ("r", "pearson_r"))}
    for name_there, value in found["paired"].items():
        row[f"paired_{name_there.partition('_')[0]}"] = _round(value)
    record = experiment.folder / "translators" / name / "split_00" / "translator.json"
    return row | {"translator_seconds": json.loads(record.read_text(encoding="utf-8")).get("seconds")}


def _round(value):
    return round(value, 4) if isinstance(value, float) else value


# -- in words ----------------------------------------------------------------------------------------------------

def summary(rows):
    """Markdown: for each way of splitting, a table of errors and one of the translators, and how far to trust them."""
    text = []
    for split_by in sorted({r["split_by"] for r in rows}, reverse=True):
        own = [r for r in rows if r["split_by"] == split_by]
        text += [f"**Split by {split_by}** ({_extent(own)})", "", *_errors(own, split_by), "", *_translators(own)]
    return "\n".join([*text, NOTE]) if text else "The table holds no cell yet."


def _extent(rows):
    def span(column):
        values = {r[column] for r in rows}
        return f"{min(values)}" if len(values) == 1 else f"{min(values)} to {max(values)}"

    seeds, splits = {r["role_seed"] for r in rows}, {(r["role_seed"], r["split"]) for r in rows}
    return (f"{len(seeds)} assignments of roles, {len(splits)} splits; trained on {span('train_images')} images of "
            f"{span('train_patients')} target patients, tested on {span('test_images')} of {span('test_patients')}")


def _errors(rows, unit):
    metric, methods = f"mse_{unit}", _methods(rows)
    others = [m for m in (BASELINE, "cyclegan_flair") if m in methods]
    header = ["trained on", "assignments", "MSE by patient (years²)", "MSE by image (years²)",
              "MAE by patient (years)", f"share of the floor (MSE by {unit})",
              *(f"minus {'PURE' if o == BASELINE else 'CycleGAN'}, MSE by {unit} (p paired; p corrected)"
                for o in others)]
    lines = [header, ["---"] * len(header)]
    for method in (FLOOR, *methods):
        cells = [_mean_sd(_values(rows, method, c).values()) for c in ("mse_patient", "mse_image", "mae_patient")]
        ours = _values(rows, method, metric)
        # One method's cells have the same floor as another's on the same split.
        floor = _values([r for r in rows if method in (FLOOR, r["method"])], FLOOR, metric)
        share = mean(ours[s] / floor[s] for s in ours)
        lines.append([NAMES.get(method, method), str(len(ours)), *cells, f"{share:.2f}",
                      *(_difference(rows, method, o, metric) for o in others)])
    return _grid(lines)


def _grid(lines):
    return ["| " + " | ".join(line) + " |" for line in lines]


def _methods(rows):
    order = list(NAMES)
    return sorted({r["method"] for r in rows}, key=lambda m: (order.index(m) if m in order else len(order), m))


def _values(rows, method, column):
    """{role seed: the mean over its splits}: splits of one assignment share all their patients."""
    column = f"floor_{column}" if method == FLOOR else column
    found = {}
    for r in rows:
        if (method == FLOOR or r["method"] == method) and r[column] is not None:
            found.setdefault(r["role_seed"], {}).setdefault(r["split"], r[column])
    return {seed: mean(splits.values()) for seed, splits in sorted(found.items())}


def _mean_sd(values):
    found = statistics.summary(values)
    if not found["n"]:
        return DASH
    digits = 0 if found["mean"] >= 100 else 1 if found["mean"] >= 10 else 2
    return f"{found['mean']:.{digits}f}" + ("" if found["sd"] is None else f" ± {found['sd']:.{digits}f}")


def _difference(rows, method, other, metric):
    if method == other:
        return DASH
    ours, theirs = _values(rows, method, metric), _values(rows, other, metric)
    seeds = sorted(set(ours) & set(theirs))
    a, b = [ours[s] for s in seeds], [theirs[s] for s in seeds]
    plain = statistics.paired_t_test(a, b)
    if plain.difference is None:
        return DASH
    corrected = statistics.corrected_t_test(a, b, _test_train_ratio(rows, metric))
    text = f"{plain.difference:+.0f}"
    return text if plain.p is None else f"{text} ({_p(plain.p)}; {_p(corrected.p)})"


def _p(value):
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _test_train_ratio(rows, metric):
    what = "images" if metric.endswith("image") else "patients"
    return mean(r[f"test_{what}"] / r[f"train_{what}"] for r in rows)


def _translators(rows):
    own = [m for m in _methods(rows) if any(r["method"] == m and r["paired_mae"] is not None for r in rows)]
    if not own:
        return []
    columns = {"label read from held-out images: MAE (years)": "fidelity_held_out_mae", "r": "fidelity_held_out_r",
               "from trained-on images: MAE (years)": "fidelity_trained_on_mae",
               "r, trained on": "fidelity_trained_on_r", "MAE against the true T1 (of 255)": "paired_mae",
               "PSNR (dB)": "paired_psnr", "SSIM": "paired_ssim", "`fd_predictor`": "fd_predictor"}
    lines = [["images", *columns], ["---"] * (len(columns) + 1)]
    lines += [[NAMES.get(m, m).removeprefix("+ "), *(_mean_sd(_values(rows, m, c).values()) for c in columns.values())]
              for m in own]
    return [*_grid(lines), ""]
