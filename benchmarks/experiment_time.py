"""How long an experiment at the paper's size would take, from the arithmetic of one step and one timed step here.

    python benchmarks/experiment_time.py [--size 256] [--tflops 10]

Counts the floating-point operations of a training step an image (torch's own counter), times a step on this machine,
and prints hours for N slices of each modality: a translator (200 epochs of N images) and the predictor that follows
(100 epochs of 2 N). A GPU's hours are the count divided by --tflops, what it sustains in float32: an assumption, not a
measurement.
"""
import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from duiit.data import create_dataset
from duiit.data.phantom import PhantomSpec, write_phantom
from duiit.models import create_model
from duiit.options import TrainOptions

TRAININGS = {"translator": (["--preset", "duiit_mri", "--batch_size", "1"], 200, 1),
             "predictor": (["--preset", "pure_ct", "--batch_size", "4"], 100, 2)}


def cost(root, words, size):
    """(TFLOP, seconds) of a training step, an image."""
    opt = TrainOptions().parse(["--dataroot", str(root / "phantom"), "--checkpoints_dir", str(root), "--name", "run",
                                "--cache_dir", str(root / "cache"), "--load_size", str(size), "--crop_size", str(size),
                                *words])
    (root / "run").mkdir(exist_ok=True)
    dataset = create_dataset(opt)
    model = create_model(opt)
    model.setup(opt)
    model.train()
    batch = next(iter(dataset))

    def step():
        model.set_input(batch)
        model.optimize_parameters()

    step()
    began = time.perf_counter()
    step()
    seconds = time.perf_counter() - began
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e12 / opt.batch_size, seconds / opt.batch_size


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--tflops", type=float, default=10.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_phantom(root / "phantom", PhantomSpec(size=args.size, slices=2, ct_patients=8, mri_patients=6,
                                                    pet_patients=0))
        costs = {kind: cost(root, words, args.size) for kind, (words, _, _) in TRAININGS.items()}
    for kind, (tflop, seconds) in costs.items():
        print(f"{kind}: {tflop:.3f} TFLOP and {seconds:.2f} s an image here ({torch.get_num_threads()} threads)")
    print(f"{'slices':>8} {'training':>12} {'here (h)':>10} {f'at {args.tflops:g} TFLOP/s (h)':>22}")
    for slices in (100, 1000, 10000):
        for kind, (_, epochs, modalities) in TRAININGS.items():
            images = slices * epochs * modalities
            print(f"{slices:>8} {kind:>12} {images * costs[kind][1] / 3600:>10.1f} "
                  f"{images * costs[kind][0] / args.tflops / 3600:>22.2f}")


if __name__ == "__main__":
    main()
