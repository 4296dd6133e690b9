"""Peak memory of training steps at full size on this machine.

    python benchmarks/memory.py [--size 256] [--model duiit] [--steps 3]

Trains a few steps on noise with the default networks (resnet_9blocks, ngf 64, resnet50), batch 1, on the CPU, and
prints the process's peak resident memory.
"""
import argparse
import resource
import tempfile

import torch

from duiit.models import create_model
from duiit.options import TrainOptions
from duiit.util.facts import Facts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--model", default="duiit", choices=["duiit", "cycle_gan"])
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        opt = TrainOptions().parse(["--model", args.model, "--dataroot", folder, "--checkpoints_dir", folder,
                                    "--sources", "mri", "--batch_size", "1", "--device", "cpu",
                                    "--load_size", str(args.size), "--crop_size", str(args.size)])
        opt.facts = Facts(labels_known=1, label_mean=50.0, label_std=15.0)      # as the data set would tell
        model = create_model(opt)
        model.setup(opt)
        for _ in range(args.steps):
            images = (torch.rand(1, opt.input_nc, args.size, args.size) * 2 - 1 for _ in range(2))
            a, b = images
            model.set_input({"A": a, "B": b, "A_label": torch.tensor([60.0]), "B_label": torch.tensor([40.0]),
                             "A_paths": ["a"], "B_paths": ["b"]})
            model.optimize_parameters()
    print(f"{args.model}, {args.size}x{args.size}, batch 1: peak "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
