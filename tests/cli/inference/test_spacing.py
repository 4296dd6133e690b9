"""A run with --spacing, through every command that reads or writes images."""
import json

import pydicom
import pytest
import SimpleITK as sitk


@pytest.mark.slow
def test_every_command_keeps_the_spacing_of_a_run(tmp_path, duiit, refused, figures, tiny, tmp_path_factory):
    phantom = tmp_path_factory.mktemp("spaced") / "phantom"
    assert duiit("data", "phantom", "--output", phantom, "--size", 48, "--slices", 2, "--ct_patients", 5,
                 "--mri_patients", 0, "--pet_patients", 5) == 0
    run = ["--checkpoints_dir", tmp_path, "--name", "demo"]
    data = ["--dataroot", phantom, "--target", "ct", "--sources", "pet"]
    assert duiit("train", *run, *data, "--preset", tiny, "--output_nc", 1, "--max_steps", 1, "--load_size", 40,
                 "--crop_size", 32, "--spacing", 7) == 0
    assert '"spacing": 7.0' in (tmp_path / "demo" / "train_opt.json").read_text()
    assert duiit("data", "check", phantom, "--spacing", 7, "--load_size", 40, "--sources", "pet") == 0

    for kind in ("dicom", "nifti"):
        assert duiit("translate", *run, "--input", phantom / "pet", "--output", tmp_path / kind, "--format", kind) == 0
    sources = {p.parent: pydicom.dcmread(p) for p in sorted((phantom / "pet").rglob("*.dcm"))}
    made = [pydicom.dcmread(p) for p in sorted((tmp_path / "dicom").rglob("*.dcm"))]
    own = {(tuple(s.PixelSpacing), s.Rows, s.Columns, tuple(s.ImageOrientationPatient)) for s in sources.values()}
    assert {(tuple(s.PixelSpacing), s.Rows, s.Columns, tuple(s.ImageOrientationPatient)) for s in made} == own
    volumes = [sitk.ReadImage(p) for p in sorted((tmp_path / "nifti").rglob("*.nii.gz"))]
    rows, columns, *_ = next(iter(own))[0]
    assert volumes and all(v.GetSpacing()[:2] == pytest.approx((columns, rows), abs=1e-4) for v in volumes)
    assert "--keep_network_size" in refused("translate", *run, "--input", phantom / "pet", "--output", tmp_path / "x",
                                            "--format", "dicom", "--keep_network_size")

    assert duiit("predict", *run, "--input", phantom / "ct", "--output", tmp_path / "rows.csv") == 0
    assert duiit("test", *run, "--results_dir", tmp_path / "results") == 0          # the truth is TIFF, without spacing
    assert duiit("export", *run, "--net", "P", "--format", "torchscript", "--output", tmp_path / "p.pt") == 0
    told = json.loads((tmp_path / "p.json").read_text())["input"]
    assert told["settings"]["spacing"] == 7 and "square pixels of 7 mm" in " ".join(told["prepare"])
    report, *_ = figures(*run, "--real", phantom / "ct", "--fake", tmp_path / "nifti", "--metrics", "label_fidelity")
    assert report["label_fidelity"]["by_image"]["n"] > 0
    assert duiit("translate", *run, "--input", phantom / "pet", "--output", tmp_path / "png") == 0
    sides = ["--real", phantom / "ct", "--fake", tmp_path / "png"]
    for words in (("predict", *run, "--input", tmp_path / "png"),
                  ("evaluate", *run, *sides, "--metrics", "fd_predictor")):
        assert "tells no pixel spacing, which --spacing needs" in refused(*words)
    assert not (tmp_path / "x").exists()
