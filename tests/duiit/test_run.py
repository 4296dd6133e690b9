"""DUIIT from Python: the functions give what the commands write, for files, arrays and image objects."""
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK
import tifffile
from PIL import Image

import duiit
from duiit.util import logs


@pytest.fixture(scope="module")
def command(duiit):
    """The command line, whose fixture has the name of the module that is tested here."""
    return duiit


@pytest.fixture(scope="module")
def run(trained):
    return duiit.load("demo", trained, device="cpu")


@pytest.fixture(scope="module")
def volume():
    """A noise volume in an odd orientation: stored from left to right, posterior to anterior, head to foot."""
    values = np.random.default_rng(0).integers(0, 900, (20, 24, 5)).astype(np.int16)
    return nibabel.Nifti1Image(values, np.array([[1.5, 0, 0, -9], [0, 2, 0, 4], [0, 0, -3, 7], [0, 0, 0, 1.0]]))


@pytest.fixture(scope="module")
def series():
    """Three pydicom data sets of one MR series, out of order."""
    rng, made = np.random.default_rng(1), []
    for position in (6.0, 0.0, 3.0):
        d = pydicom.Dataset()
        d.file_meta = pydicom.dataset.FileMetaDataset()
        d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        d.SeriesInstanceUID, d.StudyInstanceUID, d.Modality, d.PatientID = "1.2.3", "1.2", "MR", "p"
        d.ImageOrientationPatient, d.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-10, -20, position]
        d.PixelSpacing, d.SliceThickness = [0.5, 0.75], 3
        d.Rows, d.Columns, d.SamplesPerPixel, d.PhotometricInterpretation = 18, 22, 1, "MONOCHROME2"
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 12, 11, 0
        d.PixelData = rng.integers(0, 4000, (18, 22)).astype("<u2").tobytes()
        made.append(d)
    return made


# -- translating -------------------------------------------------------------------------------------------------

def test_a_volume_is_what_the_command_writes(run, volume, trained, command, tmp_path):
    made = run.translate(volume)
    (tmp_path / "in").mkdir()
    nibabel.save(volume, tmp_path / "in" / "brain.nii.gz")
    assert command("translate", "--name", "demo", "--checkpoints_dir", trained, "--input", tmp_path / "in",
                         "--output", tmp_path / "out", "--format", "nifti", "--keep_empty", "--device", "cpu") == 0
    written = SimpleITK.ReadImage(str(tmp_path / "out" / "brain.nii.gz"))
    expected = SimpleITK.GetArrayFromImage(written).transpose(2, 1, 0)      # to (i, j, k)
    assert (made.unit, made.values.dtype, made.values.shape) == ("HU", np.float32, volume.shape)
    assert np.abs(made.values - expected).max() <= 0.5                      # the file holds whole HU
    assert np.allclose(made.affine, volume.affine)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".npy"])
def test_a_file_is_written_where_asked(run, volume, tmp_path, ending):
    made = run.translate(volume, output=tmp_path / f"ct{ending}")
    if ending == ".npy":
        assert np.array_equal(np.load(tmp_path / "ct.npy"), made.values)
    else:
        read = nibabel.load(tmp_path / f"ct{ending}")
        assert np.abs(read.get_fdata() - made.values).max() <= 0.5
        assert np.allclose(read.affine, volume.affine)
    assert [p.name for p in tmp_path.iterdir()] == [f"ct{ending}"]


def test_arrays_keep_their_shape_and_slices_their_values(run):
    image = np.random.default_rng(2).random((40, 30)).astype(np.float32)
    one, several = run.translate(image), run.translate(np.stack([image, image, image]))
    assert (one.values.shape, several.values.shape, one.affine) == ((40, 30), (3, 40, 30), None)
    assert run.translate(image[None]).values.shape == (1, 40, 30)
    assert np.abs(several.values - one.values).max() < 1e-3                 # the same percentiles, the same image
    brighter = run.translate(image * 7 + 100).values                        # grey values have no scale of their own
    assert np.abs(brighter - one.values).max() < 0.1
    low, high = 40 - 60, 40 + 60                                            # the brain window
    assert low <= one.values.min() < one.values.max() <= high


def test_an_image_file_and_its_array_are_the_same(run, tmp_path):
    pixels = np.random.default_rng(3).integers(0, 4000, (32, 28)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    assert np.array_equal(run.translate(tmp_path / "a.tif").values, run.translate(pixels).values)


def test_a_dicom_series_in_the_order_of_its_positions(run, series):
    made = run.translate(series)
    by_hand = np.stack([s.pixel_array for s in sorted(series, key=lambda s: s.ImagePositionPatient[2])])
    assert np.abs(made.values - run.translate(by_hand).values).max() < 1e-3
    # indices (slice, row, column) to mm: row 0, column 0 of the first slice, then one step along each axis, LPS to RAS
    assert np.allclose(made.affine @ [0, 0, 0, 1], [10, 20, 0, 1])
    assert np.allclose(made.affine @ [1, 2, 4, 1], [10 - 4 * 0.75, 20 - 2 * 0.5, 3, 1])
    assert np.allclose(run.translate(series[1]).affine @ [0, 0, 0, 1], [10, 20, 0, 1])


def test_a_folder_of_scans(run, phantom, tmp_path):
    with pytest.raises(duiit.UserError, match="holds 6 scans; translate_folder"):
        run.translate(phantom / "mri")
    folder = run.translate_folder(phantom / "mri", tmp_path / "ct", format="npy")
    assert len(list(folder.rglob("*.npy"))) == 12
    assert list(pd.read_csv(folder / "labels.csv").columns) == ["file", "patient", "label"]


@pytest.mark.parametrize(("image", "output", "reason"), [
    (3, None, "int: give a NumPy array"),
    ([], None, "list: give a NumPy array"),
    ("missing.nii", None, "missing.nii: there is no such file"),
    (np.ones((2, 3, 4, 5)), None, "4 dimensions"),
    (np.ones((16, 16)), "ct.nii", "no affine; save as .npy"),
    (np.ones((16, 16)), "ct.jpg", "ends in .npy, .nii or .nii.gz")])
def test_what_cannot_be_translated(run, image, output, reason):
    with pytest.raises(duiit.UserError, match=reason):
        run.translate(image, output)


def test_options_that_would_be_ignored_are_refused(run, volume, phantom):
    for options, reason in (({"epoch": "best"}, "give it to duiit.load"), ({"format": "png"}, "translate_folder"),
                            ({"keep_empty": True}, "translate_folder"), ({"ct_window": "full"}, "trained with")):
        with pytest.raises(duiit.UserError, match=f"{next(iter(options))}.*{reason}"):
            run.translate(volume, **options)
    with pytest.raises(duiit.UserError, match="device: .*give it to duiit.load"):
        run.predict(phantom / "ct", device="cpu")


def test_the_callers_image_stays_as_it_is(run, volume, tmp_path):
    """Its values are taken as they are where its header has a slope, and it does not point to a file of ours after."""
    stored = nibabel.Nifti1Image(volume.get_fdata() / 7 + 0.3, volume.affine)
    stored.set_data_dtype(np.int16)                                 # which nibabel scales by a slope of its own
    nibabel.save(stored, tmp_path / "scaled.nii")
    image = nibabel.load(tmp_path / "scaled.nii")
    before = image.get_filename()
    assert np.array_equal(run.translate(image).values, run.translate(tmp_path / "scaled.nii").values)
    assert image.get_filename() == before
    before = volume.get_filename()
    run.translate(volume)
    assert volume.get_filename() == before


def test_a_dicom_object_that_is_no_file_is_named(run):
    with pytest.raises(duiit.UserError, match="pydicom data set 1 of 1: cannot be written"):
        run.translate(pydicom.Dataset())


@pytest.mark.slow
def test_two_runs_do_not_get_in_each_others_way(run, trained, tmp_path, monkeypatch, phantom, tiny):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "mine_model.py").write_text(
        "from models.duiit_model import DuiitModel\n\n\nclass MineModel(DuiitModel):\n    pass\n")
    mine = duiit.train(phantom, preset=tiny, plugins=tmp_path / "plugins", model="mine", sources="mri", name="mine",
                       checkpoints_dir=tmp_path)
    monkeypatch.chdir(tmp_path)
    again = duiit.load("demo", trained)
    image = np.random.default_rng(5).random((32, 32))
    assert type(mine._model).__name__ == "MineModel"
    assert mine.translate(image).values.shape == again.translate(image).values.shape == (32, 32)
    assert mine.translate(image).values.shape == (32, 32)


# -- predicting --------------------------------------------------------------------------------------------------

def test_the_table_is_that_of_the_command(run, phantom, trained, command, tmp_path):
    table = run.predict(phantom / "ct", interval=0, output=tmp_path / "mine.json")
    assert command("predict", "--name", "demo", "--checkpoints_dir", trained, "--input", phantom / "ct",
                         "--interval", 0, "--output", tmp_path / "its.csv", "--device", "cpu") == 0
    its = pd.read_csv(tmp_path / "its.csv", dtype={"id": str, "patient": str})
    assert list(table.columns) == list(its.columns)
    assert list(table["prediction"]) == list(its["prediction"])
    assert len(pd.read_json(tmp_path / "mine.json")) == len(its)


def test_an_array_in_hu_is_the_file_that_holds_it(run, phantom):
    path = min((phantom / "ct").rglob("*.nii"))
    image = nibabel.load(path)
    of_file, of_object = run.predict(path).iloc[0], run.predict(image).iloc[0]
    assert (of_file["id"], of_file["prediction"]) == (of_object["id"], of_object["prediction"])
    assert (of_file["file"], of_object["file"]) == (str(path), None)
    # (i, j, k) as a radiologist sees it: rows to posterior, columns to the left, from foot to head
    served = nibabel.as_closest_canonical(image).get_fdata()[::-1, ::-1].transpose(2, 1, 0).astype(np.float32)
    assert run.predict(served).iloc[0]["prediction"] == pytest.approx(of_file["prediction"], abs=2e-3)


def test_a_translator_alone_predicts_nothing(phantom, tmp_path):
    run = duiit.train(phantom, name="cyc", model="cycle_gan", sources=["mri"], input_nc=1, output_nc=1, load_size=32,
                      dataset_mode="cross_modality", crop_size=32, netG="resnet_1blocks", ngf=4, ndf=4, netD="pixel",
                      max_steps=1, no_html=True, display_id=0, device="cpu", checkpoints_dir=tmp_path)
    with pytest.raises(duiit.UserError, match="a run of --model cycle_gan has no predictor"):
        run.predict(phantom / "ct")


# -- training and the rest -----------------------------------------------------------------------------------------

@pytest.mark.slow
def test_training_is_the_commands(phantom, tiny, trained, tmp_path):
    run = duiit.train(phantom, preset=tiny, sources="mri", name="again", checkpoints_dir=tmp_path)
    weights = [Path(folder, name, "latest_net_G_A.pth").read_bytes() for folder, name in ((trained, "demo"),
                                                                                        (tmp_path, "again"))]
    assert weights[0] == weights[1]
    assert (run.options.ngf, run.options.name, repr(run)) == (4, "again", "<duiit run again: duiit>")
    assert run.facts == duiit.load("demo", trained).facts
    assert (run.facts.labels_known, run.facts.target_range) == (16, (-20.0, 100.0, "HU"))


@pytest.mark.slow
def test_lists_flags_and_nothing(phantom, tiny, tmp_path):
    extra = [tmp_path / "one", tmp_path / "two"]
    for folder in extra:
        shutil.copytree(phantom / "truth" / "mri", folder)
    run = duiit.train(phantom, preset=tiny, model="predictor", extra=extra, no_flip=True, keep_empty=False,
                      weights_P=None, name="p", checkpoints_dir=tmp_path)
    assert (run.options.no_flip, run.options.keep_empty, run.options.weights_P) == (True, False, None)
    assert duiit.train(phantom, preset=tiny, sources=["mri", "pet"], name="both",
                       checkpoints_dir=tmp_path).options.sources == "mri,pet"


@pytest.mark.parametrize(("options", "reason"), [
    ({"lamda_pred": 1}, "unknown option --lamda_pred .did you mean --lambda_pred"),
    ({"guidance": "jiont"}, "--guidance: 'jiont' is not one of joint, real, detached .did you mean joint"),
    ({"n_epochs": -1}, "--n_epochs"), ({"n_epochs": True}, "--n_epochs")])
def test_a_mistake_is_a_user_error(phantom, options, reason):
    with pytest.raises(duiit.UserError, match=reason):
        duiit.train(phantom, **options)


def test_load_says_which_runs_there_are(trained):
    with pytest.raises(duiit.UserError, match="the runs there are demo"):
        duiit.load("dmeo", trained)


def test_an_interrupt_ends_a_training_as_one(monkeypatch, phantom, tiny, tmp_path):
    monkeypatch.setattr("duiit_cli.training.loop.train", lambda opt: 130)
    with pytest.raises(KeyboardInterrupt):
        duiit.train(phantom, preset=tiny, checkpoints_dir=tmp_path)


def test_check_and_phantom(tmp_path):
    folder = duiit.phantom(tmp_path / "p", size=16, slices=2, ct_patients=3, mri_patients=2, pet_patients=0)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "ct" / "stranger.png")
    found = duiit.check(folder)
    assert {m["name"]: m["slices"] for m in found["modalities"]} == {"ct": 7, "mri": 4}
    assert any("stranger" in p["where"] or "stranger" in p["reason"] for p in found["problems"])


@pytest.mark.slow
def test_experiment(phantom, tiny, tmp_path):
    words = {"output": tmp_path / "E", "methods": ["pure_ct", "simple_augment"], "splits": 2, "preset": tiny,
             "device": "cpu"}
    done = duiit.experiment(phantom, **words)
    assert set(done.results["method"]) == {"predict_the_mean", "pure_ct", "simple_augment"}
    assert done.report.is_file()
    assert duiit.experiment(output=tmp_path / "E").results.equals(done.results)


# -- a guest in somebody's process -----------------------------------------------------------------------------------

def test_nothing_is_printed_and_no_handler_is_added(run, volume, phantom, capfd):
    before = list(logging.getLogger().handlers)
    logging.getLogger("duiit").setLevel(logging.CRITICAL)
    logging.getLogger("duiit_cli").setLevel(logging.CRITICAL)
    try:
        run.translate(volume)
        run.predict(phantom / "ct")
        assert logging.getLogger().handlers == before
    finally:
        logs.setup_logging()
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_importing_is_quick_and_finds_everything():
    code = ("import duiit, sys; assert not {'torch', 'numpy', 'pandas', 'rich'} & set(sys.modules);"
            "[getattr(duiit, name) for name in duiit.__all__]; assert 'load' in dir(duiit)")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        duiit.trian  # noqa: B018
