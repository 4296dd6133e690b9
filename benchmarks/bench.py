"""Runs the benchmarks that fit this machine and writes what they print into docs/performance.md (`make bench`).

    python benchmarks/bench.py [--only step,loading] [--into docs/performance.md]

Each runs in a process of its own, one after the other; leave the machine alone meanwhile. Half an hour on two
cores. What stood between the two marks in the file is replaced. Where a benchmark fails, its last lines stand there.
"""
import argparse
import datetime
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from rich.progress import track

from duiit.util import provenance
from duiit.util.files import write_text

HERE = Path(__file__).resolve().parent
MARKS = "<!-- make bench writes from here -->", "<!-- to here -->"
# {name: command line, without python}; those of a GPU only where there is one.
BENCHMARKS = {
    "step (phantom's sizes)": "step.py --demo --steps 12 --ways off,literal,channels_last,bf16",
    "step (256x256, batch 1)": "step.py --size 256 --batch 1 --steps 3 --warm_up 1 --ways off,literal",
    "loading": "loading.py",
    "inference": "inference.py",
    "startup": "startup.py",
    "threads": "threads.py",
    "memory": "memory_of_scans.py --counts 25 100",
    "scale": "scale.py",
}
OF_A_GPU = {
    "step (256x256, batch 16, GPU)":
        "step.py --size 256 --batch 16 --steps 20 --ways off,bf16,bf16+channels_last,bf16+channels_last+compile",
}
LINES = 40              # of a benchmark's output that are kept


def run(words):
    """What a benchmark printed; or its last lines, where it failed."""
    done = subprocess.run([sys.executable, str(HERE / words[0]), *words[1:]], capture_output=True, text=True,
                          cwd=HERE.parent)
    text = done.stdout if done.returncode == 0 else f"failed:\n{(done.stderr or done.stdout)[-1000:]}"
    return "\n".join(text.rstrip().splitlines()[-LINES:])


def section(outputs):
    """Markdown between the marks. outputs: {name: (command, text)}."""
    found = provenance.versions()
    versions = ", ".join(f"{k} {found[k]}" for k in ("duiit", "python", "torch"))
    gpu = f"; {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    host = provenance.host()
    head = [f"{host['processor']}, {host['cores']} cores{gpu}; {versions}; {datetime.date.today()}.", ""]
    for name, (command, text) in outputs.items():
        head += [f"**{name}**: `python benchmarks/{command}`", "", "```", text, "```", ""]
    return "\n".join([MARKS[0], "", *head, MARKS[1]])


def put(path, text):
    """Replaces what is between the marks of a file, or adds it at its end."""
    old = path.read_text(encoding="utf-8")
    before, found, rest = old.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2] if found else "\n"
    write_text(path, f"{before if found else old.rstrip() + chr(10) * 2}{text}{after}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="names that begin so, with commas (default: all)")
    parser.add_argument("--into", type=Path, default=HERE.parent / "docs/performance.md")
    args = parser.parse_args()
    there = {**BENCHMARKS, **(OF_A_GPU if torch.cuda.is_available() else {})}
    chosen = {n: c for n, c in there.items() if not args.only or n.startswith(tuple(args.only.split(",")))}
    if not chosen:
        parser.error(f"--only {args.only}: there are {', '.join(there)}")
    outputs = {n: (c, run(shlex.split(c))) for n, c in track(chosen.items(), "measuring", total=len(chosen))}
    put(args.into, section(outputs))


if __name__ == "__main__":
    main()
