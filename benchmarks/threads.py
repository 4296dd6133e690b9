"""What threads cost and bring in training on this machine's CPU, alone and beside other work.

    python benchmarks/threads.py [--sizes demo,256] [--busy 0,1,2] [--steps 10]

For each number of threads and each way in which they wait for one another (awake, which is OpenMP's own; asleep, as
`duiit` sets it; briefly awake, then asleep) it times training steps on noise in a process of its own, beside so many
processes that do nothing but reckon. Prints the median seconds of a step, and the ratio to one thread alone.
"""
import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time

SIZES = {"demo": ["--preset", "phantom"], "256": ["--batch_size", "1", "--load_size", "256"]}
WAITING = {"awake": {}, "asleep": {"OMP_WAIT_POLICY": "PASSIVE"}, "briefly": {"GOMP_SPINCOUNT": "1000"}}
LIMIT = 120             # seconds for a measurement, after which it is taken for hopeless


def step_seconds(size, steps):
    """In the child: the median time of a step of `--model duiit` with one source."""
    import torch

    from duiit.models import create_model
    from duiit.options import TrainOptions
    from duiit.util.facts import Facts

    with tempfile.TemporaryDirectory() as folder:
        opt = TrainOptions().parse([*SIZES[size], "--dataroot", folder, "--checkpoints_dir", folder, "--sources", "mri",
                                    "--device", "cpu"])
        opt.facts = Facts(labels_known=1, label_mean=50.0, label_std=15.0)
        model = create_model(opt)
        model.setup(opt)
        shape = opt.batch_size, opt.input_nc, opt.crop_size, opt.crop_size
        labels = torch.full((opt.batch_size,), 60.0)
        times = []
        for _ in range(steps + 1):
            batch = {"A": torch.rand(shape) * 2 - 1, "B": torch.rand(shape) * 2 - 1, "A_label": labels,
                     "B_label": labels, "A_paths": ["a"], "B_paths": ["b"]}
            began = time.perf_counter()
            model.set_input(batch)
            model.optimize_parameters()
            times.append(time.perf_counter() - began)
    return statistics.median(times[1:])             # the first also allocates


def measure(size, steps, threads, waiting, busy):
    """Seconds of a step, from a process that is started for it: how threads wait is settled as torch is loaded.
    Infinite where the steps were not done within LIMIT."""
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")}
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        words = [sys.executable, __file__, "--child", size, "--steps", str(steps)]
        done = subprocess.run(words, env={**env, **WAITING[waiting], "OMP_NUM_THREADS": str(threads)}, check=True,
                              stdout=subprocess.PIPE, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return math.inf
    finally:
        for other in others:
            other.kill()
            other.wait()
    return float(done.stdout.split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="demo,256", help="demo (64x64, batch 4), 256 (256x256, batch 1)")
    parser.add_argument("--threads", default=f"1,{os.cpu_count()}", help="numbers of threads, with commas")
    parser.add_argument("--waiting", default="awake,asleep,briefly")
    parser.add_argument("--busy", default="0,1,2", help="how many other processes, with commas")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(step_seconds(args.child, args.steps))
        return
    print(f"{'size':<6}{'others':>7}{'threads':>9}  {'waiting':<9}{'s a step':>9}{'ratio':>8}")
    for size in args.sizes.split(","):
        base = None
        for busy in map(int, args.busy.split(",")):
            for threads in map(int, args.threads.split(",")):
                for waiting in args.waiting.split(",") if threads > 1 else ["-"]:
                    seconds = measure(size, args.steps, threads, waiting if threads > 1 else "awake", busy)
                    base = base or seconds
                    print(f"{size:<6}{busy:>7}{threads:>9}  {waiting:<9}{seconds:>9.3f}{seconds / base:>8.2f}",
                          flush=True)


if __name__ == "__main__":
    main()
