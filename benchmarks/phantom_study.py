"""Does the coupling pay, where, and how much? Every method on independent phantoms.

    python benchmarks/phantom_study.py --work W [--stages main,others,curves] [--jobs 2] [--hours 3]
    python benchmarks/phantom_study.py --summary            # the committed table in words, nothing is run

A replicate is a phantom of its own seed: other CT patients to learn from and to be tested on, other MRI patients. So
the errors of two methods on ten phantoms are ten independent pairs, and a plain paired t-test is honest. On each
phantom one `duiit experiment` of one split is run, and each of its cells is a row of --table. What stands in the table
is skipped, so the study can be stopped at any time and gone on with by the same command: here from half-trained
networks, elsewhere from the table alone. Stages: `main` are the methods that matter in the three settings, `others` all
other methods of the paper and all ways to push, `curves` the course over labelled CT patients, steps and lambda_pred.

Seeds below 1000 were used to choose sizes, the push and the defaults, those of the study begin at 1000.
"""
import argparse
import hashlib
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import study_table
from phantom import summary

from duiit.options import presets
from duiit.util.errors import UserError

HERE = Path(__file__).resolve().parent
FIRST_SEED = 1000
KEY = ("setting", "phantom", "method")
COLUMNS = (*KEY, *study_table.CELL)
SLICES, VAL, TEST = 8, 8, 96        # a patient's; CT patients to validate and to test on
MRI_PATIENTS = 100

MAIN = ("pure_ct", "raw_mri", "cyclegan_mri", "duiit_mri", "chosen_mri", "oracle_mri")
OTHERS = ("simple_augment", "autoaugment", "random_erasing", "transfer_mri", "multitask_mri", "dann_mri", "batch",
          "real", "real_batch", "detached")
FOUR = ("pure_ct", "cyclegan_mri", "duiit_mri", "oracle_mri")
LAMBDAS = ("lambda_0_0001", "lambda_0_0003", "lambda_0_003", "lambda_0_01")


@dataclass(frozen=True)
class Setting:
    """phantoms: how many; sizes: a preset in benchmarks/phantom; ct: patients to train on; mri_age: mean, deviation."""
    name: str
    phantoms: int
    sizes: str
    size: int
    mri_age: str = "55,16"
    ct: int = 16


SETTINGS = {s.name: s for s in (
    Setting("small", 10, "small", 32), Setting("older", 10, "small", 32, mri_age="68,12"),
    Setting("default", 5, "default", 64), *(Setting(f"ct_{n}", 5, "small", 32, ct=n) for n in (6, 12, 24, 48)),
    *(Setting(f"steps_{n}", 5, f"steps_{n}", 32) for n in (300, 1200, 2400)))}
HARD = ("small", "older", "default")
# {stage: [(setting, methods, phantoms)]}, in the order in which they are run.
STAGES = {"main": [(s, MAIN, None) for s in HARD], "others": [(s, OTHERS, None) for s in HARD],
          "curves": [("small", LAMBDAS, 5), *((s, FOUR, None) for s in SETTINGS if s not in HARD)]}


def arguments(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="working folder, outside the repository; a phantom and its networks "
                                                  "go when their cells stand in the table")
    parser.add_argument("--table", type=Path, default=HERE.parent / "docs/results/phantom_cells.csv")
    parser.add_argument("--stages", default=",".join(STAGES), help="of " + ", ".join(STAGES))
    parser.add_argument("--settings", default=",".join(SETTINGS), help="of " + ", ".join(SETTINGS))
    parser.add_argument("--phantoms", type=int, default=100, help="at most so many of each setting")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--hours", type=float, default=float("inf"), help="begin no phantom after so many hours")
    parser.add_argument("--keep", action="store_true", help="keep phantoms, networks and reports")
    parser.add_argument("--summary", action="store_true", help="print what the table says, run nothing")
    args = parser.parse_args(words)
    if not args.summary and not args.work:
        parser.error("--work is needed, or --summary")
    return args


def units(args):
    """(setting, phantom's seed, methods): what is run one after the other, all settings of a stage in turn, so that
    the table grows evenly."""
    for stage in args.stages.split(","):
        planned = [(SETTINGS[s], methods, min(count or SETTINGS[s].phantoms, args.phantoms))
                   for s, methods, count in STAGES[stage] if s in args.settings.split(",")]
        for number in range(max((count for _, _, count in planned), default=0)):
            yield from ((s, FIRST_SEED + number, methods) for s, methods, count in planned if number < count)


def settings_of(setting, method):
    """A digest of all that makes a method's cells in a setting comparable, but for the program itself."""
    made_of = [presets.read(str(_preset(setting))), presets.read(_recipe(method)), setting.size, setting.mri_age,
               setting.ct, SLICES, VAL, TEST, MRI_PATIENTS]
    return hashlib.blake2b(json.dumps(made_of, sort_keys=True).encode(), digest_size=4).hexdigest()


def _preset(setting):
    return HERE / "phantom" / f"{setting.sizes}.toml"


def _recipe(method):
    """A method of the study's own is a file here, any other a preset of the program."""
    own = HERE / "phantom" / f"{method}.toml"
    return str(own) if own.is_file() else method


class Study:
    def __init__(self, args):
        self.args, self.began = args, time.monotonic()
        self.rows = study_table.read(args.table, COLUMNS, words=("setting",))
        other = next((r for r in self.rows
                      if r["settings"] != settings_of(SETTINGS[r["setting"]], r["method"])), None)
        if other:
            cell = ", ".join(str(other[k]) for k in KEY)
            raise UserError(f"--table {args.table}: the cell {cell} is of other sizes, patients or options than these; "
                            "give another file")

    def go(self):
        """Runs what the table lacks; the exit status is 1 where a part failed."""
        failed = False
        for setting, seed, methods in units(self.args):
            there = {key(r) for r in self.rows}
            missing = [m for m in methods if (setting.name, seed, m) not in there]
            if missing and time.monotonic() - self.began < self.args.hours * 3600:
                failed |= self._phantom(setting, seed, missing)
        return int(failed)

    def _phantom(self, setting, seed, methods):
        print(f"{setting.name}, phantom {seed}: {', '.join(methods)}", flush=True)
        folder = self.args.work.resolve() / f"{setting.name}_{seed}"
        code = self._experiment(setting, seed, methods, folder)
        if code not in (0, 1):
            sys.exit(code)
        found = [{"setting": setting.name, "phantom": seed, **row, "settings": settings_of(setting, row["method"])}
                 for row in study_table.rows_of(folder / "E", "")]
        self.rows = study_table.add(self.args.table, found, COLUMNS, key, words=("setting",))
        if not code and not self.args.keep:
            shutil.rmtree(folder)
        return bool(code)

    def _experiment(self, setting, seed, methods, folder):
        people = setting.ct + VAL + TEST
        if not (folder / "data").is_dir():
            made = study_table.call(
                "data", "phantom", "--output", folder / "data", "--size", setting.size, "--slices", SLICES,
                "--ct_patients", people, "--mri_patients", MRI_PATIENTS, "--pet_patients", 0, "--mri_age",
                setting.mri_age, "--seed", seed)
            if made:
                return made
        return study_table.call(
            "experiment", "--dataroot", folder / "data", "--output", folder / "E", "--splits", 1, "--seed", seed,
            "--preset", _preset(setting), "--methods", ",".join(map(_recipe, methods)), "--source_test_fraction", 0.1,
            "--val_fraction", VAL / people, "--test_fraction", TEST / people, "--jobs", self.args.jobs, "--device",
            self.args.device)


def key(row):
    return tuple(row[k] for k in KEY)


def main(words=None):
    args = arguments(words)

    def study():
        if args.summary:
            return 0, study_table.read(args.table, COLUMNS, words=("setting",))
        found = Study(args)
        return found.go(), found.rows

    return study_table.run(study, summary.text)


if __name__ == "__main__":
    sys.exit(main())
