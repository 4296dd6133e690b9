"""Which epoch is the best, by whom, and what its intervals rest on."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from duiit.models.parts.prediction import validate
from duiit.util.conformal import bound, chosen_by_others
from duiit_cli.inference import validated

# Two patients of one image and one of four, whose labels are all 50.
ANSWERS = {"a": [40.0], "b": [56.0], "c": [60.0, 64.0, 36.0, 44.0]}


@pytest.fixture
def items():
    """Validation items of a network that answers with its image's only pixel."""
    return [{"B": torch.tensor([[value]]), "B_label": torch.tensor([50.0]), "B_patients": [patient],
             "B_scans": [patient]} for patient, values in ANSWERS.items() for value in values]


class Reader(torch.nn.Module):
    def forward(self, image):
        return image[:, 0]


def test_the_error_of_validation_is_a_patients_as_in_reports(items):
    found = validate(Reader(), items, "regression", torch.device("cpu"))
    assert found == pytest.approx({"val_mse_patient": (100 + 36 + 1) / 3, "val_mae_patient": (10 + 6 + 1) / 3})
    by_image = validate(Reader(), items, "regression", torch.device("cpu"), "image")
    assert by_image == pytest.approx({"val_mse_image": (100 + 36 + 100 + 196 + 196 + 36) / 6,
                                      "val_mae_image": (10 + 6 + 10 + 14 + 14 + 6) / 6})
    untold = [{k: v for k, v in item.items() if k != "B_patients"} for item in items]       # a plug-in's data set
    assert validate(Reader(), untold, "regression", torch.device("cpu")) == by_image


def test_of_classes_patients_with_several_are_left_out():
    class Sure(torch.nn.Module):
        def forward(self, image):
            return 9.0 * torch.nn.functional.one_hot(image[:, 0].long(), 2).float()

    said = {"a": ([0, 0, 1], [0, 0, 0]), "b": ([0], [1]), "c": ([1, 0], [0, 1])}
    items = [{"B": torch.tensor([[float(s)]]), "B_label": torch.tensor([t]), "B_patients": [p], "B_scans": [p]}
             for p, (answers, truths) in said.items() for s, t in zip(answers, truths, strict=True)]
    assert validate(Sure(), items, "classification", torch.device("cpu")) == {"val_error_patient": 0.5}


def test_each_patients_score_is_of_the_epoch_that_the_others_choose():
    errors = [[0.0, 9.0, 5.0], [6.0, 1.0, 5.0], [7.0, 8.0, 0.0]]
    assert chosen_by_others(errors, [1, 1, 1]) == [1, 0, 1]         # without a: 14, 6, 8; b: 5, 11, 7; c: 9, 7, 15
    assert chosen_by_others(errors, [1, 1, 9]) == [2, 2, 1]         # an error by image weighs as many as there are
    many = np.random.default_rng(0).normal(size=(3, 40))
    chosen = chosen_by_others(many.tolist(), [1] * 40)
    many[1, 7] = -1e9                                               # what one patient makes of an epoch
    assert chosen_by_others(many.tolist(), [1] * 40)[7] == chosen[7]


@pytest.mark.parametrize("patients", [20, 40])
def test_scores_of_those_who_chose_the_epoch_are_too_small_and_cross_fitted_ones_are_not(patients):
    """Epochs that differ by chance alone: the best of 30 flatters the patients who chose it."""
    rng = np.random.default_rng(0)
    held = {"chosen": [], "cross-fitted": []}
    for _ in range(600):
        scores = np.abs(rng.normal(0, 10, patients) + rng.normal(0, 6, (30, patients)))
        errors = scores**2
        best = int(np.argmin(errors.mean(axis=1)))
        fitted = [scores[e, i] for i, e in enumerate(chosen_by_others(errors.tolist(), [1] * patients))]
        new = np.abs(rng.normal(0, 10, 200) + rng.normal(0, 6, 200))
        for name, own in (("chosen", scores[best].tolist()), ("cross-fitted", fitted)):
            held[name].append(np.mean(new <= bound(own, 0.8)))
    assert np.mean(held["chosen"]) < 0.78
    assert 0.79 <= np.mean(held["cross-fitted"]) <= 0.8 + 1 / (patients + 1) + 0.01


# -- a run -------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def run(tmp_path_factory, duiit, draw_phantom, tiny):
    """A run of a predictor with four validation patients and three epochs: (its --checkpoints_dir, the data)."""
    folder, data = tmp_path_factory.mktemp("validated"), draw_phantom(ct=10, mri=0, pet=0)
    assert duiit("train", "--model", "predictor", "--preset", tiny, "--dataroot", data, "--name", "r", "--max_steps", 0,
                 "--val_fraction", 0.4, "--checkpoints_dir", folder) == 0
    return folder, data


@pytest.mark.slow
def test_a_run_keeps_what_every_epoch_found_and_calibrates_its_best_with_it(run):
    folder = Path(run[0]) / "r"
    epochs = validated.read(folder)
    assert [e["epoch"] for e in epochs] == [1, 2, 3] and {len(e["mean"]) for e in epochs} == {4}
    kept = json.loads((folder / "calibration_best.json").read_text())
    assert kept["cross_fitted"] and kept["scores"] == validated.cross_fitted(folder)
    log = (folder / "loss_log.csv").read_text().splitlines()[0]
    assert "val_mse_patient" in log
    latest = json.loads((folder / "calibration_latest.json").read_text())["scores"]["mean"]
    assert sorted(epochs[-1]["mean"]) == pytest.approx(latest, abs=0.05)        # the cohort keeps 16 bits a pixel


@pytest.mark.slow
def test_a_best_epoch_of_an_earlier_version_says_that_its_interval_is_too_narrow(run, duiit, capsys, tmp_path):
    checkpoints, data = run
    for name in ("validation.json", "calibration_best.json"):
        (Path(checkpoints) / "r" / name).unlink()
    words = ["predict", "--checkpoints_dir", checkpoints, "--name", "r", "--input", data / "ct", "--interval", 0.7,
             "--output", tmp_path / "ages.csv"]
    assert duiit(*words, "--epoch", "best") == 0
    assert "was chosen by the very patients that the interval rests on" in capsys.readouterr().err
    assert duiit(*words) == 0
    assert "was chosen by" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_of_an_earlier_version_goes_on_by_image(duiit, draw_phantom, tiny, tmp_path):
    words = ["train", "--name", "r", "--checkpoints_dir", tmp_path]
    data = draw_phantom(ct=6, mri=0, pet=0)
    assert duiit(*words, "--model", "predictor", "--preset", tiny, "--dataroot", data, "--val_by", "image") == 0
    path = tmp_path / "r" / "train_opt.json"
    kept = json.loads(path.read_text())
    assert kept["options"].pop("val_by") == "image"
    path.write_text(json.dumps(kept))
    (tmp_path / "r" / "validation.json").unlink()               # which it did not keep either
    assert duiit(*words, "--continue_train", "--max_steps", 0) == 0
    log = (tmp_path / "r" / "loss_log.csv").read_text()
    assert "val_mse_image" in log and "val_mse_patient" not in log
    assert not json.loads((tmp_path / "r" / "calibration_best.json").read_text())["cross_fitted"]
