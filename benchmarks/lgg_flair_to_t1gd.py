"""Does borrowing FLAIR help to read the age from post-contrast T1? On real patients, with disjoint roles.

    python benchmarks/lgg_flair_to_t1gd.py --data kaggle_3m --work W [--role_seeds 5] [--splits 1] [--jobs 2]
    python benchmarks/lgg_flair_to_t1gd.py --summary            # the committed table in words, nothing is run

--data: the LGG MRI set as distributed, or a part of it. It is read in place; --work takes small copies, networks and
reports, and is to lie outside the repository. For every role seed patients are drawn anew to be source (FLAIR) or
target (post-contrast T1, 20 to train on), for every split of them one `duiit experiment` is run by patient and one by
image, and each of its cells is a row of --table. What stands in the table is skipped, so a study that was stopped goes
on when called again, here from its half-trained networks, elsewhere from the table alone. The table is of one version
of the program: begin another one when the program has changed.
"""
import argparse
import hashlib
import json
import sys
from pathlib import Path

import study_table
from lgg import layout, table

from duiit.options import presets
from duiit.util.errors import UserError
from duiit_cli.experiments.planning import methods

HERE = Path(__file__).resolve().parent
METHODS = "pure_ct,raw,cyclegan,duiit,chosen,oracle"
SEEDS_APART = 1000              # seeds of the splits of one assignment of roles: no two trainings share one


def arguments(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of kaggle_3m")
    parser.add_argument("--work", type=Path, help="working folder")
    parser.add_argument("--table", type=Path, default=HERE.parent / "docs/results/lgg_cells.csv")
    parser.add_argument("--role_seeds", type=int, default=5, help="assignments of patients to roles: seeds 0, 1, …")
    parser.add_argument("--first_role_seed", type=int, default=0)
    parser.add_argument("--splits", type=int, default=1, help="splits of each assignment's target patients")
    parser.add_argument("--split_by", default="patient,image", help="patient, image, or both with a comma")
    parser.add_argument("--methods", default=METHODS, help="as `duiit experiment` takes them")
    parser.add_argument("--preset", type=Path, default=HERE / "lgg/lgg.toml", help="sizes and schedules")
    parser.add_argument("--train_patients", type=int, default=20, help="target patients to train on")
    parser.add_argument("--val_patients", type=int, default=6, help="to choose between DUIIT and CycleGAN by")
    parser.add_argument("--test_patients", type=int, default=20, help="target patients to test on")
    parser.add_argument("--source_test_fraction", type=float, default=0.2,
                        help="source patients whom no translator learns from: on them labels and images are judged")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--summary", action="store_true", help="print what the table says, run nothing")
    args = parser.parse_args(words)
    if not args.summary and not (args.data and args.work):
        parser.error("--data and --work are needed, or --summary")
    return args


class Study:
    """settings: a digest of all that makes cells comparable, but for the program itself."""

    def __init__(self, args):
        self.args = args
        self.pool = layout.write_pool(args.data, args.work / "pool")
        self.settings = self._digest()
        self.root = args.work.resolve() / self.settings
        self.rows = table.read(args.table, self.settings)

    def _digest(self):
        args = self.args
        recipes = {name: presets.read(name) for name in presets.names() if name.endswith(f"_{methods.ALIKE}")}
        made_of = [presets.read(str(args.preset)), presets.read(methods.BASELINE), recipes, args.train_patients,
                   args.val_patients, args.test_patients, args.source_test_fraction, self.pool.ages, self.pool.slices]
        return hashlib.blake2b(json.dumps(made_of, sort_keys=True).encode(), digest_size=4).hexdigest()

    def go(self):
        """Runs what the table lacks, one experiment after the other; the exit status is 1 where a part failed."""
        args, failed = self.args, False
        for seed in range(args.first_role_seed, args.first_role_seed + args.role_seeds):
            for split in range(args.splits):
                for split_by in args.split_by.split(","):
                    failed |= self._experiment(seed, split, split_by)
        return int(failed)

    def _experiment(self, seed, split, split_by):
        dataroot = self._dataroot(seed)
        chosen, refused = methods.choose(self.args.methods, [layout.SOURCE], dataroot, layout.TARGET)
        if refused:
            raise UserError(refused[0])
        there = {table.key(r) for r in self.rows}
        missing = [m for m in chosen if (seed, split, split_by, m.name) not in there]
        if not missing:
            return False
        output = self.root / "experiments" / f"roles_{seed:02d}_split_{split}_{split_by}"
        print(f"roles {seed}, split {split}, by {split_by}: {', '.join(m.name for m in missing)}", flush=True)
        code = study_table.call("experiment", f"--dataroot={dataroot}", f"--output={output}", f"--split_by={split_by}",
                     "--methods", ",".join(m.recipe if m.recipe.endswith(".toml") else m.name for m in missing),
                     f"--seed={SEEDS_APART * seed + split}", *self._words())
        if code not in (0, 1):
            sys.exit(code)
        self._gather(output, seed, split)
        return bool(code)

    def _dataroot(self, seed):
        args, folder = self.args, self.root / "data" / f"roles_{seed:02d}"
        roles = layout.draw_roles(self.pool.ages, seed, args.train_patients, args.test_patients, args.val_patients)
        return folder if folder.is_dir() else layout.write_roles(self.pool, roles, folder)

    def _words(self):
        """By image the same shares are drawn of the images, so that as many are trained on as by patient."""
        args = self.args
        target = args.train_patients + args.val_patients + args.test_patients
        return [f"--target={layout.TARGET}", "--splits=1", f"--preset={args.preset.resolve()}",
                f"--val_fraction={args.val_patients / target}", f"--test_fraction={args.test_patients / target}",
                f"--source_test_fraction={args.source_test_fraction}", f"--cache_dir={args.work.resolve() / 'cache'}",
                f"--jobs={args.jobs}", f"--device={args.device}"]

    def _gather(self, output, seed, split):
        found = table.gather(output, seed, split, self.settings)
        self.rows = study_table.add(self.args.table, found, table.COLUMNS, table.key, words=("split_by",))


def main(words=None):
    args = arguments(words)

    def go():
        if args.summary:
            return 0, table.read(args.table)
        study = Study(args)
        print(layout.describe(study.pool), flush=True)
        return study.go(), study.rows

    return study_table.run(go, table.summary)


if __name__ == "__main__":
    sys.exit(main())
