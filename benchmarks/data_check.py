"""How long `duiit data check` takes for many small files, and how much memory.

    python benchmarks/data_check.py [--images 10000] [--size 256]

Writes PNGs of smooth noise (20 a patient) to a temporary folder and checks them as the command line does, in a process
of its own: with one reader, and with one a core. Prints wall time (with Python's start, about 4 s), images a second,
and the largest resident memory of a process. The files have just been written, so this is the speed of the work, not
of the disk.
"""
import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loading import write_images


def check(folder, readers):
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "duiit_cli", "data", "check", str(folder), "--num_threads",
                           str(readers)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("images", 10000), ("size", 256)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), args.images, args.size)
        for readers in dict.fromkeys((1, os.cpu_count())):
            seconds = check(folder, readers)
            print(f"{args.images} PNGs of {args.size}x{args.size}, {readers} readers: {seconds:.1f} s, "
                  f"{args.images / seconds:.0f} images/s")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"largest process {memory:.0f} MiB")


if __name__ == "__main__":
    main()
