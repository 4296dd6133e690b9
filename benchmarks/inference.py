"""How quick translating and predicting are, as a ratio to the plain way, both in one run.

    python benchmarks/inference.py [--size 64] [--scans 40] [--slices 5] [--rounds 3] [--device auto]
    python benchmarks/inference.py --memory 1000 10000

The plain way: a scan is read, its images go through the network one by one, its files are written, then the next; with
the same networks, readers and writers. Ours is what `duiit translate` and `duiit predict` do. Images are noise in an
ellipse, 16-bit TIFFs; the networks have fresh weights: at 64 those of --preset phantom, else the default ones
(resnet_9blocks, ngf 64, resnet50). The ways take turns; the figure is the median of the ratios of neighbouring rounds.
Beside the time on the clock stands the processors', which other work on the machine lengthens less.

--memory: the peak memory of `translate` and `predict` with so many slices of 64x64, each in a process of its own.
"""
import argparse
import json
import logging
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
import torch

from duiit.data.modality_dataset import loader_of
from duiit.models import create_model
from duiit.options import PredictOptions, TrainOptions, TranslateOptions
from duiit.options.run_file import write
from duiit.util.facts import Facts
from duiit.util.files import write_csv
from duiit.util.version import __version__
from duiit_cli.inference import networks
from duiit_cli.inference.prediction import Result, examine
from duiit_cli.inference.scan_answers import asked_images, used_slices
from duiit_cli.inference.translation import Writer, finished, translate_scans

DISTINCT = 20           # scans; those beyond are copies under other names


def write_scans(root, count, slices, size):
    """`count` scans of either modality: mri/p0000/0.tif … and ct."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[-1:1:size * 1j, -1:1:size * 1j]
    inside = rows**2 + columns**2 < 0.6
    for modality in ("mri", "ct"):
        for n in range(count):
            folder = root / modality / f"p{n:05d}"
            if n >= DISTINCT:
                shutil.copytree(root / modality / f"p{n % DISTINCT:05d}", folder, copy_function=os.link)
                continue
            folder.mkdir(parents=True)
            for s in range(slices):
                image = (1000 + rng.normal(0, 200, (size, size))) * inside
                tifffile.imwrite(folder / f"{s}.tif", image.astype(np.uint16), compression="zlib")


def make_run(folder, size):
    """A run with fresh weights in folder/runs/r."""
    scale = ["--preset", "phantom"] if size == 64 else []
    opt = TrainOptions().parse(["--model", "duiit", "--dataroot", str(folder), "--checkpoints_dir", f"{folder}/runs",
                                "--sources", "mri", "--name", "r", "--load_size", str(size), "--crop_size", str(size),
                                "--device", "cpu", *scale])
    opt.facts = Facts(labels_known=1, label_mean=50.0, label_std=15.0, target_range=(0.0, 1000.0, "GREY"))
    torch.manual_seed(0)
    model = create_model(opt)
    model.setup(opt)
    Path(model.save_dir).mkdir(parents=True, exist_ok=True)
    model.save_networks("latest")
    write(model.save_dir, opt, __version__)


def options(kind, folder, modality, device, *more):
    return kind().parse(["--name", "r", "--checkpoints_dir", f"{folder}/runs", "--device", device,
                         "--input", f"{folder}/{modality}", *more])


class Translating:
    def __init__(self, folder, device):
        self.folder, self.device = folder, device
        self.opt = options(TranslateOptions, folder, "mri", device, "--output", f"{folder}/out", "--force")
        self.model = networks.load_model(self.opt, "translator")

    def ours(self):
        translate_scans(self.opt, self.model)

    def plain(self):
        opt, net = self.opt, self.model.translator("mri")
        intensity, folder, rows = networks.target_intensity(opt), Path(self.folder, "plain"), []
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        writer = Writer(opt, intensity)
        for scan in loader_of("mri").find_scans(Path(opt.input), opt):
            prepared = networks.read(scan, "mri", opt.input_nc, opt)
            made = [one_by_one(net, image, self.model.device) for image in prepared.images]
            slices, pictures = finished(prepared, made, opt)
            rows += writer.write(folder, scan, slices, pictures, None)
        write_csv(folder / "labels.csv", rows)


class Predicting:
    def __init__(self, folder, device):
        self.opt = options(PredictOptions, folder, "ct", device)
        self.model = networks.load_model(self.opt, "predictor")

    def scans(self):
        return loader_of("ct").find_scans(Path(self.opt.input), self.opt)

    def ours(self):
        return [*examine(self.scans(), self.model.predictor(), self.opt, self.model.device)]

    def plain(self):
        results, net = [], self.model.predictor()
        for scan in self.scans():
            prepared = networks.read(scan, "ct", self.opt.output_nc, self.opt)
            images = asked_images(prepared, used_slices(prepared, self.opt))
            results.append(Result(scan, np.stack([one_by_one(net, i, self.model.device) for i in images])))
        return results


def one_by_one(net, image, device):
    with torch.no_grad():
        return net(torch.from_numpy(image[None]).to(device)).cpu().numpy()[0]


def timed(work):
    clock, processors = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processors


def measure(args, folder):
    """{work: {way: seconds, images a second}, ratios of plain by ours}."""
    found, images = {}, args.scans * args.slices
    for name in args.work.split(","):
        work = {"translate": Translating, "predict": Predicting}[name](folder, args.device)
        rounds = [(timed(work.plain), timed(work.ours)) for _ in range(args.rounds + 1)][1:]
        ratios = [statistics.median(p[k] / o[k] for p, o in rounds) for k in (0, 1)]
        rates = [round(images / statistics.median(r[way][0] for r in rounds), 2) for way in (0, 1)]
        found[name] = {"plain_images_per_s": rates[0], "ours_images_per_s": rates[1], "ratio": round(ratios[0], 2),
                       "ratio_of_processor_time": round(ratios[1], 2)}
    return found


def peak(folder, *words):
    """MiB that `duiit` had at most, in a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", "duiit_cli", *words], stderr=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, cwd=Path(__file__).resolve().parents[1])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"duiit {words[0]} ended with {process.returncode}")
    return round(used.ru_maxrss / 1024)


def memory(args):
    found = {}
    for slices in args.memory:
        with tempfile.TemporaryDirectory() as folder:
            write_scans(Path(folder), slices // args.slices, args.slices, 64)
            make_run(folder, 64)
            run = ["--name=r", f"--checkpoints_dir={folder}/runs", f"--device={args.device}"]
            found[slices] = {
                "translate_MiB": peak(folder, "translate", *run, f"--input={folder}/mri", f"--output={folder}/out"),
                "predict_MiB": peak(folder, "predict", *run, f"--input={folder}/ct", f"--output={folder}/t.csv",
                                    "--interval=0")}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("size", 64), ("scans", 40), ("slices", 5), ("rounds", 3), ("threads", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--work", default="translate,predict")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--memory", type=int, nargs="+", help="numbers of slices")
    args = parser.parse_args()
    logging.getLogger("duiit").setLevel(logging.ERROR)
    if args.device == "auto":
        args.device = "cuda:0" if torch.cuda.is_available() else "cpu"
    if args.threads:
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
        torch.set_num_threads(args.threads)
    if args.memory:
        found = {"peak memory": memory(args)}
    else:
        with tempfile.TemporaryDirectory() as folder:
            write_scans(Path(folder), args.scans, args.slices, args.size)
            make_run(folder, args.size)
            found = measure(args, folder)
    where = torch.cuda.get_device_name() if args.device.startswith("cuda") else \
        f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)"
    print(json.dumps({"torch": torch.__version__, "device": where, "size": args.size, "scans": args.scans,
                      "slices": args.slices, **found}, indent=1))


if __name__ == "__main__":
    main()
