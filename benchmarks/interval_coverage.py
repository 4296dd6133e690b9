"""How often the intervals of `duiit predict` hold for new patients, and how many sound scans it flags.

    python benchmarks/interval_coverage.py [--patients 200] [--runs 5] [--size 64]

Makes one head phantom of CT patients a run (another seed each), trains the small predictor on 30 % of them, calibrates
on 20 % (40 patients of 200) and predicts the ages of the other 50 %. Prints, for the latest weights and for the best
ones (chosen on the very patients that calibrate), the share of new patients' ages inside the interval, its mean half
width, and the share of their scans that are flagged. About a minute a run on one core.
"""
import argparse
import csv
import statistics
import tempfile
from pathlib import Path

from duiit_cli.main import main as duiit


def call(*words):
    try:
        duiit([str(word) for word in words])
    except SystemExit as stop:
        if stop.code:
            raise


def one_run(folder, seed, args):
    data, runs = folder / "phantom", folder / "runs"
    call("data", "phantom", "--output", data, "--ct_patients", args.patients, "--mri_patients", 0, "--pet_patients", 0,
         "--size", args.size, "--seed", seed)
    call("train", "--model", "predictor", "--preset", "phantom", "--dataroot", data, "--name", "p",
         "--load_size", args.size, "--crop_size", args.size, "--val_fraction", 0.2, "--test_fraction", 0.5,
         "--val_freq", 1, "--seed", seed, "--split_seed", seed, "--no_html", "--display_id", 0, "--device", "cpu",
         "--checkpoints_dir", runs, "--cache_dir", folder / "cache")
    for epoch in ("latest", "best"):
        for level in (0.8, 0.9):
            table = folder / f"{epoch}_{level}.csv"
            call("predict", "--name", "p", "--epoch", epoch, "--checkpoints_dir", runs, "--input", data / "ct",
                 "--interval", level, "--output", table)
            with table.open(newline="", encoding="utf-8") as file:
                rows = [r for r in csv.DictReader(file) if r["split"] == "test"]
            held = [float(r["lower"]) <= float(r["label"]) <= float(r["upper"]) for r in rows]
            yield (epoch, level), (statistics.mean(held), (float(rows[0]["upper"]) - float(rows[0]["lower"])) / 2,
                                   statistics.mean(r["flag"] != "" for r in rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("patients", 200), ("runs", 5), ("size", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    found = {}
    for seed in range(args.runs):
        with tempfile.TemporaryDirectory() as folder:
            for key, values in one_run(Path(folder), seed, args):
                found.setdefault(key, []).append(values)
    for (epoch, level), runs in sorted(found.items()):
        held, width, flagged = (statistics.mean(column) for column in zip(*runs, strict=True))
        each = " ".join(f"{run[0]:.0%}" for run in runs)
        print(f"{epoch:>6} {level:.0%}: {held:.1%} of new patients ({each}), half width {width:.1f} years, "
              f"{flagged:.1%} of scans flagged")


if __name__ == "__main__":
    main()
