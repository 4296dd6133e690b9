"""Peak memory of the commands by the number of scans: it should not grow with them.

    python benchmarks/memory_of_scans.py [--counts 50 200 1000] [--size 256] [--slices 4]

Writes synthetic heads (NIfTI, CT and MRI with its true CT), trains two steps of a tiny run on so many scans of either,
and tests, predicts, translates and evaluates them, each command in a process of its own. Prints the peak resident
memory of each, in MiB. A scan's slices take size * size * slices * 4 bytes as they are read: 1 MiB. Scans beyond the
first 20 are hard links to these. About ten minutes on a core of its own, and 1 GB of disk.
"""
import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np

DISTINCT = 20
TINY = ["--load_size=64", "--crop_size=64", "--netG=resnet_1blocks", "--ngf=4", "--ndf=4", "--netP=resnet10_small",
        "--batch_size=4", "--max_steps=2", "--n_epochs=1", "--n_epochs_decay=0", "--no_html", "--display_id=0",
        "--val_fraction=0.1", "--test_fraction=0.4", "--source_test_fraction=0.4", "--val_freq=0", "--num_threads=0",
        "--sources=mri"]


def write_scans(root, count, size, slices):
    """`count` labelled scans of either modality under `root`, and the true CTs of the MRIs."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[-1:1:size * 1j, -1:1:size * 1j]
    inside = rows**2 + columns**2 < 0.6
    for folder, air, tissue in (("ct", -1000, 40), ("mri", 0, 300), ("truth/mri", -1000, 40)):
        (root / folder).mkdir(parents=True)
        for n in range(count):
            path = root / folder / f"{folder[-3:].strip('/')}{n:04d}.nii"
            if n >= DISTINCT:
                os.link(path.with_name(f"{path.stem[:-4]}{n % DISTINCT:04d}.nii"), path)
                continue
            image = np.where(inside, tissue, air) + rng.normal(0, 10, (slices, size, size)) * inside
            volume = image.transpose(2, 1, 0).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(volume, np.diag([-1.0, -1, 5, 1])), path)
        if folder != "truth/mri":
            lines = [f"{folder}{n:04d},{rng.integers(20, 90)}\n" for n in range(count)]
            (root / folder / "labels.csv").write_text("id,label\n" + "".join(lines), encoding="utf-8")


def peak(*words):
    """MiB that `duiit` with these words had at most, in a process of its own; stops the benchmark where it fails."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([sys.executable, "-m", "duiit_cli", *map(str, words)], stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(f"duiit {words[0]} ended with {process.returncode}:\n{said.read()[-2000:]}")
    return used.ru_maxrss / 1024


def measure(folder, count, args):
    """{command: MiB} with `count` scans of either modality."""
    data = folder / "data"
    write_scans(data, count, args.size, args.slices)
    run = ["--name=r", f"--checkpoints_dir={folder / 'runs'}", "--device=cpu"]
    cache = f"--cache_dir={folder / 'cache'}"
    return {
        "train": peak("train", f"--dataroot={data}", *run, cache, *TINY),
        "test": peak("test", *run, cache, f"--results_dir={folder / 'results'}"),
        "predict": peak("predict", *run, f"--input={data / 'ct'}", f"--output={folder / 'ages.csv'}"),
        "translate": peak("translate", *run, f"--input={data / 'mri'}", f"--output={folder / 'fake'}",
                          "--format=nifti"),
        "evaluate": peak("evaluate", *run, f"--real={data / 'truth' / 'mri'}", f"--fake={folder / 'fake'}", "--paired",
                         "--metrics=mae,psnr,ssim,fd_predictor,label_fidelity")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--slices", type=int, default=4)
    args = parser.parse_args()
    found = {}
    for count in args.counts:
        with tempfile.TemporaryDirectory() as folder:
            found[count] = measure(Path(folder), count, args)
        print(f"{count} scans: {', '.join(f'{k} {v:.0f} MiB' for k, v in found[count].items())}", flush=True)
    print("\n| command | " + " | ".join(f"{c} scans" for c in args.counts) + " |")
    print("|---" * (1 + len(args.counts)) + "|")
    for command in found[args.counts[0]]:
        print(f"| `{command}` | " + " | ".join(f"{found[c][command]:.0f} MiB" for c in args.counts) + " |")


if __name__ == "__main__":
    main()
