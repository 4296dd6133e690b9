"""Small cohorts on disk, and the options to read them with."""
import numpy as np
import pytest
from PIL import Image

from duiit.options import TrainOptions


def write_cohort(folder, patients, labels=(), slices=2, size=(20, 20), seed=0):
    """<folder>/<patient>/<n>.png of noise, and labels.csv (labels: one a patient, None where there is none)."""
    rng = np.random.default_rng(seed)
    for patient in patients:
        (folder / patient).mkdir(parents=True)
        for n in range(slices):
            Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(folder / patient / f"{n + 1}.png")
    if labels:
        lines = [f"{p},{x}" for p, x in zip(patients, labels, strict=True) if x is not None]
        (folder / "labels.csv").write_text("\n".join(["patient,label", *lines]) + "\n")
    return folder


@pytest.fixture
def cohort_on_disk():
    return write_cohort


@pytest.fixture
def options(tmp_path):
    """options("--model …", name=value, …) -> parsed options of a training run; data under tmp_path/data."""
    def parse(words="", **values):
        (tmp_path / "data").mkdir(exist_ok=True)
        places = ["--dataroot", str(tmp_path / "data"), "--cache_dir", str(tmp_path / "cache"), "--name", "run",
                  "--checkpoints_dir", str(tmp_path / "runs"), "--gpu_ids", "-1", "--num_threads", "0",
                  "--load_size", "20", "--crop_size", "16", "--batch_size", "2"]
        opt = TrainOptions().parse([*places, *words.split()])
        vars(opt).update(values)
        return opt
    return parse


@pytest.fixture
def modalities(tmp_path):
    """mri (4 patients), pet (3) and ct (6, one of them without a label), with ages, under tmp_path/data."""
    root = tmp_path / "data"
    write_cohort(root / "mri", [f"m{i}" for i in range(4)], [60, 65, 70, 75], seed=1)
    write_cohort(root / "pet", [f"p{i}" for i in range(3)], [50, None, 45], slices=1, seed=2)
    write_cohort(root / "ct", [f"c{i}" for i in range(6)], [None, 30, 40, 50, 20, 35], seed=3)
    return root
