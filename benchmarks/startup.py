"""How long a command takes before it works, against the imports that it cannot do without.

    python benchmarks/startup.py [--rounds 7]

`duiit --help` against `import click`, a training's options against `import torch`, and a training until its first step
(the demo's networks, images that were prepared before) against what any training in PyTorch starts with: importing
torch and making an optimizer, which imports torch's compiler. Every program is started in turn, as often as --rounds
says. Prints medians of seconds on the clock and of the processor's, which other work on the machine prolongs less, and
their ratio to the first of each group. The time for reading the data set is told apart.
"""
import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.progress import track

from duiit.data import create_dataset
from duiit.data.phantom import PhantomSpec, write_phantom
from duiit.options import TrainOptions

DUIIT = "from duiit_cli.main import main; main()"
OPTIMIZER = "import torch; torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])"
FIRST_STEP = """
import os, sys, time
from duiit.models import find_model_using_name
from duiit_cli.training import loop
model, create = find_model_using_name("duiit"), loop.create_dataset
def read(opt):
    began = time.perf_counter(), time.process_time()
    data = create(opt)
    print("READING", time.perf_counter() - began[0], time.process_time() - began[1], flush=True)
    return data
def first_step(self):
    os._exit(0)
loop.create_dataset, model.optimize_parameters = read, first_step
""" + DUIIT


def started(code, words=()):
    """((seconds on the clock, of the processor), the same of reading the data or None) of a process that runs code."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr)
    told = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("READING")]
    took = wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, tuple(map(float, told[0])) if told else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_phantom(Path(folder) / "phantom", PhantomSpec(ct_patients=100))
        data = ["--preset", "phantom", "--sources", "mri", "--dataroot", f"{folder}/phantom", "--cache_dir",
                f"{folder}/cache", "--checkpoints_dir", f"{folder}/runs", "--display_id", "0", "--no_html",
                "--device", "cpu"]
        create_dataset(TrainOptions().parse(data))
        groups = [
            {"import click": ("import click", []), "duiit --help": (DUIIT, ["--help"])},
            {"import torch": ("import torch", []), "duiit train --help": (DUIIT, ["train", "--help"])},
            {"import torch, an optimizer": (OPTIMIZER, []),
             "duiit train, to its first step": (FIRST_STEP, ["train", *data])}]
        programs = {name: program for group in groups for name, program in group.items()}
        times = {name: [] for name in programs}
        for turn in track(range(args.rounds), "starting"):
            for name, (code, words) in programs.items():
                times[name].append(started(code, [*words, "--name", f"run{turn}"] if code == FIRST_STEP else words))
        show(groups, times)


def show(groups, times):
    print(f"{'':<34}{'clock':>9}{'ratio':>8}{'processor':>12}{'ratio':>8}")
    for group in groups:
        first = None
        for name in group:
            wall, cpu = (statistics.median(took[n] for took, _ in times[name]) for n in (0, 1))
            first = first or (wall, cpu)
            print(f"{name:<34}{wall:8.2f}s{wall / first[0]:8.2f}{cpu:11.2f}s{cpu / first[1]:8.2f}")
            reading = [told for _, told in times[name] if told]
            if reading:
                read = [statistics.median(r[n] for r in reading) for n in (0, 1)]
                print(f"{'  of that, reading the data set':<34}{read[0]:8.2f}s{'':>8}{read[1]:11.2f}s")
                print(f"{'  beyond that and the imports':<34}{wall - read[0] - first[0]:8.2f}s{'':>8}"
                      f"{cpu - read[1] - first[1]:11.2f}s")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
