"""How fast training batches are served, against the plain way, on the same images in one run.

    python benchmarks/loading.py [--images 600] [--size 256] [--batch 16] [--epochs 4] [--device cpu]

Plain: open a PNG with PIL, resize to 286, random crop 256, flip, to tensor in [-1, 1], in a DataLoader with as many
workers as cores. Ours: the prepared cohort (decoded once) with the same crop and flip, through `create_dataset`'s
loader, from each place that `--cache` knows on this machine. Augmented: the plain way is torchvision's transforms, an
image at a time, after the same crop and flip, on the images as they are stored. Each way serves an epoch in turn, the
first is not counted; the medians are printed, with the peak of resident memory so far.

Last, the share of a training step that waits for its batch, at the demo's sizes (64x64, batch 4).
"""
import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

from duiit.data import create_dataset
from duiit.data.phantom import PhantomSpec, write_phantom
from duiit.models import create_model
from duiit.options import TrainOptions
from duiit.util import checkpoint
from duiit.util.logs import setup_logging


class PlainDataset(torch.utils.data.Dataset):
    def __init__(self, paths):
        self.paths = paths
        self.transform = transforms.Compose([
            transforms.Resize([286, 286], transforms.InterpolationMode.BICUBIC), transforms.RandomCrop(256),
            transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.transform(Image.open(self.paths[index]).convert("L"))


def write_images(folder, count, size):
    """Smooth noise, which compresses about as a medical image does."""
    rng = np.random.default_rng(0)
    for n in range(count):
        small = Image.fromarray(rng.integers(0, 255, (size // 8, size // 8), dtype=np.uint8))
        image = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC), np.int16)
        image = np.clip(image + rng.integers(-6, 7, image.shape), 0, 255).astype(np.uint8)
        path = folder / "ct" / f"patient_{n // 20:03d}" / f"{n:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    patients = sorted(p.name for p in (folder / "ct").iterdir())
    lines = ["patient,label", *(f"{p},{20 + i % 60}" for i, p in enumerate(patients))]
    (folder / "ct" / "labels.csv").write_text("\n".join(lines) + "\n")
    return sorted(folder.rglob("*.png"))


class PlainAugmented(torch.utils.data.Dataset):
    """Stored images of our data set, cropped and flipped as ours, through a transform of torchvision one by one."""

    def __init__(self, ours, transform):
        self.ours, self.transform = ours, transform

    def __len__(self):
        return len(self.ours)

    def __getitem__(self, index):
        return self.transform(self.ours[index]["B"])


class PlainJitter:
    """As torchvision's ColorJitter, on the grey values above the background alone."""

    def __call__(self, image):
        level = (image + 1) / 2
        there = level > 0
        mean = level[there].mean() if there.any() else 0.0
        brightness, contrast = 0.8 + 0.4 * torch.rand(2)
        return torch.where(there, (((level - mean) * contrast + mean) * brightness).clamp(0, 1), 0.0) * 2 - 1


STEPS = 40                      # of training, for the share that waits for data
BILINEAR = v2.InterpolationMode.BILINEAR
PLAIN = {
    "simple": v2.Compose([v2.Lambda(lambda image: image + 1), v2.RandomAffine(10, (0.1, 0.1), interpolation=BILINEAR),
                          v2.Lambda(lambda image: image - 1), PlainJitter()]),
    "random_erasing": v2.RandomErasing(value=-1),
    "autoaugment": v2.Compose([v2.Lambda(lambda image: ((image + 1) * 127.5).round().to(torch.uint8)),
                               v2.AutoAugment(interpolation=BILINEAR, fill=0),
                               v2.Lambda(lambda image: image.float() / 127.5 - 1)])}


def rate(loader, epoch):
    """Images a second of one epoch."""
    if hasattr(loader, "set_epoch"):
        loader.set_epoch(epoch)
    began, images = time.perf_counter(), 0
    for batch in loader:
        images += len(batch["B"] if isinstance(batch, dict) else batch)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return images / (time.perf_counter() - began)


def compare(title, ways, epochs):
    """Serves an epoch of each way in turn; prints their medians, and their ratios to the first."""
    rates = {name: [] for name in ways}
    for epoch in range(epochs + 1):
        for name, loader in ways.items():
            rates[name].append(rate(loader, epoch))
    plain = statistics.median(next(iter(rates.values()))[1:])
    for name, found in rates.items():
        found = statistics.median(found[1:])
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{title:<16}{name:<24}{found:9.0f} images/s {found / plain:7.1f} times    peak {memory:6.0f} MiB")


def waiting(folder, device):
    """Prints the share of steps that waits for a batch: training at the demo's sizes, the first quarter left out."""
    opt = options(folder, device, "--model", "duiit", "--preset", "phantom", "--sources", "mri", "--batch_size", "4")
    checkpoint.seed_everything(0)
    data = create_dataset(opt)
    model = create_model(opt)
    model.setup(opt)
    waited = computed = 0.0
    steps = 0
    while steps < STEPS:
        data.set_epoch(steps)
        began = time.perf_counter()
        for batch in data:
            fetched = time.perf_counter()
            with model.acceleration.step():
                model.set_input(batch)
                model.optimize_parameters()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            done = time.perf_counter()
            if steps >= STEPS // 4:
                waited, computed = waited + fetched - began, computed + done - fetched
            steps, began = steps + 1, done
            if steps == STEPS:
                break
    print(f"waiting for data, joint training at {opt.crop_size}x{opt.crop_size}, batch {opt.batch_size}: "
          f"{100 * waited / (waited + computed):.2f} % of a step of "
          f"{1000 * (waited + computed) / (steps - STEPS // 4):.1f} ms")


def options(folder, device, *words):
    return TrainOptions().parse([*words, "--dataroot", str(folder), "--checkpoints_dir", f"{folder}/../runs",
                                 "--cache_dir", f"{folder}/../cache", "--val_fraction", "0", "--test_fraction", "0",
                                 "--device", device])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("images", 600), ("size", 256), ("batch", 16), ("epochs", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    setup_logging(quiet=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "data"
        paths = write_images(folder, args.images, args.size)

        def ours(*words, cache="disk"):
            return create_dataset(options(folder, args.device, "--model", "predictor", "--batch_size", str(args.batch),
                                          "--cache", cache, *words))

        began = time.perf_counter()
        ours()
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.device}; {args.images} images "
              f"prepared in {time.perf_counter() - began:.1f} s")
        caches = ["disk", "ram", *(["gpu"] if args.device.startswith("cuda") else [])]
        plain = torch.utils.data.DataLoader(PlainDataset(paths), args.batch, shuffle=True, drop_last=True,
                                            num_workers=os.cpu_count())
        compare("no augmentation", {f"plain, {os.cpu_count()} workers": plain,
                                    **{f"ours, {cache}": ours(cache=cache) for cache in caches}}, args.epochs)
        for kind, transform in PLAIN.items():
            plain = torch.utils.data.DataLoader(PlainAugmented(ours().dataset, transform), args.batch, shuffle=True,
                                                drop_last=True)
            cache = caches[-1]
            compare(kind, {"plain, one by one": plain, f"ours, {cache}": ours("--augment", kind, cache=cache)},
                    args.epochs)
        phantom = Path(temporary) / "phantom"
        write_phantom(phantom, PhantomSpec(ct_patients=100))
        waiting(phantom, args.device)


if __name__ == "__main__":
    main()
