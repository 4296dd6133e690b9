"""`duiit evaluate --paired`: which image is compared with which, in which unit, over which part of it."""
import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image import PeakSignalNoiseRatio

from duiit.data.preparing.intensity import ct_window
from duiit.data.readers.slice import HU, Slice
from duiit_cli.evaluation.scan_errors import compared


@pytest.fixture(scope="module")
def translated(tmp_path_factory, duiit, phantom, trained):
    """Every MRI of the phantom translated, in each format: {format: folder}."""
    root = tmp_path_factory.mktemp("translated")
    for kind in ("png", "png16", "tiff", "nifti", "dicom"):
        assert duiit("translate", "--checkpoints_dir", trained, "--name", "demo", "--input", phantom / "mri",
                     "--output", root / kind, "--format", kind) == 0
    return root


# -- pairs ---------------------------------------------------------------------------------------------------------

def test_errors_by_hand_and_over_patients(figures, tmp_path, write_npy, head):
    real = write_npy(tmp_path / "real", {"p1": [head(40), head(40)], "p2": [head(40, 13)]})
    fake = write_npy(tmp_path / "fake", {"p1": [head(50), head(70)], "p2": [head(140, 13)]})
    report, _, _ = figures("--real", real, "--fake", fake, "--paired", "--metrics", "mae,psnr")
    paired = report["paired"]
    assert paired["n"] == {"patients": 2, "scans": 2, "images": 3, "voxels": 64 + 64 + 81, "unmatched_fake": 0,
                           "unmatched_real": 0, "without_body": 0}
    assert paired["mae_hu"]["mean"] == pytest.approx(((10 + 30) / 2 + 100) / 2)
    assert paired["mae_hu"]["sd"] == pytest.approx(np.std([20, 100], ddof=1))
    psnr = [10 * np.log10(4024**2 / mse) for mse in ((100 + 900) / 2, 10000)]
    assert paired["psnr"]["mean"] == pytest.approx(np.mean(psnr))
    assert paired["mae_hu_in_window"]["mean"] == pytest.approx((20 + 60) / 2)       # the window ends at 100 HU
    assert not [key for key in paired if key.startswith("ssim")]
    assert paired["mask"] == "body found in the real CT"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["png16", "nifti", "dicom", "png"])
def test_every_format_is_compared_with_the_same_result(figures, phantom, translated, kind):
    words = ["--real", phantom / "truth" / "mri", "--paired", "--metrics", "mae,psnr,ssim", "--fake"]
    expected, found = (figures(*words, translated / one)[0]["paired"] for one in ("tiff", kind))
    assert found["n"] == expected["n"]
    names = {key for key in expected if key.startswith(("mae", "psnr", "ssim"))}
    if kind == "png":                               # 8 bits of the window know nothing beyond it
        names = {key for key in names if key.endswith("_in_window")}
    assert {key for key in found if key.startswith(("mae", "psnr", "ssim"))} == names
    for name in names:
        assert found[name]["mean"] == pytest.approx(expected[name]["mean"], rel=5e-3)


def test_volumes_of_seven_slices_have_the_ssim_of_the_challenge(figures, tmp_path, head):
    rng = np.random.default_rng(0)
    true = np.stack([head(40, 16)] * 8)
    for side, volume in (("real", true), ("fake", true + rng.normal(0, 60, true.shape))):
        (tmp_path / side).mkdir()
        nibabel.save(nibabel.Nifti1Image(volume.transpose(2, 1, 0).astype(np.float32), np.diag([-1.0, -1, 1, 1])),
                     tmp_path / side / "p1.nii.gz")
    report, _, _ = figures("--real", tmp_path / "real", "--fake", tmp_path / "fake", "--paired", "--metrics", "ssim")
    assert report["paired"]["n"]["images"] == 8
    assert report["paired"]["ssim_3d"]["mean"] != pytest.approx(report["paired"]["ssim"]["mean"])
    assert "ssim_3d_in_window" not in report["paired"]


def test_slices_of_a_volume_go_with_files_of_their_numbers(figures, tmp_path, head):
    (tmp_path / "real").mkdir()
    volume = np.stack([head(value) for value in (10, 20, 30)])
    nibabel.save(nibabel.Nifti1Image(volume.transpose(2, 1, 0).astype(np.float32), np.diag([-1.0, -1, 1, 1])),
                 tmp_path / "real" / "049.nii")
    (tmp_path / "fake" / "049").mkdir(parents=True)
    for number in (1, 3):                           # as translate writes them, without the second one
        tifffile.imwrite(tmp_path / "fake" / "049" / f"{number:03d}.tif", head(10.0 * number + 5).astype(np.float32))
    report, _, err = figures("--real", tmp_path / "real", "--fake", tmp_path / "fake", "--paired", "--metrics", "mae")
    assert report["paired"]["mae_hu"]["mean"] == pytest.approx(5)
    assert (report["paired"]["n"]["images"], report["paired"]["n"]["unmatched_real"]) == (2, 1)
    assert "without a translated one: 1 image of --real" in err


def test_unmatched_images_are_counted_and_named(figures, tmp_path, write_npy, head):
    real = write_npy(tmp_path / "real", {"p1": [head()], "p3": [head()]})
    fake = write_npy(tmp_path / "fake", {"p1": [head(50)], "p2": [head(), head()]})
    report, _, err = figures("--real", real, "--fake", fake, "--paired", "--metrics", "mae")
    assert (report["paired"]["n"]["unmatched_fake"], report["paired"]["n"]["unmatched_real"]) == (2, 1)
    assert "without a real one under their path, and left out of the comparison: 2 images of --fake, the first is " \
           f"{fake / 'p2' / '1.npy'}" in err


def test_nothing_matched(refused, phantom, translated):
    words = ["--real", phantom / "ct", "--fake", translated / "tiff"]
    message = refused("evaluate", *words, "--paired", "--metrics", "mae")
    assert "no image under --fake" in message
    assert "049.nii" in message


def test_unlike_sizes(refused, tmp_path, write_npy, head):
    real = write_npy(tmp_path / "real", {"p1": [head(size=12)]})
    fake = write_npy(tmp_path / "fake", {"p1": [head(size=14)]})
    message = refused("evaluate", "--real", real, "--fake", fake, "--paired", "--metrics", "mae")
    assert f"{fake / 'p1' / '1.npy'}: has 14x14 pixels, and the real image {real / 'p1' / '1.npy'} has 12x12" in message
    assert "--keep_network_size" in message


def test_volumes_of_unlike_length(refused, tmp_path, head):
    for side, count in (("real", 3), ("fake", 2)):
        (tmp_path / side).mkdir()
        volume = np.stack([head()] * count).transpose(2, 1, 0).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([-1.0, -1, 1, 1])), tmp_path / side / "p1.nii")
    words = ["evaluate", "--real", tmp_path / "real", "--fake", tmp_path / "fake", "--paired", "--metrics", "mae"]
    assert "p1.nii: has 2 slices, and the scan p1 of the other folder 3; give the --slices" in refused(*words)


def test_slices_chosen_from_a_volume_go_with_those_translated(figures, tmp_path, head):
    for side, values in (("real", (0, 10, 20, 30)), ("fake", (12, 22))):
        (tmp_path / side).mkdir()
        volume = np.stack([head(value) for value in values]).transpose(2, 1, 0).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([-1.0, -1, 1, 1])), tmp_path / side / "p1.nii")
    report, _, _ = figures("--real", tmp_path / "real", "--fake", tmp_path / "fake", "--paired", "--metrics", "mae",
                           "--slices", "0.25-0.75")
    assert report["paired"]["mae_hu"]["mean"] == pytest.approx(2)


# -- one name, one meaning -----------------------------------------------------------------------------------------

@pytest.mark.slow
def test_test_and_evaluate_say_the_same_of_the_same_translations(figures, duiit, trained, phantom, tmp_path, capsys):
    run = ["--checkpoints_dir", trained, "--name", "demo"]
    assert duiit("test", *run, "--results_dir", tmp_path / "results") == 0
    said = capsys.readouterr().err
    folder = tmp_path / "results" / "demo" / "test_latest"
    tested = json.loads((folder / "metrics.json").read_text())["paired"]["mri"]
    with (folder / "predictions.csv").open(newline="") as file:
        files = {row["file"] for row in csv.DictReader(file) if row["modality"] == "mri"}
    for side, root in (("input", phantom / "mri"), ("real", phantom / "truth" / "mri")):
        for name in files:
            (tmp_path / side / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, tmp_path / side / name)
    assert duiit("translate", *run, "--input", tmp_path / "input", "--output", tmp_path / "fake", "--format",
                 "tiff") == 0
    report, table, _ = figures(*run, "--real", tmp_path / "real", "--fake", tmp_path / "fake", "--paired", "--metrics",
                               "mae,psnr,ssim")
    evaluated = report["paired"]
    assert set(tested) == set(evaluated) >= {"mae_hu", "psnr", "ssim", "mae_hu_in_window", "ssim_in_window"}
    for name in set(tested) - {"n", "mask", "window"}:
        assert tested[name]["mean"] == pytest.approx(evaluated[name]["mean"], rel=1e-4), name
    terms = "body found in the real CT; _in_window: cut to -20 to 100 HU"
    assert terms in table and terms in said and terms in (folder / "index.html").read_text()


def test_errors_of_a_ct_are_those_of_other_libraries():
    rng = np.random.default_rng(3)
    true = np.full((32, 32), -1000.0)
    true[4:-4, 4:-4] = rng.normal(40, 300, (24, 24)).clip(-400, 3500)
    fake = true + rng.normal(0, 50, true.shape)
    fake[:4] += 500                                         # outside the body: counts nowhere but in the SSIM's windows
    found = compared(*([Slice(i.astype(np.float32), "p", "s", Path("f"), 0, HU)] for i in (fake, true)), None,
                     ct_window("brain"))
    body = np.zeros(true.shape, bool)
    body[4:-4, 4:-4] = True
    errors = found.errors
    assert (found.mask, found.window) == ("body found in the real CT", "-20 to 100 HU")
    assert errors["mae_hu"] == pytest.approx(np.abs(fake - true)[body].mean(), rel=1e-5)
    for ending, (low, high) in (("", (-1024, 3000)), ("_in_window", (-20, 100))):
        a, b = (torch.from_numpy(np.where(body, i.clip(low, high), low) - low) for i in (fake, true))
        peak = PeakSignalNoiseRatio(data_range=float(high - low))
        assert errors[f"psnr{ending}"] == pytest.approx(float(peak(a[body], b[body])), rel=1e-5)
        _, whole = structural_similarity_index_measure(a[None, None], b[None, None], gaussian_kernel=False,
                                                       kernel_size=7, data_range=float(high - low),
                                                       return_full_image=True)
        inside = np.pad(np.ones((26, 26), bool), 3) & body
        # torchmetrics takes the variance of all 49 pixels, SynthRAD's scikit-image that of a sample.
        assert errors[f"ssim{ending}"] == pytest.approx(float(whole[0, 0][torch.from_numpy(inside)].mean()), abs=0.01)
    assert errors["mae_hu_in_window"] == pytest.approx(np.abs(fake.clip(-20, 100) - true.clip(-20, 100))[body].mean(),
                                                       rel=1e-5)


# -- masks ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def masked(tmp_path, write_npy, head):
    """Words for one pair that differs by 10 HU above and 30 HU below, whose mask is the lower half."""
    fake = head(50)
    fake[6:, 2:-2] = 70
    words = ["--real", write_npy(tmp_path / "real", {"p1": [head(40)]}), "--fake",
             write_npy(tmp_path / "fake", {"p1": [fake]}), "--paired", "--metrics", "mae", "--mask", tmp_path / "masks"]
    mask = np.zeros((12, 12), np.uint8)
    mask[6:10, 2:-2] = 1
    (tmp_path / "masks" / "p1").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "masks" / "p1" / "1.png")
    return words


def test_a_folder_of_masks(figures, masked):
    report, _, _ = figures(*masked)
    assert (report["paired"]["mae_hu"]["mean"], report["paired"]["mask"]) == (30, "--mask")


def test_masks_that_do_not_fit(refused, masked, tmp_path):
    file = tmp_path / "masks" / "p1" / "1.png"
    Image.fromarray(np.ones((9, 9), np.uint8)).save(file)
    assert "1.png: has 9x9 pixels, and its image" in refused("evaluate", *masked)
    file.rename(file.with_name("2.png"))
    assert "--mask" in (message := refused("evaluate", *masked))
    assert f"holds no mask for {tmp_path / 'real' / 'p1' / '1.npy'}" in message
    Image.fromarray(np.zeros((12, 12), np.uint8)).save(file)
    assert "no image has a voxel in its body mask" in refused("evaluate", *masked)


# -- targets without HU --------------------------------------------------------------------------------------------

def test_grey_levels_are_never_called_hu(figures, tmp_path):
    for side, value in (("real", 100), ("fake", 110)):
        (tmp_path / side / "p1").mkdir(parents=True)
        for n in range(2):
            image = np.zeros((12, 12), np.uint8)
            image[3:9, 3:9] = value
            Image.fromarray(image).save(tmp_path / side / "p1" / f"{n}.png")
    words = ["--real", tmp_path / "real", "--fake", tmp_path / "fake"]
    report, _, _ = figures(*words, "--paired", "--metrics", "mae,psnr")
    paired = report["paired"]
    assert {key for key in paired if key not in ("n", "mask", "window")} == {"mae_display", "psnr"}
    assert paired["mae_display"]["mean"] == pytest.approx(10 * 36 / 144)
    assert paired["mask"] == "whole image"


def test_a_target_in_values_of_its_own(figures, tmp_path, write_npy, head):
    real = write_npy(tmp_path / "real", {"p1": [head(3.0)]})
    fake = write_npy(tmp_path / "fake", {"p1": [head(5.0)]})
    report, table, _ = figures("--real", real, "--fake", fake, "--paired", "--metrics", "mae", "--target", "mri")
    assert report["paired"]["mae_grey"]["mean"] == pytest.approx(2 * 64 / 144)
    assert report["paired"]["mae_grey_in_window"]["mean"] == pytest.approx(0, abs=1e-3)     # each on its own scale
    assert "whole image; _in_window: cut to 0.5th to 99.5th percentile of each scan" in table


def test_values_that_cannot_be_compared(refused, tmp_path, write_npy, head):
    real = write_npy(tmp_path / "real", {"p1": [head(3.0)]})
    (tmp_path / "fake" / "p1").mkdir(parents=True)
    Image.fromarray(np.arange(144, dtype=np.uint16).reshape(12, 12)).save(tmp_path / "fake" / "p1" / "1.png")
    message = refused("evaluate", "--real", real, "--fake", tmp_path / "fake", "--paired", "--metrics", "mae")
    assert "1.png: holds grey values, and" in message
