"""How fast training batches are served, against the plain way, on the same images in one run.

    python benchmarks/loading.py [--images 600] [--size 256] [--batch 16] [--epochs 4]

Plain: open a PNG with PIL, resize to 286, random crop 256, flip, to tensor in [-1, 1], in a DataLoader with as many
workers as cores. Ours: the prepared cohort (decoded once, memory-mapped) with the same crop and flip, through
`create_dataset`'s loader. Prints images a second of both, their ratio, the one-off time of preparing, and the resident
memory after each epoch. Each way's first epoch is not counted.
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

from duiit.data import create_dataset
from duiit.options import TrainOptions


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


def measure(loader, epochs, set_epoch=None):
    """Images a second in each epoch after the first."""
    rates = []
    for epoch in range(epochs + 1):
        if set_epoch:
            set_epoch(epoch)
        began, images = time.perf_counter(), 0
        for batch in loader:
            images += len(batch["B"] if isinstance(batch, dict) else batch)
        rates.append(images / (time.perf_counter() - began))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"  epoch {epoch}: {rates[-1]:8.0f} images/s, peak memory {memory:.0f} MiB")
    return statistics.median(rates[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("images", 600), ("size", 256), ("batch", 16), ("epochs", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder), args.images, args.size)
        print(f"plain, {os.cpu_count()} workers")
        plain = measure(torch.utils.data.DataLoader(PlainDataset(paths), args.batch, shuffle=True, drop_last=True,
                                                    num_workers=os.cpu_count()), args.epochs)
        opt = TrainOptions().parse([
            "--model", "predictor", "--dataroot", folder, "--checkpoints_dir", f"{folder}/runs", "--cache_dir",
            f"{folder}/cache", "--batch_size", str(args.batch), "--val_fraction", "0", "--test_fraction", "0",
            "--device", "cpu"])
        began = time.perf_counter()
        ours = create_dataset(opt)
        print(f"ours, prepared in {time.perf_counter() - began:.1f} s, {ours.loader.num_workers} workers")
        rate = measure(ours, args.epochs, ours.set_epoch)
    print(f"plain {plain:.0f} images/s, ours {rate:.0f} images/s: {rate / plain:.1f} times")


if __name__ == "__main__":
    main()
