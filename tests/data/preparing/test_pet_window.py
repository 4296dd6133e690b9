"""Uptake in SUV is an absolute scale: what is tripled in the patient is tripled in the image that networks see."""
import json
import logging
import re

import numpy as np
import pydicom
import pytest

from duiit.data.checking.check import as_json, check_folder
from duiit.data.pet_dataset import PetDataset
from duiit.options import CheckOptions, PredictOptions, TrainOptions, TranslateOptions
from duiit.options.evaluate_options import EvaluateOptions
from duiit.options.export_options import ExportOptions

CLASSES = (PredictOptions, TranslateOptions, ExportOptions, EvaluateOptions)


@pytest.fixture
def pet(tmp_path, write_slice, pet_tags):
    """Two patients' PET, the second with three times the uptake of the first; and what pydicom says of their SUV."""
    suv, stored = {}, np.random.default_rng(0).integers(0, 3000, (3, 24, 24))
    for patient, factor in (("a", 1), ("b", 3)):
        for n in range(3):
            path = write_slice(tmp_path / "data" / "pet" / patient / f"{n}.dcm", (stored[n] * factor).astype(np.uint16),
                               z=4 * n, series=f"1.{factor}", PatientID=patient, **pet_tags())
            ds = pydicom.dcmread(path)
            tracer = ds.RadiopharmaceuticalInformationSequence[0]
            left = tracer.RadionuclideTotalDose / 2                         # one half-life went by
            suv[patient, n] = ds.pixel_array * float(ds.RescaleSlope) * 1000 * float(ds.PatientWeight) / left
    return suv


def images(options, words=""):
    opt = options(f"--preprocess none {words}")
    data = PetDataset(opt, f"{opt.dataroot}/pet", 1)
    return {(row.patient, row.index): data.cohort.image(row)[0] for row in data.rows}


def test_tripled_uptake_is_three_times_as_bright(options, pet):
    for key, image in images(options).items():
        np.testing.assert_allclose((image + 1) / 2 * 10, np.minimum(pet[key], 10), atol=1e-3)


def test_by_percentiles_it_is_the_same_picture(options, pet):
    done = images(options, "--pet_window percentiles")
    np.testing.assert_allclose(done["a", 1], done["b", 1], atol=1e-3)


def test_another_window_is_another_cohort(options, pet):
    images(options)
    for key, image in images(options, "--pet_window 0.5,4.5").items():
        np.testing.assert_allclose((image + 1) / 2 * 4 + 0.5, np.clip(pet[key], 0.5, 4.5), atol=1e-3)


# -- runs ----------------------------------------------------------------------------------------------------------

def run_of(tmp_path, **recorded):
    folder = tmp_path / "runs" / "demo"
    folder.mkdir(parents=True)
    options = {"model": "duiit", "dataset_mode": "cross_modality", "sources": "mri", "target": "pet", **recorded}
    (folder / "train_opt.json").write_text(json.dumps({"duiit_version": "1", "options": options}))
    (folder / "facts.json").write_text("{}")
    return ["--checkpoints_dir", str(tmp_path / "runs"), "--name", "demo"]


@pytest.mark.parametrize("command", CLASSES)
@pytest.mark.parametrize("recorded, window", [({}, "percentiles"), ({"pet_window": "0,10"}, "0,10"),
                                              ({"pet_window": "0,25"}, "0,25")])
def test_a_run_keeps_the_scale_it_was_trained_with(tmp_path, command, recorded, window):
    """A run of before the option was trained on each scan's percentiles, and goes on so, whatever is the default."""
    assert command().gather_options(run_of(tmp_path, **recorded)).pet_window == window


def test_training_goes_on_with_the_scale_it_began_with(tmp_path):
    words = [*run_of(tmp_path), "--dataroot", str(tmp_path)]
    assert TrainOptions().gather_options([*words, "--continue_train"]).pet_window == "percentiles"
    assert TrainOptions().gather_options(words).pet_window == "0,10"


# -- data check ----------------------------------------------------------------------------------------------------

def test_the_check_says_what_is_scaled_how(tmp_path, pet, write_slice, pet_tags, caplog):
    write_slice(tmp_path / "data" / "pet" / "c" / "0.dcm", np.arange(576, dtype=np.uint16).reshape(24, 24),
                PatientID="c", series="1.9", **{**pet_tags(), "PatientWeight": 0})
    with caplog.at_level(logging.CRITICAL):
        modalities, problems = check_folder(CheckOptions().parse(["--dataroot", str(tmp_path / "data")]))
    [pet_row] = as_json(modalities, problems)["modalities"]
    assert pet_row["scaling"] == {"0 to 10 SUV": 2, "each scan's percentiles": 1}
    told = [p for p in problems if "--pet_window" in p.reason]
    assert not told
    _, problems = check_folder(CheckOptions().parse(["--dataroot", str(tmp_path / "data"), "--pet_window", "0,5"]))
    [problem] = [p for p in problems if "--pet_window 0,5" in p.reason]
    share = 100 * np.mean([pet["b", n] > 5 for n in range(3)])
    told = re.search(r"up to (\d+)% of the pixels .* in 1 scan: b$", problem.reason)
    assert float(told[1]) == pytest.approx(share, abs=1.5)
