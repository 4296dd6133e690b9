"""The whole main job on a generated head phantom, as a user would do it: only `duiit` commands, each shown as it runs.

Few CT patients and many MRI patients have a known age. Three predictors of age from CT are trained with the same number
of steps and tested on the same unseen CT patients: on the few CTs (PURE-CT), on these and MRIs translated by a jointly
trained translator (DUIIT), and on these and the true CTs of the MRI patients (what a perfect translation would give).

    python examples/demo.py --folder demo [--seed 0] [--guidance joint|real|detached]
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path


class Demo:
    def __init__(self, folder, seed, guidance):
        self.folder, self.seed, self.guidance = Path(folder), seed, guidance
        self.data, self.runs, self.results = (self.folder / n for n in ("phantom", "checkpoints", "results"))

    def duiit(self, *words):
        """Runs one duiit command, after showing it as the user would type it."""
        print(f"\n$ duiit {' '.join(map(str, words))}", flush=True)
        env = {**os.environ, "XDG_CACHE_HOME": str(self.folder.resolve() / "cache")}
        code = subprocess.run([sys.executable, "-m", "duiit_cli", *map(str, words)], env=env, check=False).returncode
        if code:
            sys.exit(code)

    def train(self, name, *words):
        self.duiit("train", "--name", name, "--checkpoints_dir", self.runs, "--dataroot", self.data, "--display_id", 0,
                   *words)

    def test(self, name):
        """The run's metrics on the held-out CT patients."""
        self.duiit("test", "--name", name, "--checkpoints_dir", self.runs, "--results_dir", self.results)
        report = json.loads((self.results / name / "test_latest" / "metrics.json").read_text())
        return report["predictor"]

    def predictor(self, name, *words):
        self.train(name, "--model", "predictor", "--preset", "phantom", *words)
        return self.test(name)

    def go(self):
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.duiit("data", "phantom", "--output", self.data, "--seed", self.seed)
        self.duiit("data", "check", self.data)
        pure = self.predictor("pure_ct")
        self.train("demo", "--preset", "phantom", "--sources", "mri", "--lambda_pred", "0.001",
                   "--guidance", self.guidance)
        self.test("demo")
        synthetic = self.folder / "synthetic_ct"
        self.duiit("translate", "--name", "demo", "--checkpoints_dir", self.runs, "--input", self.data / "mri",
                   "--output", synthetic, "--for_training")
        mix = self.predictor("mix", "--extra", synthetic)
        oracle = self.predictor("oracle", "--extra", self.data / "truth" / "mri")
        self.duiit("predict", "--name", "mix", "--checkpoints_dir", self.runs, "--input", self.data / "ct",
                   "--output", self.folder / "ages.csv")
        name = "CycleGAN, then train" if self.guidance == "detached" else "DUIIT (MRI -> CT)"
        return {"predict the mean": pure["predict_the_mean"], "PURE-CT": pure, name: mix,
                "perfect translation": oracle}


def table(results):
    n = next(iter(results.values()))["by_patient"]["n"]
    lines = [f"\nAge of {n} unseen CT patients", f"{'method':<22}{'RMSE (years)':>14}{'MAE (years)':>14}"]
    lines += [f"{name:<22}{r['by_patient']['rmse']:>14.2f}{r['by_patient']['mae']:>14.2f}"
              for name, r in results.items()]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="demo", help="where everything is written; an old demo there is replaced")
    parser.add_argument("--seed", default="0", help="seed of the phantom")
    parser.add_argument("--guidance", default="joint", help="how the prediction reaches the generator")
    args = parser.parse_args()
    began = time.monotonic()
    demo = Demo(args.folder, args.seed, args.guidance)
    results = demo.go()
    print(table(results))
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes. Example translations: "
          f"{demo.results / 'demo' / 'test_latest' / 'index.html'}")


if __name__ == "__main__":
    main()
