"""Nothing is trained on, chosen by or scaled with test patients: poison in their labels and images changes nothing."""
import csv
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch

from duiit.util import checkpoint

METHODS = {"predictor": ["--model", "predictor"], "raw": ["--model", "predictor", "--raw", "mri"],
           "duiit": ["--sources", "mri"],
           "cycle_gan": ["--model", "cycle_gan", "--sources", "mri"],
           "multitask": ["--model", "multitask", "--sources", "mri"], "dann": ["--model", "dann", "--sources", "mri"],
           "augmented": ["--model", "predictor", "--augment", "autoaugment"]}


@pytest.fixture(scope="module")
def scale(tmp_path_factory):
    """Small networks, and the best epoch chosen by validation, for every kind of model."""
    path = tmp_path_factory.mktemp("scale") / "leak.toml"
    path.write_text("load_size = 32\ncrop_size = 32\nnetP = 'resnet10'\nbatch_size = 2\nnum_threads = 0\n"
                    "n_epochs = 2\nn_epochs_decay = 0\nsteps_per_epoch = 2\nval_fraction = 0.2\ntest_fraction = 0.4\n"
                    "no_html = true\ndisplay_id = 0\ndevice = 'cpu'\n"
                    "[translator]\nnetG = 'resnet_1blocks'\nngf = 4\nndf = 4\ninput_nc = 1\noutput_nc = 1\n"
                    "dataset_mode = 'cross_modality'\n[predictor]\n")
    return path


def held_out_cts(run):
    with (run / "split.csv").open() as file:
        return {r["patient"] for r in csv.DictReader(file) if (r["modality"], r["split"]) == ("ct", "test")}


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory, duiit, phantom, scale):
    """A copy of the phantom in which the CTs and ages of the patients who are tested on are nonsense."""
    runs = tmp_path_factory.mktemp("drawn")
    assert duiit("train", "--dataroot", phantom, "--preset", scale, "--model", "predictor", "--max_steps", 1,
                 "--checkpoints_dir", runs, "--name", "drawn") == 0
    held_out = held_out_cts(runs / "drawn")
    assert len(held_out) == 2
    root = tmp_path_factory.mktemp("poisoned") / "phantom"
    shutil.copytree(phantom, root)
    for patient in held_out:
        path = next((root / "ct" / "ct_scans").glob(f"*{int(patient):03d}.nii"))
        image = nibabel.load(path)
        noise = np.random.default_rng(0).integers(-1000, 3000, image.shape).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(noise, image.affine), path)
    table = root / "ct" / "Patient_demographics.csv"
    frame = pd.read_csv(table, header=None, dtype=str)
    of = frame[0].map(lambda text: str(text).lstrip("0") in {p.lstrip("0") for p in held_out})
    assert of.sum() == 2
    frame.loc[of, 1] = "900"
    frame.to_csv(table, header=False, index=False)
    return root, held_out


@pytest.mark.slow
@pytest.mark.parametrize("kind", METHODS)
def test_poison_in_test_patients_changes_no_weight(tmp_path, duiit, phantom, poisoned, scale, kind):
    root, held_out = poisoned
    for name, data in (("clean", phantom), ("poisoned", root)):
        assert duiit("train", "--dataroot", data, "--preset", scale, *METHODS[kind], "--checkpoints_dir", tmp_path,
                     "--name", name) == 0
        assert held_out_cts(tmp_path / name) == held_out
    clean = sorted((tmp_path / "clean").glob("*_net_*.pth"))
    assert len(clean) >= 2
    for path in clean:
        mine, theirs = checkpoint.load(path), checkpoint.load(tmp_path / "poisoned" / path.name)
        assert all(torch.equal(mine[k], theirs[k]) for k in mine), path.name


@pytest.mark.slow
def test_poison_in_training_patients_does(tmp_path, duiit, phantom, poisoned, scale):
    """That the test above can fail."""
    root, held_out = poisoned
    for name, data in (("clean", phantom), ("poisoned", root)):
        assert duiit("train", "--dataroot", data, "--preset", scale, "--model", "predictor", "--split_seed", 3,
                     "--checkpoints_dir", tmp_path, "--name", name) == 0
    assert held_out_cts(tmp_path / "clean") != held_out
    one, other = (checkpoint.load(tmp_path / n / "latest_net_P.pth") for n in ("clean", "poisoned"))
    assert any(not torch.equal(one[k], other[k]) for k in one)
