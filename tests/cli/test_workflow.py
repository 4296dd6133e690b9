"""The main job from the first word to the last, as a user types it, on a phantom of a few patients."""
import csv
import json

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

MRI_IMAGES = 12                                 # 6 patients, 2 slices each; one patient has no age
UNLABELLED = "PHANTOM_HD_0006"


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same_weights(one, other):
    """True if every file of weights, and the training state, of two run folders is the same, byte for byte."""
    one, other = ({p.name: p.read_bytes() for p in folder.glob("*.pth")} for folder in (one, other))
    assert sorted(one) == sorted(other)
    assert len(one) == 6
    return one == other


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory, duiit, phantom, trained):
    """Every MRI translated, in each format: {format: folder}."""
    root = tmp_path_factory.mktemp("synthetic")
    for kind in ("png", "tiff", "npy", "nifti"):
        assert duiit("translate", "--checkpoints_dir", trained, "--name", "demo", "--input", phantom / "mri",
                     "--output", root / kind, "--format", kind) == 0
    return root


@pytest.fixture(scope="module")
def mix(tmp_path_factory, duiit, phantom, tiny, synthetic):
    """A run `mix`: the predictor on real and translated CTs. Returns the words that name it."""
    folder = tmp_path_factory.mktemp("mix")
    assert duiit("train", "--model", "predictor", "--dataroot", phantom, "--preset", tiny, "--extra", synthetic / "png",
                 "--checkpoints_dir", folder, "--name", "mix") == 0
    return ["--checkpoints_dir", folder, "--name", "mix"]


# -- data check --------------------------------------------------------------------------------------------------

def test_data_check_reports_and_exits_by_severity(tmp_path, capsys, duiit, phantom):
    assert duiit("data", "check", phantom, "--json", tmp_path / "found.json") == 0
    seen = capsys.readouterr()
    assert UNLABELLED in seen.out
    assert "0 errors, 1 warning\n" in seen.out
    found = json.loads((tmp_path / "found.json").read_text())
    assert [m["name"] for m in found["modalities"]] == ["ct", "mri", "pet"]
    assert duiit("data", "check", phantom, "--strict") == 2


# -- train -------------------------------------------------------------------------------------------------------

def test_a_run_leaves_what_the_next_commands_need(trained):
    run = trained / "demo"
    networks = {p.stem.removeprefix("latest_net_") for p in run.glob("latest_net_*.pth")}
    assert networks == {"G_A", "G_B", "D_A", "D_B", "P"}
    options = json.loads((run / "train_opt.json").read_text())["options"]
    assert (options["sources"], options["target"], options["netG"]) == ("mri", "ct", "resnet_1blocks")
    assert "netG: resnet_1blocks" in (run / "train_opt.txt").read_text()
    assert {r["split"] for r in table(run / "split.csv")} == {"train", "val", "test"}
    assert not list(run.glob(".duiit-tmp-*"))


@pytest.mark.slow
def test_the_same_command_twice_makes_the_same_weights(tmp_path, duiit, phantom, tiny, trained):
    words = ["--dataroot", phantom, "--preset", tiny, "--sources", "mri", "--checkpoints_dir", tmp_path]
    torch.rand(3)                               # what was drawn before must not matter
    assert duiit("train", *words, "--name", "again") == 0
    assert same_weights(trained / "demo", tmp_path / "again")


@pytest.mark.slow
def test_another_seed_makes_other_weights(tmp_path, duiit, phantom, tiny, trained):
    words = ["--dataroot", phantom, "--preset", tiny, "--sources", "mri", "--checkpoints_dir", tmp_path]
    assert duiit("train", *words, "--name", "other", "--seed", 1) == 0
    assert not same_weights(trained / "demo", tmp_path / "other")


def test_a_trained_run_is_not_overwritten(refused, phantom, tiny, trained):
    before = {p: p.stat().st_mtime_ns for p in (trained / "demo").iterdir()}
    message = refused("train", "--dataroot", phantom, "--preset", tiny, "--name", "demo", "--checkpoints_dir", trained)
    assert "already holds a trained run" in message
    assert {p: p.stat().st_mtime_ns for p in (trained / "demo").iterdir()} == before


# -- test --------------------------------------------------------------------------------------------------------

def test_test_scores_the_held_out_images(tmp_path, capsys, duiit, trained):
    assert duiit("test", "--checkpoints_dir", trained, "--name", "demo", "--results_dir", tmp_path) == 0
    folder = tmp_path / "demo" / "test_latest"
    report = json.loads((folder / "metrics.json").read_text())
    assert report["predictor"]["by_image"]["n"] == 2                    # one patient in five of six, two slices
    assert report["label_fidelity"]["mri"]["by_image"]["n"] == 2
    assert report["paired"]["mri"]["n"]["images"] == 2                            # the phantom knows the truth
    rows = table(folder / "predictions.csv")
    held_out = {(r["modality"], r["patient"]) for r in table(trained / "demo" / "split.csv") if r["split"] == "test"}
    assert {(r["modality"], r["patient"]) for r in rows} == held_out
    assert (folder / "index.html").is_file()
    assert str(folder / "index.html") in capsys.readouterr().err


@pytest.mark.slow
def test_test_of_a_predictor(tmp_path, duiit, mix):
    assert duiit("test", *mix, "--results_dir", tmp_path) == 0
    report = json.loads((tmp_path / "mix" / "test_latest" / "metrics.json").read_text())
    assert report["predictor"]["by_patient"]["n"] == 1


# -- translate ---------------------------------------------------------------------------------------------------

def test_translations_mirror_the_paths_and_keep_the_labels(phantom, synthetic):
    sources = {p.relative_to(phantom / "mri").with_suffix("") for p in (phantom / "mri").rglob("*.tif")
               if "_mask" not in p.name}
    assert len(sources) == MRI_IMAGES
    for kind, ending in (("png", ".png"), ("tiff", ".tif"), ("npy", ".npy")):
        rows = table(synthetic / kind / "labels.csv")
        assert {r["file"] for r in rows} == {f"{s.as_posix()}{ending}" for s in sources}
        assert all((synthetic / kind / r["file"]).is_file() for r in rows)
        assert {r["patient"] for r in rows if not r["label"]} == {UNLABELLED}
        ages = {r["patient"]: float(r["label"]) for r in rows if r["label"]}
        truth = {r["Patient"]: float(r["age_at_initial_pathologic"])
                 for r in table(next((phantom / "mri").rglob("data.csv"))) if r["age_at_initial_pathologic"]}
        assert all(ages[p.split("_2000")[0]] == truth[p] for p in truth if p in ages)


def test_formats_hold_the_same_image_in_their_own_units(synthetic):
    rows = table(synthetic / "png" / "labels.csv")
    stem = synthetic / "png" / rows[0]["file"]
    name = stem.relative_to(synthetic / "png").with_suffix("")
    shown = np.asarray(Image.open(stem)).astype(float)
    hounsfield = tifffile.imread(synthetic / "tiff" / name.with_suffix(".tif"))
    assert hounsfield.dtype == np.float32
    assert np.array_equal(hounsfield, np.load(synthetic / "npy" / name.with_suffix(".npy")))
    assert -20 <= hounsfield.min() < hounsfield.max() <= 100                # the brain window: level 40, width 120
    assert np.abs(shown - (hounsfield + 20) / 120 * 255).max() <= 0.51
    volume = nibabel.load(synthetic / "nifti" / f"{name.parent}.nii.gz")
    slices = np.asarray(volume.dataobj)
    assert (slices.dtype, slices.shape) == (np.int16, (32, 32, 2))
    assert np.abs(slices[..., 0].T - hounsfield).max() <= 0.51


def test_translate_says_what_it_did_and_leaves_other_files_alone(tmp_path, capsys, duiit, refused, phantom, trained):
    words = ["translate", "--checkpoints_dir", trained, "--name", "demo", "--input", phantom / "mri", "--output"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    message = refused(*words, tmp_path / "full")
    assert "full already exists and is not empty" in message
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["full"]
    assert duiit(*words, tmp_path / "full", "--force") == 0
    assert f"{MRI_IMAGES} files of 6 scans written to {tmp_path / 'full'}, 2 without a label" in capsys.readouterr().err


def test_one_file_can_be_translated(tmp_path, duiit, phantom, trained):
    image = next(p for p in sorted((phantom / "mri").rglob("*.tif")) if "_mask" not in p.name)
    assert duiit("translate", "--checkpoints_dir", trained, "--name", "demo", "--input", image,
                 "--output", tmp_path / "one") == 0
    assert [r["file"] for r in table(tmp_path / "one" / "labels.csv")] == [f"{image.stem}.png"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tiff", "npy", "nifti"])
def test_every_format_is_a_training_folder(tmp_path, capsys, duiit, phantom, tiny, synthetic, kind):
    assert duiit("train", "--model", "predictor", "--dataroot", phantom, "--preset", tiny, "--max_steps", 1,
                 "--extra", synthetic / kind, "--checkpoints_dir", tmp_path, "--name", kind) == 0
    assert f"{synthetic / kind}: 12 images of 6 patients to train on, 2 without a label" in capsys.readouterr().err


# -- predict -----------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_predict_to_the_screen_a_table_and_json(tmp_path, capsys, duiit, phantom, mix):
    words = ["predict", *mix, "--input", phantom / "ct"]
    capsys.readouterr()
    assert duiit(*words) == 0
    shown = capsys.readouterr().out
    assert duiit(*words, "--output", tmp_path / "ages.csv") == 0
    assert (tmp_path / "ages.csv").read_text() == shown
    rows = table(tmp_path / "ages.csv")
    assert len(rows) == 6
    assert all(float(r["prediction"]) > 0 and float(r["spread"]) >= 0 and r["slices"] == "2" for r in rows)
    assert duiit(*words, "--output", tmp_path / "ages.json") == 0
    loaded = json.loads((tmp_path / "ages.json").read_text())
    assert [str(r["prediction"]) for r in loaded] == [r["prediction"] for r in rows]


def test_predict_slice_by_slice_adds_up(tmp_path, duiit, phantom, mix):
    for name, words in (("scans", []), ("slices", ["--per_slice"])):
        assert duiit("predict", *mix, "--input", phantom / "ct", "--output", tmp_path / f"{name}.csv", *words) == 0
    scans, slices = table(tmp_path / "scans.csv"), table(tmp_path / "slices.csv")
    assert [r["slice"] for r in slices] == ["1", "2"] * 6
    for scan in scans:
        answers = [float(r["prediction"]) for r in slices if r["id"] == scan["id"]]
        assert float(scan["prediction"]) == pytest.approx(np.mean(answers), abs=0.002)
        assert float(scan["spread"]) == pytest.approx(np.std(answers), abs=0.002)


def test_predict_one_volume_and_one_image_alike(tmp_path, capsys, duiit, phantom, synthetic, mix):
    volume = sorted((phantom / "ct").rglob("*.nii*"))[0]
    image = sorted((synthetic / "png").rglob("*.png"))[0]
    for path in (volume, image):
        capsys.readouterr()
        assert duiit("predict", *mix, "--input", path) == 0
        rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
        assert [r["file"] for r in rows] == [str(path)]


def test_predict_with_a_joint_run(capsys, duiit, phantom, trained):
    assert duiit("predict", "--checkpoints_dir", trained, "--name", "demo", "--input", phantom / "ct") == 0
    assert len(capsys.readouterr().out.splitlines()) == 7


def test_scans_without_signal(tmp_path, capsys, duiit, refused, phantom, mix):
    """A scan of nothing gets an empty answer and a warning among others, and is refused alone."""
    volume = nibabel.load(sorted((phantom / "ct").rglob("*.nii*"))[0])
    blank = nibabel.Nifti1Image(np.full(volume.shape, -1024, np.int16), volume.affine)
    nibabel.save(blank, tmp_path / "a.nii")
    assert "every slice is constant or almost empty" in refused("predict", *mix, "--input", tmp_path, "--per_slice")
    nibabel.save(volume, tmp_path / "b.nii")
    assert duiit("predict", *mix, "--input", tmp_path) == 0
    seen = capsys.readouterr()
    rows = list(csv.DictReader(seen.out.splitlines()))
    assert (rows[0]["id"], rows[0]["prediction"], rows[0]["slices"]) == ("a", "", "0")
    assert float(rows[1]["prediction"]) > 0
    assert "warning: a: every slice" in seen.err


# -- classes and several sources ---------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """A generic data folder: PNGs of two kinds of patients, `labels.csv` with names of classes."""
    root, rng = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    for modality in ("t1", "ct"):
        lines = ["patient,label"]
        for n in range(6):
            (root / modality / f"p{modality}{n}").mkdir(parents=True)
            for z in range(2):
                image = rng.integers(40, 90 + 80 * (n % 2), (32, 32), dtype=np.uint8)
                Image.fromarray(image).save(root / modality / f"p{modality}{n}" / f"{z}.png")
            lines.append(f"p{modality}{n},{'ill' if n % 2 else 'well'}")
        (root / modality / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.slow
def test_classification_from_training_to_prediction(tmp_path, duiit, tiny, classes):
    run = ["--checkpoints_dir", tmp_path, "--name", "kinds"]
    assert duiit("train", "--dataroot", classes, "--preset", tiny, "--task", "classification", *run) == 0
    assert duiit("test", *run, "--results_dir", tmp_path / "results") == 0
    errors = json.loads((tmp_path / "results" / "kinds" / "test_latest" / "metrics.json").read_text())["predictor"]
    assert errors["by_patient"]["n"] == 1 and errors["by_image"]["n"] == 2
    assert set(errors["by_image"]) == {"n", "accuracy", "balanced_accuracy", "auroc"}
    for row in table(tmp_path / "results" / "kinds" / "test_latest" / "predictions.csv"):
        assert row["prediction"] == ("ill" if float(row["p_ill"]) > float(row["p_well"]) else "well")
    assert duiit("translate", *run, "--input", classes / "t1", "--output", tmp_path / "syn") == 0
    assert {r["label"] for r in table(tmp_path / "syn" / "labels.csv")} == {"ill", "well"}
    assert duiit("predict", *run, "--input", classes / "ct", "--output", tmp_path / "kinds.csv") == 0
    for row in table(tmp_path / "kinds.csv"):
        assert row["prediction"] in ("ill", "well")
        assert float(row["p_ill"]) + float(row["p_well"]) == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_several_sources(tmp_path, duiit, refused, phantom, tiny):
    run = ["--checkpoints_dir", tmp_path / "runs", "--name", "both"]
    assert duiit("train", "--dataroot", phantom, "--preset", tiny, *run) == 0
    names = {p.stem.removeprefix("latest_net_") for p in (tmp_path / "runs" / "both").glob("latest_net_*")}
    assert names == {"G_A_mri", "G_A_pet", "G_B_mri", "G_B_pet", "D_B_mri", "D_B_pet", "D_A", "P"}
    words = ["translate", *run, "--output", tmp_path / "syn", "--input"]
    image = sorted((phantom / "pet").rglob("*.dcm"))[0]
    assert "--source is missing: the run translates mri, pet" in refused(*words, image)
    assert "--source ct: the run translates mri, pet" in refused(*words, image, "--source", "ct")
    assert not (tmp_path / "syn").exists()
    assert duiit(*words, phantom / "pet") == 0, "the folder's own name says which source it is"
    assert duiit("test", *run, "--results_dir", tmp_path / "results") == 0
