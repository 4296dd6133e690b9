"""`duiit predict`: a row a scan, intervals that come from validation patients, flags for unusual scans, errors."""
import csv
import json
import shutil

import nibabel
import numpy as np
import pytest
from PIL import Image

from duiit.options import PredictOptions
from duiit.util import checkpoint
from duiit.util.conformal import bound
from duiit_cli.inference.calibration import write_calibration
from duiit_cli.inference.networks import load_model

pytestmark = pytest.mark.slow              # trains the run that it asks, and most tests another one


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def train(duiit, folder, data, *words):
    assert duiit("train", "--model", "predictor", "--dataroot", data, "--preset", "phantom",
                 "--load_size", 32, "--crop_size", 32, "--n_epochs", 2, "--n_epochs_decay", 0, "--steps_per_epoch", 8,
                 "--no_html", "--display_id", 0, "--device", "cpu", "--checkpoints_dir", folder, *words) == 0


@pytest.fixture(scope="module")
def heads(draw_phantom):
    """60 CT patients of two 32x32 slices."""
    return draw_phantom(ct=60, mri=4, pet=0)


@pytest.fixture(scope="module")
def trained_ages(tmp_path_factory, duiit, heads):
    """A --checkpoints_dir with the run `ages`: 18 patients to train on, 18 for validation, 24 for testing."""
    folder = tmp_path_factory.mktemp("runs")
    train(duiit, folder, heads, "--val_fraction", 0.3, "--test_fraction", 0.4, "--name", "ages")
    return folder


@pytest.fixture
def runs(trained_ages, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(trained_ages, tmp_path / "runs")


@pytest.fixture
def predicted(duiit, trained_ages, heads, tmp_path, capsys):
    """predicted(*words) -> (rows, stderr): the CTs' ages by the run, read back from the table."""
    def call(*words, code=0, runs=trained_ages, given=None):
        capsys.readouterr()
        out = tmp_path / "ages.csv"
        assert duiit("predict", "--checkpoints_dir", runs, "--name", "ages", "--input", given or heads / "ct",
                     "--output", out, *words) == code
        return table(out), capsys.readouterr().err
    return call


def calibration(runs):
    return json.loads((runs / "ages" / "calibration_latest.json").read_text())


def volumes(heads):
    return sorted((heads / "ct").rglob("*.nii*"))


# -- rows --------------------------------------------------------------------------------------------------------

def test_the_columns(predicted):
    rows, _ = predicted()
    assert list(rows[0]) == ["id", "patient", "prediction", "spread", "lower", "upper", "slices", "flag", "reason",
                             "label", "error", "split", "file"]
    assert len(rows) == 60


@pytest.mark.parametrize("how", ["mean", "median"])
def test_a_scan_is_the_mean_or_the_median_of_its_slices(predicted, duiit, runs, tmp_path, how):
    volume = tmp_path / "tall.nii"
    heights = np.random.default_rng(0).normal(30, 20, (32, 32, 5)) + np.linspace(-30, 60, 5) ** 2 / 40
    nibabel.save(nibabel.Nifti1Image(heights.astype(np.float32), np.eye(4)), volume)
    (scan,), _ = predicted("--aggregate", how, given=volume)
    slices, _ = predicted("--per_slice", given=volume)
    answers = [float(r["prediction"]) for r in slices]
    assert len(answers) == 5 and len(set(answers)) == 5
    assert float(scan["prediction"]) == pytest.approx({"mean": np.mean, "median": np.median}[how](answers), abs=0.002)


# -- intervals ---------------------------------------------------------------------------------------------------

def test_the_interval_is_the_validation_patients_errors(predicted, trained_ages, heads):
    """Recomputed from the table itself: errors of the validation patients, of which the 18 x 0.9-th holds."""
    rows, _ = predicted()
    errors = [abs(float(r["error"])) for r in rows if r["split"] == "val"]
    assert len(errors) == 18
    radius = bound(errors, 0.9)
    assert calibration(trained_ages)["scores"]["mean"] == pytest.approx(sorted(errors), abs=0.002)
    for r in rows:
        assert float(r["upper"]) - float(r["prediction"]) == pytest.approx(radius, abs=0.003)
        assert float(r["prediction"]) - float(r["lower"]) == pytest.approx(radius, abs=0.003)


def test_the_interval_holds_for_new_patients(predicted):
    rows = [r for r in predicted("--interval", 0.8)[0] if r["split"] == "test"]
    held = [float(r["lower"]) <= float(r["label"]) <= float(r["upper"]) for r in rows]
    assert len(held) == 24
    assert np.mean(held) > 0.6              # of 24 that each hold with 0.8: fewer in 2 of 100 draws


def test_too_few_validation_patients(predicted):
    rows, told = predicted("--interval", 0.95)
    assert {r["lower"] + r["upper"] for r in rows} == {""}
    assert "warning: no interval: at --interval 0.95 it needs 19 labelled patients in validation" in told
    assert "and the run has 18" in told
    assert "no interval" not in predicted("--interval", 0)[1]


def test_a_run_travels_without_its_data(predicted, runs, heads):
    """What has been found once is kept; without it and without the data there is no interval, and a line says why."""
    before, _ = predicted(runs=runs)
    gone = ["--dataroot", "/nowhere"]
    assert predicted(*gone, runs=runs)[0] == before
    for kept in ("calibration_latest.json", "dataset_fingerprint.json"):
        (runs / "ages" / kept).unlink()
    after, told = predicted(*gone, runs=runs)
    assert [r["prediction"] for r in after] == [r["prediction"] for r in before]
    assert {(r["lower"], r["flag"]) for r in after} == {("", "not judged")}
    for what in ("interval", "flag"):
        assert f"warning: no {what}: the run keeps none, and it cannot be found now (--dataroot /nowhere: no" in told


def test_a_run_without_a_split(predicted, runs):
    """One that was trained elsewhere: who was trained on is not known."""
    for name in ("split.csv", "calibration_latest.json", "dataset_fingerprint.json"):
        (runs / "ages" / name).unlink(missing_ok=True)
    rows, told = predicted(runs=runs)
    assert {(r["lower"], r["flag"], r["split"]) for r in rows} == {("", "not judged", "")}
    assert "warning: no interval: the run keeps none" in told and "holds no split.csv" in told


def shift_answers(runs, epoch, years):
    """Writes <epoch>_net_P.pth: the latest predictor, answering so much more."""
    weights = checkpoint.load(runs / "ages" / "latest_net_P.pth")
    bias = [name for name in weights if name.endswith("bias")][-1]
    weights[bias] = weights[bias] + years
    checkpoint.save(weights, runs / "ages" / f"{epoch}_net_P.pth")


def test_other_weights_have_another_calibration(predicted, runs):
    """Kept for the weights it was found with: when the file changes under its name, it is found anew."""
    rows, _ = predicted(runs=runs)
    first = calibration(runs)
    shift_answers(runs, "latest", 3)
    shifted, _ = predicted(runs=runs)
    errors = [abs(float(r["error"])) for r in shifted if r["split"] == "val"]
    assert shifted[0]["prediction"] != rows[0]["prediction"]
    assert calibration(runs)["made_with"]["weights"] != first["made_with"]["weights"]
    assert calibration(runs)["scores"]["mean"] == pytest.approx(sorted(errors), abs=0.002)


def test_what_training_keeps_is_what_predictions_find(predicted, runs, heads):
    """When training ends, for the latest and the best weights; nothing is left to be found later."""
    shift_answers(runs, "best", 3)
    found = {epoch: predicted("--epoch", epoch, runs=runs)[0] for epoch in ("latest", "best")}
    names = ["calibration_best.json", "calibration_latest.json", "dataset_fingerprint.json"]
    kept = {name: (runs / "ages" / name).read_bytes() for name in names}
    for name in names:
        (runs / "ages" / name).unlink()
    opt = PredictOptions().parse(["--checkpoints_dir", str(runs), "--name", "ages", "--input", "x"])
    write_calibration(load_model(opt, "predictor"), opt)
    assert {name: (runs / "ages" / name).read_bytes() for name in names} == kept
    for epoch, rows in found.items():
        assert predicted("--epoch", epoch, "--dataroot", "/nowhere", runs=runs)[0] == rows


def test_other_settings_have_another_calibration_that_is_not_kept(predicted, runs):
    predicted(runs=runs)
    first = calibration(runs)
    rows, _ = predicted("--slices", "0.3-0.8", runs=runs)
    errors = [abs(float(r["error"])) for r in rows if r["split"] == "val"]
    assert float(rows[0]["upper"]) - float(rows[0]["prediction"]) == pytest.approx(bound(errors, 0.9), abs=0.003)
    assert calibration(runs) == first


def test_a_patient_counts_once_with_the_worst_scan(predicted, duiit, heads, tmp_path, runs):
    """Every CT twice, the second time with noise: still one score a patient, the larger."""
    shutil.copytree(heads / "ct", tmp_path / "twice" / "ct")
    rng = np.random.default_rng(0)
    for path in volumes(tmp_path / "twice"):
        volume = nibabel.load(path)
        noisy = np.asarray(volume.dataobj) + rng.normal(0, 60, volume.shape)
        nibabel.save(nibabel.Nifti1Image(noisy.astype(np.int16), volume.affine), path.with_name(f"{path.stem}b.nii"))
    words = ["--dataroot", tmp_path / "twice", "--patient_regex", r"(\d+)b?\.nii"]
    train(duiit, runs, tmp_path / "twice", *words[2:], "--val_fraction", 0.3, "--test_fraction", 0.4, "--name", "twice")
    rows, _ = predicted(*words[2:], "--name", "twice", runs=runs, given=tmp_path / "twice" / "ct")
    worst = {}
    for r in (r for r in rows if r["split"] == "val"):
        worst[r["patient"]] = max(worst.get(r["patient"], 0), abs(float(r["error"])))
    kept = json.loads((runs / "twice" / "calibration_latest.json").read_text())
    assert kept["patients"] == len(worst) == 18
    assert kept["scores"]["mean"] == pytest.approx(sorted(worst.values()), abs=0.002)


def test_patients_who_are_in_training_too_calibrate_nothing(predicted, duiit, heads, runs):
    train(duiit, runs, heads, "--split_by", "image", "--val_fraction", 0.3, "--test_fraction", 0.05, "--name", "images")
    rows, told = predicted("--name", "images", "--interval", 0.95, runs=runs)
    in_val_alone = {r["patient"] for r in rows if r["split"] == "val"}
    assert any(r["split"] == "train+val" for r in rows)
    assert f"and the run has {len(in_val_alone)};" in told


# -- flags -------------------------------------------------------------------------------------------------------

def test_scans_of_new_patients_are_mostly_not_flagged(predicted):
    rows, told = predicted()
    assert sum(r["flag"] != "" for r in rows if r["split"] == "test") <= 1
    assert not any(r["reason"] for r in rows if not r["flag"])


def test_unusual_scans_are_flagged_with_the_reason(predicted, heads, tmp_path):
    (tmp_path / "odd").mkdir()
    volume = nibabel.load(volumes(heads)[0])
    pixels = np.asarray(volume.dataobj).astype(np.float32)
    mri = np.clip(300 + 4 * pixels, 0, 1500) * (pixels > -500)
    for name, values in (("sound", pixels), ("no_intercept", pixels + 1024), ("per_mille", pixels / 1000),
                         ("mri", mri)):
        nibabel.save(nibabel.Nifti1Image(values, volume.affine), tmp_path / "odd" / f"{name}.nii")
    nibabel.save(nibabel.Nifti1Image(pixels, np.diag([1, 1, 1, 1])), tmp_path / "odd" / "small.nii")
    Image.fromarray(np.clip(pixels[..., 0] + 20, 0, 120).astype(np.uint8) * 2).save(tmp_path / "odd" / "picture.png")
    rows, told = predicted(given=tmp_path / "odd")
    reasons = {r["id"]: r["reason"] for r in rows if r["flag"] == "unlike training"}
    assert set(reasons) == {"no_intercept", "per_mille", "mri", "small", "picture"}
    assert all("lowest values (HU)" in reasons[name] for name in ("no_intercept", "per_mille", "mri"))
    assert "field of view (mm) 32, below the limit" in reasons["small"]
    assert "values in display, training scans in HU" in reasons["picture"]
    assert "warning: flagged: 5 unlike training of 6 scans" in told


# -- scans that cannot be read -----------------------------------------------------------------------------------

def test_an_unreadable_scan_among_many(predicted, heads, tmp_path):
    given = shutil.copytree(heads / "ct" / "ct_scans", tmp_path / "given")
    broken = sorted(given.iterdir())[2]
    broken.write_bytes(b"no volume")
    rows, told = predicted(given=given, code=2)
    assert len(rows) == 60
    row = rows[2]
    assert (row["flag"], row["prediction"], row["lower"], row["slices"]) == ("unreadable", "", "", "0")
    assert broken.name in row["reason"]
    assert all(r["prediction"] for r in rows if r is not row)
    lines = told.splitlines()
    assert sum(broken.name in line for line in lines) == 1
    assert lines[-1].startswith("error: 1 of 60 scans could not be read")


def test_only_unreadable_scans(refused, heads, trained_ages, tmp_path):
    (tmp_path / "given").mkdir()
    for name in "ab":
        (tmp_path / "given" / f"{name}.nii").write_bytes(b"no volume")
    message = refused("predict", "--checkpoints_dir", trained_ages, "--name", "ages", "--input", tmp_path / "given",
                      "--output", tmp_path / "out.csv")
    assert "a.nii" in message and "none of 2 scans can be read" in message
    assert not (tmp_path / "out.csv").exists()


# -- errors where labels are known -------------------------------------------------------------------------------

def test_errors_are_reported_and_those_of_trained_patients_apart(predicted):
    rows, told = predicted("--interval", 0.8)
    new = [r for r in rows if r["split"] == "test"]
    for r in rows:
        assert float(r["error"]) == pytest.approx(float(r["prediction"]) - float(r["label"]), abs=0.002)
    errors = np.array([float(r["error"]) for r in new])
    held = sum(float(r["lower"]) <= float(r["label"]) <= float(r["upper"]) for r in new)
    (line,) = [line for line in told.splitlines() if line.startswith("24 scans of 24 patients: ")]
    numbers = {part.split(" ")[-2]: float(part.split(" ")[-1]) for part in line.split(";")[0].split(",")}
    assert numbers == {"MAE": pytest.approx(np.abs(errors).mean(), rel=1e-3),
                       "RMSE": pytest.approx(np.sqrt((errors**2).mean()), rel=1e-3),
                       "bias": pytest.approx(errors.mean(), abs=0.01)}
    assert line.endswith(f"{held} of 24 labels ({held / 24:.0%}) are in the 80% interval")
    assert "warning: of patients whom the run was trained or tuned on" in told and ": 36 scans of 36 patients: " in told


def test_without_labels_nothing_is_said_of_errors(predicted, heads, tmp_path):
    given = shutil.copytree(heads / "ct" / "ct_scans", tmp_path / "given")
    rows, told = predicted(given=given)
    assert {r["label"] + r["error"] for r in rows} == {""}
    assert "MAE" not in told


def test_json_has_null_where_nothing_is_known(duiit, trained_ages, heads, tmp_path):
    given = shutil.copytree(heads / "ct" / "ct_scans", tmp_path / "given")
    assert duiit("predict", "--checkpoints_dir", trained_ages, "--name", "ages", "--input", given, "--interval", 0,
                 "--output", tmp_path / "ages.json") == 0
    row = json.loads((tmp_path / "ages.json").read_text())[0]
    assert [row[name] for name in ("lower", "upper", "label", "error")] == [None] * 4
    assert isinstance(row["prediction"], float)


# -- classes -----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """24 patients with two images each, ill ones brighter."""
    root, rng = tmp_path_factory.mktemp("kinds"), np.random.default_rng(0)
    lines = ["patient,label"]
    for n in range(24):
        kind = ("ill", "well", "unsure")[n % 3]
        (root / "ct" / f"p{n}").mkdir(parents=True)
        for z in range(2):
            image = rng.integers(40, {"ill": 250, "well": 90, "unsure": 160}[kind], (32, 32), dtype=np.uint8)
            Image.fromarray(image).save(root / "ct" / f"p{n}" / f"{z}.png")
        lines.append(f"p{n},{kind}")
    (root / "ct" / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def test_classes_come_with_a_set_that_holds_the_true_one(predicted, duiit, kinds, tmp_path):
    train(duiit, tmp_path / "c", kinds, "--task", "classification", "--val_fraction", 0.4, "--test_fraction", 0.3,
          "--name", "ages")
    rows, told = predicted("--interval", 0.8, "--aggregate", "median", runs=tmp_path / "c", given=kinds / "ct")
    limit = bound(calibration(tmp_path / "c")["scores"]["median"], 0.8)
    for r in rows:
        chances = {name: float(r[f"p_{name}"]) for name in ("ill", "unsure", "well")}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-3)
        inside = set(r["set"].split(";"))
        assert r["set"].split(";")[0] == r["prediction"] == max(chances, key=chances.get)
        assert inside >= {name for name, p in chances.items() if 1 - p < limit - 1e-3}
        assert inside <= {r["prediction"]} | {name for name, p in chances.items() if 1 - p < limit + 1e-3}
        assert r["error"] == str(int(r["prediction"] != r["label"]))
    validated = [r["label"] in r["set"].split(";") for r in rows if r["split"] == "val"]
    assert len(validated) == 10 and sum(validated) >= 9                     # the ceil(11 x 0.8)-th of 10
    assert "accuracy" in told and "are in the 80% set" in told
