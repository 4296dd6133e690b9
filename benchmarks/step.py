"""How quick a joint training step is, as a ratio to the plain way, both in one run.

    python benchmarks/step.py [--size 256] [--batch 1] [--steps 6] [--device auto] [--demo] [--ways off,bf16,compile]

The plain way is what one writes from the papers: eager float32, every loss in one graph, each discriminator on a real
and a translated batch, one pass of the predictor through both image sets, its gradient reaching the generator. The
generators, discriminators and the predictor are the same classes in both. On a GPU the plain way has
cudnn.benchmark and TF32 convolutions, as PyTorch ships them.

`duiit` does more in a step than the plain way: with --push running, the default, P reads each translation twice (once
to learn, once to push G). The way `literal` is --preset paper, which reads it once, as the plain way does.

The ways take turns step by step, so that whatever else the machine does hits all of them alike; the figure is the
median of the ratios of neighbouring steps.
"""
import argparse
import itertools
import json
import platform
import statistics
import tempfile
import time

import torch

from duiit.models import create_model
from duiit.options import TrainOptions
from duiit.util.facts import Facts
from duiit.util.image_pool import ImagePool

WAYS = {"off": ["--amp", "off", "--channels_last", "off"],
        "literal": ["--amp", "off", "--channels_last", "off", "--push", "batch", "--push_ramp", "0"],
        "channels_last": ["--amp", "off", "--channels_last", "on"],
        "bf16": ["--amp", "bf16", "--channels_last", "off"],
        "bf16+channels_last": ["--amp", "bf16", "--channels_last", "on"],
        "fp16": ["--amp", "fp16", "--channels_last", "off"],
        "compile": ["--amp", "off", "--compile", "on", "--channels_last", "off"],
        "bf16+channels_last+compile": ["--amp", "bf16", "--compile", "on", "--channels_last", "on"]}
DEMO = ["--preset", "phantom"]


def make(args, way):
    """A duiit model, set up as training does."""
    with tempfile.TemporaryDirectory() as folder:
        opt = TrainOptions().parse([
            "--model", "duiit", "--dataroot", folder, "--checkpoints_dir", folder, "--sources", "mri",
            "--device", args.device, *(DEMO if args.demo else []), "--batch_size", str(args.batch),
            "--load_size", str(args.size), "--crop_size", str(args.size), *way])
    opt.facts = Facts(labels_known=1, label_mean=50.0, label_std=15.0)          # as the data set would tell
    torch.manual_seed(0)
    model = create_model(opt)
    model.setup(opt)
    return model


class Ours:
    def __init__(self, args, way):
        self.model = make(args, way)

    def __call__(self, batch):
        with self.model.acceleration.step():
            self.model.set_input(batch)
            self.model.optimize_parameters()


class Plain:
    """The step as one writes it from the papers, on networks of the same classes."""

    def __init__(self, args):
        model = make(args, WAYS["off"])
        self.device, opt = model.device, model.opt
        self.weight, self.lambdas = opt.lambda_pred, (opt.lambda_A, opt.lambda_B)
        self.G, self.F, self.D_x, self.D_y, self.P = (
            model.net(n).train() for n in ("G_A", "G_B", "D_A", "D_B", "P"))
        self.critics = [*self.D_x.parameters(), *self.D_y.parameters()]
        adam = {"lr": opt.lr, "betas": (opt.beta1, 0.999)}
        self.of_G = torch.optim.Adam([*self.G.parameters(), *self.F.parameters()], **adam)
        self.of_P = torch.optim.Adam(self.P.parameters(), lr=opt.lr_P, betas=(opt.beta1, 0.999))
        self.of_D = torch.optim.Adam(self.critics, **adam)
        self.pools = ImagePool(opt.pool_size), ImagePool(opt.pool_size)

    def __call__(self, batch):
        y, x, age_y, age_x = (batch[k].to(self.device) for k in ("A", "B", "A_label", "B_label"))
        fake_x, fake_y = self.G(y), self.F(x)
        back_y, back_x = self.F(fake_x), self.G(fake_y)
        for weight in self.critics:
            weight.requires_grad = False
        loss = (self._gan(self.D_x(fake_x), 1) + self._gan(self.D_y(fake_y), 1)
                + self.lambdas[0] * (back_y - y).abs().mean() + self.lambdas[1] * (back_x - x).abs().mean()
                + self.weight * ((self.P(fake_x) - age_y).square().mean() + (self.P(x) - age_x).square().mean()))
        self.of_G.zero_grad()
        self.of_P.zero_grad()
        loss.backward()
        self.of_G.step()
        self.of_P.step()
        for weight in self.critics:
            weight.requires_grad = True
        self.of_D.zero_grad()
        for D, real, fake, pool in ((self.D_x, x, fake_x, self.pools[0]), (self.D_y, y, fake_y, self.pools[1])):
            (0.5 * (self._gan(D(real), 1) + self._gan(D(pool.query(fake.detach())), 0))).backward()
        self.of_D.step()

    @staticmethod
    def _gan(score, target):
        return (score - target).square().mean()


def batches(args):
    for seed in itertools.count():
        made = torch.Generator().manual_seed(seed)
        a, b = (torch.rand(args.batch, 1, args.size, args.size, generator=made) * 2 - 1 for _ in range(2))
        yield {"A": a, "B": b, "A_label": torch.full((args.batch,), 60.0), "B_label": torch.full((args.batch,), 40.0),
               "A_paths": ["a"], "B_paths": ["b"]}


def timed(step, batch, device):
    began = time.perf_counter()
    step(batch)
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def peak(step, batch, device):
    """MiB of the GPU's memory that a step takes at most."""
    torch.cuda.reset_peak_memory_stats(device)
    timed(step, batch, device)
    return round(torch.cuda.max_memory_allocated(device) / 2**20)


def measure(args):
    """{way: {"ms", "ratio"}}; ratio: the plain way's time by this way's."""
    steps = {"plain": Plain(args), **{w: Ours(args, WAYS[w]) for w in args.ways.split(",")}}
    made, times = batches(args), {way: [] for way in steps}
    for number, batch in enumerate(itertools.islice(made, args.steps + args.warm_up)):
        for way, step in steps.items():
            took = timed(step, batch, args.device)
            if number >= args.warm_up:
                times[way].append(took)
    found = {way: {"ms": round(1000 * statistics.median(t), 1),
                   "images_per_s": round(args.batch / statistics.median(t), 2),
                   "ratio": round(statistics.median(p / o for p, o in zip(times["plain"], t, strict=True)), 3)}
             for way, t in times.items()}
    if args.device.startswith("cuda"):
        for way, step in steps.items():
            found[way]["peak_MiB"] = peak(step, next(made), args.device)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6, help="of each way that are counted")
    parser.add_argument("--warm_up", type=int, default=2, help="of each way before that")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU (0: as torch chooses)")
    parser.add_argument("--demo", action="store_true", help="the networks of --preset phantom, 64x64, batch 4")
    parser.add_argument("--ways", default="off,literal", help="of " + ", ".join(WAYS))
    args = parser.parse_args()
    if args.demo:
        args.size, args.batch = 64, 4
    if args.device == "auto":
        args.device = "cuda:0" if torch.cuda.is_available() else "cpu"
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    found = measure(args)
    where = torch.cuda.get_device_name() if args.device.startswith("cuda") else \
        f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)"
    print(json.dumps({"torch": torch.__version__, "device": where, "size": args.size, "batch": args.batch,
                      "demo": args.demo, "ways": found}, indent=1))


if __name__ == "__main__":
    main()
