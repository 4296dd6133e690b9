"""What the phantom study's table says, in Markdown."""
import operator
from statistics import mean

from study_table import DASH, grid, mean_sd, over, p_value

from duiit.util import statistics

TITLES = {"small": "32 pixels", "older": "32 pixels, MRI patients older (68 ± 12 years)", "default": "64 pixels"}
NAMES = {"floor": "nothing (always the training mean)", "pure_ct": "the CTs alone (PURE-CT)",
         "simple_augment": "the same, Simple Augment", "autoaugment": "the same, AutoAugment",
         "random_erasing": "the same, Random Erasing", "raw_mri": "+ MRIs as they are (raw)",
         "transfer_mri": "transfer from MRI", "multitask_mri": "multi-task with MRI", "dann_mri": "DANN with MRI",
         "cyclegan_mri": "+ MRIs translated by a CycleGAN", "detached": "+ by DUIIT, `--guidance detached`",
         "duiit_mri": "+ **by DUIIT** (joint, push running)",
         "batch": "+ by DUIIT, joint, push batch (Eq. 3 to the letter)",
         "real": "+ by DUIIT, `--guidance real`", "real_batch": "+ by DUIIT, `--guidance real`, push batch",
         "lambda_0_0001": "+ by DUIIT, lambda_pred 0.0001", "lambda_0_0003": "+ by DUIIT, lambda_pred 0.0003",
         "lambda_0_003": "+ by DUIIT, lambda_pred 0.003", "lambda_0_01": "+ by DUIIT, lambda_pred 0.01",
         "chosen_mri": "+ **by DUIIT or CycleGAN, as validation chooses**",
         "oracle_mri": "+ the true CTs of the MRI patients (oracle)"}
NOTE = ("Errors are mean squared errors of the age by patient, mean ± standard deviation over phantoms. p: paired "
        "t-test over independent phantoms, not corrected for the number of rows; what was asked beforehand is whether "
        "DUIIT, and the choice by validation, are better than PURE-CT, raw and CycleGAN. Of the way: from PURE-CT "
        "(0 %) to the oracle (100 %), of the means.")
PURE, ORACLE, CYCLEGAN = "pure_ct", "oracle_mri", "cyclegan_mri"
CURVES = {"labelled CT patients": ("ct_6", "ct_12", "small", "ct_24", "ct_48"),
          "translator steps": ("steps_300", "small", "steps_1200", "steps_2400")}
X = {"small": {"labelled CT patients": "16", "translator steps": "600"}}


def text(rows):
    """Tables for each setting, then the curves."""
    lines = []
    for setting, title in TITLES.items():
        own = [r for r in rows if r["setting"] == setting]
        if own:
            lines += [f"**{title}** ({len({r['phantom'] for r in own})} phantoms)", "", *_errors(own), "",
                      *_translators(own)]
    for what, settings in CURVES.items():
        lines += _curve(rows, what, settings)
    return "\n".join([*lines, NOTE]) if lines else "The table holds no cell yet."


def _values(rows, method, column):
    """{phantom: value}."""
    if method == "floor":
        method, column = PURE, f"floor_{column}"
    return {r["phantom"]: r[column] for r in rows if r["method"] == method and r[column] is not None}


def _errors(rows):
    lines = [["trained on", "phantoms", "error (years²)", "of the way", "minus PURE-CT (p)", "minus CycleGAN (p)",
              "against CycleGAN: better, equal, worse"]]
    there = {r["method"] for r in rows}
    for method, title in NAMES.items():
        values = _values(rows, method, "mse_patient")
        if method in there or method == "floor":
            lines.append([title, str(len(values)), mean_sd(values.values()), way(rows, method),
                          _difference(rows, method, PURE), _difference(rows, method, CYCLEGAN), _wins(rows, method)])
    return grid(lines)


def way(rows, method):
    """How far of the way from PURE-CT to the oracle, in the mean over the phantoms that have all three."""
    three = [_values(rows, m, "mse_patient") for m in (method, PURE, ORACLE)]
    common = set.intersection(*map(set, three))
    if not common or method in ("floor", PURE):
        return DASH
    error, pure, oracle = (mean(v[p] for p in common) for v in three)
    if oracle >= pure:                  # perfect translation helps nothing here: there is no way to go
        return DASH
    return f"{100 * (pure - error) / (pure - oracle):.0f} %"


def _pairs(rows, method, other):
    ours, theirs = _values(rows, method, "mse_patient"), _values(rows, other, "mse_patient")
    common = sorted(set(ours) & set(theirs))
    return [ours[p] for p in common], [theirs[p] for p in common]


def _difference(rows, method, other):
    """Plain paired t-test: the phantoms are independent."""
    if method in (other, "floor"):
        return DASH
    test = statistics.paired_t_test(*_pairs(rows, method, other))
    if test.difference is None:
        return DASH
    return f"{test.difference:+.0f}" + ("" if test.p is None else f" ({p_value(test.p)})")


def _wins(rows, method):
    ours, theirs = _pairs(rows, method, CYCLEGAN)
    won, equal = (sum(test(a, b) for a, b in zip(ours, theirs, strict=True)) for test in (operator.lt, operator.eq))
    return DASH if method in (CYCLEGAN, "floor") or not ours else f"{won}, {equal}, {len(ours) - won - equal}"


TRANSLATIONS = {"label read from held-out images: r": "fidelity_held_out_r", "MAE (years)": "fidelity_held_out_mae",
                "against the true CT, {over}: MAE (HU)": "paired_mae", "SSIM": "paired_ssim",
                "ventricles: slope": "ventricles_slope", "bias (years' worth)": "ventricles_bias",
                "sd": "ventricles_sd", "off by more than 5": "ventricles_off_5", "than 10": "ventricles_off_10"}


def _translators(rows):
    own = [m for m in NAMES if any(r["method"] == m and r["paired_mae"] is not None for r in rows)]
    lines = [["images", "phantoms", *(title.format(over=over(rows)) for title in TRANSLATIONS)]]
    for method in own:
        columns = [_values(rows, method, c) for c in TRANSLATIONS.values()]
        lines.append([NAMES[method].removeprefix("+ "), str(len(_values(rows, method, "paired_mae"))),
                      *(mean_sd(c.values()) for c in columns)])
    return [*grid(lines), ""] if own else []


def _curve(rows, what, settings):
    """One line a method, one column a setting: mean error and how far of the way."""
    there = [s for s in settings if any(r["setting"] == s for r in rows)]
    if len(there) < 2:
        return []
    phantoms = set.intersection(*({r["phantom"] for r in rows if r["setting"] == s} for s in there))
    lines = [[what, *(X.get(s, {}).get(what, s.rpartition("_")[2]) for s in there)]]
    for method in (PURE, CYCLEGAN, "duiit_mri", ORACLE):
        parts = [[r for r in rows if r["setting"] == s and r["phantom"] in phantoms] for s in there]
        lines.append([NAMES[method].removeprefix("+ "),
                      *(f"{mean_sd(_values(p, method, 'mse_patient').values())}, {way(p, method)}" for p in parts)])
    return [f"**Over {what}** (32 pixels, {len(phantoms)} phantoms; error in years², and how far of the way)", "",
            *grid(lines), ""]
