"""How time and memory grow with slices, patients, sources and processes.

    python benchmarks/scale.py [--only listing,split] [--most 10000]

Each job is done at several sizes on made-up files in a temporary folder, or on made-up rows where no pixels are needed,
every time in a process of its own. Prints the processor's seconds, the memory (MiB) beyond what the process began with,
and their growth: the exponent between the two largest sizes, 1 where twice as much takes twice as long, 0 where it
takes as long. Less than 20 ms or 4 MiB says nothing of growth and gets none. A few minutes on two cores.
"""
import argparse
import json
import math
import os
import pickle
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file

from duiit.data import EpochSampler, splits
from duiit.data.checking.check import check_folder
from duiit.data.cross_modality_dataset import CrossModalityDataset
from duiit.data.modality_dataset import loader_of
from duiit.data.preparing import cohort
from duiit.data.preparing.cohort import Row
from duiit.options import CheckOptions, TrainOptions
from duiit.util.html import HTML
from duiit.util.logs import setup_logging
from duiit_cli.experiments.reporting.report import write_report

SLICES, PATIENTS = (100, 1000, 10_000), (100, 1000, 4000)
ROWS = (1000, 10_000, 100_000)
SMALL = 0.02, 4.0                               # seconds, MiB


# -- made-up material ----------------------------------------------------------------------------------------------

def images(folder, count, patients, modality="ct"):
    """PNGs of 8x8 pixels, all different, of so many patients, with labels.csv."""
    rng, root = np.random.default_rng(count), folder / modality
    for n in range(count):
        path = root / f"p{n % patients:05d}" / f"{n // patients:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(path, compress_level=0)
    lines = ["patient,label", *(f"p{n:05d},{20 + n % 60}" for n in range(patients))]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


def dicom(folder, count, patients, anonymous):
    """Series of DICOM files without pixels worth the name, one a patient; or of nobody, in one folder."""
    ds = dcmread(get_testdata_file("CT_small.dcm", download=False))
    ds.Rows = ds.Columns = 4
    ds.PixelData = bytes(32)
    for n in range(count):
        who = n % patients
        ds.PatientID = "anonymous" if anonymous else f"p{who:05d}"
        ds.SeriesInstanceUID, ds.StudyInstanceUID = f"1.2.{who + 1}", f"1.3.{who + 1}"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.4.{n + 1}"
        ds.PatientAge = f"{20 + who % 60:03d}Y"
        ds.InstanceNumber, ds.ImagePositionPatient = n // patients + 1, [0, 0, n // patients]
        path = folder / "ct" / ("" if anonymous else f"p{who:05d}") / f"{n:06d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(path)


def rows(count):
    return [Row(f"p{n // 20}", f"p{n // 20}", f"p{n // 20}/{n % 20}.png", 0, float(n % 60), False, (1, 64, 64),
                n * 4096, 0.0, 255.0, "display") for n in range(count)]


def training(folder, *words):
    return TrainOptions().parse(["--dataroot", str(folder), "--cache_dir", str(folder / ".cache"), "--device", "cpu",
                                 "--checkpoints_dir", str(folder / ".runs"), "--load_size", "8", "--crop_size", "8",
                                 *words])


def experiment(folder, count):
    """Three methods on so many splits, as `duiit experiment` leaves them."""
    names = "pure_ct", "raw_mri", "duiit_mri"
    methods = [{"name": n, "title": n, "sources": [] if n == "pure_ct" else ["mri"], "table": "CT", "row": n,
                "translator": None, "role": r} for n, r in zip(names, ("pure", "raw", "duiit"), strict=True)]
    settings = {"dataroot": "data", "target": "ct", "task": "regression", "split_by": "patient", "splits": count,
                "seed": 0, "val_fraction": 0.1, "test_fraction": 0.2, "label_unit": "years"}
    (folder / "experiment.json").write_text(json.dumps(
        {"duiit_version": "0.1.0", "created": "2030-01-02T03:04:05", "settings": settings, "methods": methods,
         "translators": []}))
    rng = np.random.default_rng(0)
    for name in names:
        for split in range(count):
            mse = 100 + 10 * rng.normal()
            errors = {"n": 24, "mse": mse, "mae": mse**0.5 * 0.8, "rmse": mse**0.5, "bias": 0.5, "r2": 0.5,
                      "pearson_r": None}
            counts = {p: {"images": 20, "patients": 5} for p in ("train", "val", "test")}
            path = folder / "cells" / name / f"split_{split:02d}" / "cell.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(
                {"method": name, "title": name, "split": split, "seed": split, "split_seed": split, "seconds": 9.0,
                 "finished": "2030-01-02T04:00:00", "device": "cpu", "versions": {}, "commands": [],
                 "counts": {**counts, "extra_images": 0},
                 "predictor": {"modality": "ct", "by_image": errors, "by_patient": errors,
                               "predict_the_mean": {"by_image": errors, "by_patient": errors}}}))


# -- jobs: (folder, size) -> what is to be measured, ready to be called ----------------------------------------------

def listing(folder, count, patients=None, again=False):
    images(folder, count, patients or count // 20)
    opt = training(folder)

    def work():
        scans = loader_of("ct").find_scans(folder / "ct", opt)
        cohort._digest(scans, "ct", 1, opt)
    if again:
        work()
        time.sleep(2.5)                         # a file that has just been written is not taken for settled
        work()
    return work


def listing_dicom(folder, count, patients=None, anonymous=False):
    dicom(folder, count, patients or count // 20, anonymous)
    opt = training(folder)
    return lambda: loader_of("ct").find_scans(folder / "ct", opt)


def checking(folder, count):
    images(folder, count, count // 20)
    opt = CheckOptions().parse(["--dataroot", str(folder), "--num_threads", "0", "--cache_dir", str(folder / ".cache")])
    return lambda: check_folder(opt)


def opening(folder, count, patients=None):
    """A data set whose images are prepared already."""
    images(folder, count, patients or count // 20)
    images(folder, 100, 20, "mri")
    opt = training(folder)
    CrossModalityDataset(opt)
    return lambda: CrossModalityDataset(opt)


def opening_of_sources(folder, count):
    for name in ("ct", *(f"s{n}" for n in range(count))):
        images(folder, 400, 40, name)
    opt = training(folder)
    CrossModalityDataset(opt)
    return lambda: CrossModalityDataset(opt)


def serving(folder, count):
    """200 items, wherever they lie."""
    images(folder, count, count // 20)
    images(folder, 100, 20, "mri")
    data = CrossModalityDataset(training(folder))
    chosen = np.random.default_rng(0).integers(len(data), size=200).tolist()
    return lambda: [data.collate(data.__getitems__(chosen[n:n + 4])) for n in range(0, 200, 4)]


def splitting(folder, count, split_by="patient"):
    made = {"ct": rows(count), "mri": rows(count)}
    opt = Namespace(split_by=split_by, split_seed=0, target="ct", val_fraction=0.1, test_fraction=0.2,
                    source_test_fraction=0.1)

    def work():
        parts = splits.assign(made, opt)
        splits.write(folder, made, parts, split_by)
        splits.read(folder, made, split_by)
    return work


def ordering(folder, count, processes=1):
    """The order of ten epochs, as one of so many processes sees it."""
    sampler = EpochSampler(count, True, 0, share=(64, 0, processes) if processes > 1 else None)

    def work():
        for sampler.epoch in range(10):
            list(sampler)
    return work


def page(folder, count, alike=False):
    """A page of results: a heading and three images each."""
    def work():
        html = HTML(folder, "results")
        for n in range(count):
            stem = html.free_stem("slice" if alike else f"p{n // 20}/{n % 20}")
            html.add_header(stem)
            html.add_images([f"{stem}_{k}.png" for k in range(3)], ["real", "fake", "true"],
                            [f"{stem}_{k}.png" for k in range(3)])
        html.save()
    return work


def report(folder, count):
    experiment(folder, count)
    return lambda: write_report(folder)


JOBS = {
    "listing and hashing PNGs, 20 a patient": (listing, "slices", SLICES, {}),
    "the same again": (listing, "slices", SLICES, {"again": True}),
    "listing and hashing PNGs, 1 a patient": (lambda f, n: listing(f, n, n), "patients", PATIENTS, {}),
    "listing DICOM, 20 a patient": (listing_dicom, "slices", (100, 1000, 4000), {}),
    "listing DICOM, 1 a patient": (lambda f, n: listing_dicom(f, n, n), "patients", PATIENTS, {}),
    "listing DICOM, 1 a study, of nobody": (lambda f, n: listing_dicom(f, n, n, True), "patients", PATIENTS, {}),
    "data check": (checking, "slices", (100, 1000, 4000), {}),
    "opening prepared images, 20 a patient": (opening, "slices", SLICES, {}),
    "opening prepared images, 1 a patient": (lambda f, n: opening(f, n, n), "patients", PATIENTS, {}),
    "opening prepared images, 400 a source": (opening_of_sources, "sources", (1, 2, 4, 8), {}),
    "serving 200 items": (serving, "slices", SLICES, {}),
    "split by patient: drawn, written, read": (splitting, "slices", ROWS, {}),
    "split by image: drawn, written, read": (splitting, "slices", ROWS, {"split_by": "image"}),
    "order of ten epochs": (ordering, "slices", ROWS, {}),
    "order of ten epochs of 100,000 images": (lambda f, n: ordering(f, 100_000, n), "processes", (1, 2, 4, 8), {}),
    "page of results": (page, "slices", (100, 1000, 4000), {}),
    "page of results, images of one name": (page, "slices", (100, 1000, 4000), {"alike": True}),
    "report of an experiment": (report, "splits", (10, 40, 160), {}),
}


# -- measuring -----------------------------------------------------------------------------------------------------

def measured(make, size, words):
    """(seconds of the processor, MiB) of a job's work, in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with tempfile.TemporaryDirectory() as folder:
                work = make(Path(folder), size, **words)
                Path("/proc/self/clear_refs").write_text("5")          # the peak counts from here
                before, began = _peak(), time.process_time()
                work()
                told = time.process_time() - began, _peak() - before
            os.write(writing, pickle.dumps(told))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        told = file.read()
    if os.waitpid(child, 0)[1]:
        sys.exit("failed: see above")
    return pickle.loads(told)           # noqa: S301 - of our own child


def _peak():
    """MiB of resident memory at most."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def growth(sizes, values, least):
    """The exponent between the last two sizes; None where the values are too small to tell."""
    if len(sizes) < 2 or values[-1] < least:
        return None
    return math.log(values[-1] / max(values[-2], least / 20)) / math.log(sizes[-1] / sizes[-2])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="jobs whose names hold one of these words, with commas (default: all)")
    parser.add_argument("--most", type=int, default=max(ROWS), help="leave out larger sizes")
    args = parser.parse_args()
    setup_logging(quiet=True)
    chosen = [n for n in JOBS if not args.only or any(word in n for word in args.only.split(","))]
    show("job", "of", "seconds", "MiB", "time ~ n^", "memory ~ n^")
    for name in chosen:
        make, of, sizes, words = JOBS[name]
        sizes = [s for s in sizes if s <= args.most]
        found = [measured(make, size, words) for size in sizes]
        seconds, memory = zip(*found, strict=True)
        told = [growth(sizes, values, least) for values, least in zip((seconds, memory), SMALL, strict=True)]
        show(name, f"{of} {sizes[0]:,} to {sizes[-1]:,}", " ".join(f"{s:.2f}" for s in seconds),
             " ".join(f"{m:.0f}" for m in memory), *("" if t is None else f"{t:.2f}" for t in told))


def show(*cells):
    print("".join(f"{cell:<{width}}" for cell, width in zip(cells, (40, 27, 22, 14, 11, 11), strict=True)).rstrip(),
          flush=True)


if __name__ == "__main__":
    main()
