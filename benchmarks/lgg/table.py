"""The study's table: one row a cell (a method on one split of one assignment of roles), and what it says in Markdown.

The table alone is enough to go on with: what stands in it is never run again, on whatever machine.
"""
from statistics import mean

import study_table
from study_table import DASH, grid, mean_sd, over, p_value

from duiit.util import statistics
from duiit_cli.experiments.reporting.results import Experiment

KEY = ("role_seed", "split", "split_by", "method")
COLUMNS = (*KEY, *study_table.CELL)
BASELINE, FLOOR = "pure_ct", "floor"
NAMES = {FLOOR: "nothing (always the training mean)", BASELINE: "the target patients alone (PURE)",
         "raw_flair": "+ FLAIR as it is (raw)", "cyclegan_flair": "+ FLAIR translated by a CycleGAN",
         "duiit_flair": "+ FLAIR translated by DUIIT",
         "chosen_flair": "+ by DUIIT or CycleGAN, as validation chooses",
         "oracle_flair": "+ the true T1 of the source patients (oracle)"}
NOTE = ("Mean ± standard deviation over assignments of roles. All are drawn from the same patients, so their "
        "differences are not independent and the plain paired p is too small; the corrected one (Nadeau and Bengio) "
        "allows for that, and is strict where more is tested on than trained on. r is the correlation of the answer "
        "with the label; the one who reads the label from translated images is the split's PURE network.")


def read(path, settings=None):
    """[row, …] of the table; see study_table.read."""
    return study_table.read(path, COLUMNS, settings, words=("split_by",))


def write(path, rows):
    study_table.write(path, rows, COLUMNS, key)


def key(row):
    return tuple(row[k] for k in KEY)


def gather(folder, role_seed, split, settings):
    """[row, …]: every finished cell of the experiment in `folder`, which has one split."""
    split_by = Experiment(folder).settings["split_by"]
    return [{"role_seed": role_seed, "split": split, "split_by": split_by, **row}
            for row in study_table.rows_of(folder, settings)]


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
    lines = [header]
    for method in (FLOOR, *methods):
        cells = [mean_sd(_values(rows, method, c).values()) for c in ("mse_patient", "mse_image", "mae_patient")]
        ours = _values(rows, method, metric)
        # One method's cells have the same floor as another's on the same split.
        floor = _values([r for r in rows if method in (FLOOR, r["method"])], FLOOR, metric)
        share = mean(ours[s] / floor[s] for s in ours)
        lines.append([NAMES.get(method, method), str(len(ours)), *cells, f"{share:.2f}",
                      *(_difference(rows, method, o, metric) for o in others)])
    return grid(lines)


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
    return text if plain.p is None else f"{text} ({p_value(plain.p)}; {p_value(corrected.p)})"


def _test_train_ratio(rows, metric):
    what = "images" if metric.endswith("image") else "patients"
    return mean(r[f"test_{what}"] / r[f"train_{what}"] for r in rows)


def _translators(rows):
    own = [m for m in _methods(rows) if any(r["method"] == m and r["paired_mae"] is not None for r in rows)]
    if not own:
        return []
    columns = {"label read from held-out images: MAE (years)": "fidelity_held_out_mae", "r": "fidelity_held_out_r",
               "from trained-on images: MAE (years)": "fidelity_trained_on_mae",
               "r, trained on": "fidelity_trained_on_r",
               f"MAE against the true T1 (of 255), {over(rows)}": "paired_mae",
               "PSNR (dB)": "paired_psnr", "SSIM": "paired_ssim", "`fd_predictor`": "fd_predictor"}
    lines = [["images", *columns]]
    lines += [[NAMES.get(m, m).removeprefix("+ "), *(mean_sd(_values(rows, m, c).values()) for c in columns.values())]
              for m in own]
    return [*grid(lines), ""]
