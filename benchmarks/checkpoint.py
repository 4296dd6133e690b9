"""What saving costs: the share of a run's time that goes into training states at the default frequency, and how long
it takes to go on from one.

    python benchmarks/checkpoint.py [--folder DIR]          about a minute; needs 4 GB of memory and 3 GB of disk

The networks are the paper's in full size (two ResNet-9 generators, two discriminators, a ResNet-50 predictor), with
filled image pools. DIR should be on the disk that runs are kept on.
"""
import argparse
import tempfile
import time
from pathlib import Path

import torch

from duiit.models import create_model
from duiit.options import TrainOptions
from duiit.util import checkpoint
from duiit.util.facts import Facts
from duiit.util.states import StateFiles


def paper_model(folder):
    opt = TrainOptions().parse(["--dataroot", str(folder), "--checkpoints_dir", str(folder), "--name", "run",
                                "--sources", "mri", "--device", "cpu"])
    opt.facts = Facts(labels_known=1, label_mean=45.0, label_std=15.0)      # as the data set would tell
    model = create_model(opt)
    model.setup(opt)
    for optimizer in model.optimizers:                      # Adam's averages are there from the first step on
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    for pool in (model.fake_A_pool, model.fake_B_pool):
        pool.query(torch.zeros(opt.pool_size, 1, opt.crop_size, opt.crop_size))
    return opt, model


def save(model, files):
    model.save_networks("latest")
    files.save({"weights": {n: model.net(n).state_dict() for n in model.model_names}, "model": model.training_state(),
                "ranks": [{"random": checkpoint.random_state(), "pools": model.pool_state()}]})


def resume(model, files):
    state = checkpoint.load(files.newest())
    for name, weights in state["weights"].items():
        model.net(name).load_state_dict(weights)
    model.load_training_state(state["model"])
    model.load_pool_state(state["ranks"][0]["pools"])


def seconds(work, times=3):
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return sorted(taken)[times // 2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="where to write (default: the temporary folder)")
    with tempfile.TemporaryDirectory(dir=parser.parse_args().folder) as folder:
        opt, model = paper_model(folder)
        files = StateFiles(Path(folder) / "run", opt.keep)
        saving = seconds(lambda: save(model, files))
        resuming = seconds(lambda: resume(model, files))
        size = files.latest.stat().st_size / 1e6
    share = saving / (opt.save_every_minutes * 60 + saving)
    print(f"training state   {size:8.0f} MB")
    print(f"saving           {saving:8.2f} s, with the networks for use")
    print(f"share of time    {share:8.2%}, every {opt.save_every_minutes:g} minutes")
    print(f"resuming         {resuming:8.2f} s, with both readings for its checksum")


if __name__ == "__main__":
    main()
