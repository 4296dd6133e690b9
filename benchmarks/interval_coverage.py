"""How often the intervals of `duiit predict` hold for new patients, and how many sound scans it flags.

    python benchmarks/interval_coverage.py [--patients 200] [--runs 5] [--size 64] [--first_seed 0]

Makes one head phantom of CT patients a run (another seed each), trains the small predictor on 30 % of them, calibrates
on 20 % (40 patients of 200) and predicts the ages of the other 50 %. Prints, for several levels, the share of new
patients' ages inside the interval, its half width, and the share of their scans that are flagged: of the latest
weights, of the best ones, and of the best ones if the interval came of these weights' own errors on the very patients
who chose them; and the same of random halves of the validation patients, the others of whom stand for new ones. About
a minute a run on one core.
"""
import argparse
import csv
import itertools
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np

from duiit.util.conformal import bound, chosen_by_others
from duiit_cli.main import main as duiit

LEVELS = (0.6, 0.7, 0.8, 0.9)


def call(*words):
    try:
        duiit([str(word) for word in words])
    except SystemExit as stop:
        if stop.code:
            raise


def one_run(folder, seed, args):
    """Yields ((weights, level), (share inside, half width, share flagged)). Weights: latest; best; and best with the
    interval that comes of these weights' own errors on the patients who chose them."""
    data, runs = folder / "phantom", folder / "runs"
    call("data", "phantom", "--output", data, "--ct_patients", args.patients, "--mri_patients", 0, "--pet_patients", 0,
         "--size", args.size, "--seed", seed)
    call("train", "--model", "predictor", "--preset", "phantom", "--dataroot", data, "--name", "p",
         "--load_size", args.size, "--crop_size", args.size, "--val_fraction", 0.2, "--test_fraction", 0.5,
         "--val_freq", 1, "--seed", seed, "--split_seed", seed, "--no_html", "--display_id", 0, "--device", "cpu",
         "--checkpoints_dir", runs, "--cache_dir", folder / "cache")
    for epoch in ("latest", "best"):
        table = folder / f"{epoch}.csv"
        call("predict", "--name", "p", "--epoch", epoch, "--checkpoints_dir", runs, "--input", data / "ct",
             "--interval", LEVELS[-1], "--output", table)
        with table.open(newline="", encoding="utf-8") as file:
            rows = [r for r in csv.DictReader(file) if r["split"] == "test"]
        kept = {epoch: json.loads((runs / "p" / f"calibration_{epoch}.json").read_text())["scores"]["mean"]}
        if epoch == "best":
            validations = json.loads((runs / "p" / "validation.json").read_text())
            kept["best, not cross-fitted"] = own_errors(validations)
        told = (float(rows[0]["upper"]) - float(rows[0]["lower"])) / 2
        assert abs(told - bound(kept[epoch], LEVELS[-1])) < 0.01
        for (name, scores), level in itertools.product(kept.items(), LEVELS):
            width = bound(scores, level)
            yield (name, level), (statistics.mean(abs(float(r["error"])) <= width for r in rows), width,
                                  statistics.mean(r["flag"] != "" for r in rows))
    yield from resampled(validations)


def resampled(validations, draws=500):
    """Yields ((weights, level), (share inside, half width, None)): of the run's validation patients half choose the
    epoch and calibrate, and the others are new; mean over random halves. More draws than runs, of fewer patients."""
    rng = np.random.default_rng(0)
    errors, scores = (np.array([e[key] for e in validations["epochs"]]) for key in ("errors", "mean"))     # (E, n)
    found = {}
    for _ in range(draws):
        mine, new = np.array_split(rng.permutation(scores.shape[1]), 2)
        best = int(np.argmin(errors[:, mine].mean(axis=1)))
        kept = {"best, of half the patients": scores[chosen_by_others(errors[:, mine], np.ones(len(mine))), mine],
                "the same, not cross-fitted": scores[best, mine]}
        for (name, own), level in itertools.product(kept.items(), LEVELS):
            width = bound(own.tolist(), level)
            found.setdefault((name, level), []).append((np.mean(scores[best, new] <= width), width))
    for key, values in found.items():
        yield key, (*np.mean(values, axis=0), 0.0)


def own_errors(validations):
    """The patients' errors in the epoch that all of them chose."""
    best = min(validations["epochs"], key=lambda e: sum(e["errors"]))
    return best["mean"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("patients", 200), ("runs", 5), ("size", 64), ("first_seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    found = {}
    for seed in range(args.first_seed, args.first_seed + args.runs):
        with tempfile.TemporaryDirectory() as folder:
            for key, values in one_run(Path(folder), seed, args):
                found.setdefault(key, []).append(values)
    print("| weights | asked for | new patients inside, mean (each phantom) | half width (years) | scans flagged |")
    print("|---|---|---|---|---|")
    for (name, level), runs in found.items():
        held, width, flagged = (statistics.mean(column) for column in zip(*runs, strict=True))
        each = " ".join(f"{100 * run[0]:.0f}" for run in runs)
        print(f"| {name} | {level:.0%} | {held:.1%} ({each}) | {width:.1f} | {flagged:.1%} |")


if __name__ == "__main__":
    main()
