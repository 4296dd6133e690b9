"""`duiit data check`: what it reports of sound data, and each problem provoked once."""
import shutil

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from data.check import as_json, check_folder
from options import CheckOptions
from util.errors import UserError


@pytest.fixture
def root(tmp_path, cohort_on_disk):
    cohort_on_disk(tmp_path / "d" / "ct", [f"c{i}" for i in range(10)], range(30, 40), seed=1)
    cohort_on_disk(tmp_path / "d" / "mri", [f"m{i}" for i in range(5)], [50, 60, 70, 80, 90], seed=2)
    return tmp_path / "d"


def check(root, words=""):
    return check_folder(CheckOptions().parse(["--dataroot", str(root), *words.split()]))


def problems(root, words=""):
    """{reason: level} of all but the standing remark on 8-bit CT."""
    return {f"{p.where}: {p.reason}": p.level for p in check(root, words)[1] if "Hounsfield" not in p.reason}


def one_problem(root, words=""):
    found = problems(root, words)
    assert len(found) == 1, found
    return next(iter(found.items()))


def paint(path, pixels):
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def test_sound_data(root):
    ct, mri = check(root)[0]
    assert (ct.name, ct.patients, ct.scans, ct.slices, ct.empty_slices) == ("ct", 10, 10, 20, 0)
    assert ct.sizes == {"20x20": 20} and ct.units == {"display": 10} and ct.spacings == {}
    assert ct.labels["count"] == 20 and ct.labels["missing"] == 0 and ct.labels["mean"] == 34.5
    assert (ct.labels["min"], ct.labels["max"]) == (30, 39) and sum(ct.labels["histogram"]["counts"]) == 20
    assert ct.split == {"train": 7, "val": 1, "test": 2} and mri.split == {"train": 4, "val": 0, "test": 1}
    assert 0 <= ct.intensity_range[0] < 10 and 245 < ct.intensity_range[1] <= 255
    assert problems(root) == {}


def test_the_report_is_plain_data(root):
    import json
    report = json.loads(json.dumps(as_json(*check(root))))
    assert [m["name"] for m in report["modalities"]] == ["ct", "mri"]


def test_the_announced_split_is_the_one_that_training_draws(root, options):
    from data.cross_modality_dataset import CrossModalityDataset
    announced = {m.name: m.split for m in check(root)[0]}
    dataset = CrossModalityDataset(options("--model duiit", dataroot=str(root)))
    drawn = {part: len({r.patient for r in dataset.target_part(part)}) for part in ("train", "val", "test")}
    assert announced["ct"] == drawn
    assert announced["mri"]["train"] == len({r.patient for r in dataset.members["mri"].rows})


def test_an_unreadable_image(root):
    (root / "ct" / "c3" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    where, level = one_problem(root)
    assert "c3/2.png" in where and level == "error"


def test_empty_slices(root):
    paint(root / "mri" / "m0" / "1.png", np.zeros((20, 20)))
    where, level = one_problem(root)
    assert "1 of 10 slices are constant" in where and level == "warning"


def test_mixed_sizes(root):
    paint(root / "ct" / "c0" / "1.png", np.random.default_rng(0).integers(0, 255, (30, 20)))
    assert "ct: mixed image sizes: 20x20, 30x20" in one_problem(root)[0]


def test_patients_without_a_label(root):
    text = (root / "ct" / "labels.csv").read_text().replace("c3,33\n", "")
    (root / "ct" / "labels.csv").write_text(text)
    assert one_problem(root) == (f"{root}/ct: no label for 1 patients: c3", "warning")


def test_labels_without_a_patient(root):
    with (root / "ct" / "labels.csv").open("a") as file:
        file.write("c99,50\n")
    assert "labels.csv: 1 entries have no image: c99" in one_problem(root)[0]


def test_no_labels_in_one_modality_or_in_any(root):
    (root / "mri" / "labels.csv").unlink()
    assert one_problem(root) == (f"{root}/mri: no labels at all", "warning")
    (root / "ct" / "labels.csv").unlink()
    assert problems(root)[f"{root}: no image has a label"] == "error"


def test_a_label_that_is_no_number(root):
    (root / "ct" / "labels.csv").write_text("patient,label\nc0,old\n")
    where, level = one_problem(root)
    assert "labels.csv" in where and "old" in where and level == "error"


def test_impossible_ages(root):
    (root / "ct" / "labels.csv").write_text("patient,age\n" + "".join(f"c{i},{150 if i else 30}\n" for i in range(10)))
    assert one_problem(root) == (f"{root}/ct/labels.csv: ages from 30 to 150 years cannot be", "error")


def test_one_patient_under_two_names(root):
    shutil.copy(root / "ct" / "c1" / "1.png", root / "ct" / "c2" / "1.png")
    assert one_problem(root) == (f"{root}/ct: the same images under the patients c1, c2", "error")


def test_a_ct_among_the_mris(root):
    volume = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 2)).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), root / "mri" / "m9.nii.gz")
    with (root / "mri" / "labels.csv").open("a") as file:
        file.write("m9,50\n")
    (found,) = [p for p in check(root)[1] if p.where.endswith("mri")]
    assert "look like Hounsfield units" in found.reason and found.level == "warning"


def test_ct_without_hounsfield_units(root):
    (found,) = check(root)[1]
    assert found.where.endswith("ct") and "no image is in Hounsfield units (display)" in found.reason


def test_roles(root):
    assert problems(root, "--target pet")[f"{root}: no folder of the target modality pet"] == "error"
    assert problems(root, "--sources ct") == {f"{root}: only ct is here": "warning"}
    for n in range(8):
        shutil.rmtree(root / "ct" / f"c{n}")
    (root / "ct" / "labels.csv").write_text("patient,label\nc8,1\nc9,2\n")
    assert problems(root) == {f"{root}/ct: only 2 patients": "warning"}


def test_an_empty_modality(root):
    (root / "pet").mkdir()
    where, level = one_problem(root)
    assert f"{root}/pet" in where and level == "error"


def test_nothing_to_check(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        check(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no folder"):
        check(tmp_path / "empty")


def test_the_toolkits_layout(tmp_path, cohort_on_disk):
    for seed, (folder, names) in enumerate((("trainA", "uv"), ("trainB", "wx"), ("testA", "y"), ("testB", "w"))):
        cohort_on_disk(tmp_path / folder, names, seed=seed)
    (tmp_path / "labels.csv").write_text("patient,label\nu,1\nv,2\nw,3\nx,4\ny,5\n")
    b, a = check(tmp_path)[0]
    assert (b.name, b.patients, b.slices, b.split) == ("B", 2, 6, {"train": 2, "val": 0, "test": 1})
    assert (a.name, a.split) == ("A", {"train": 2, "val": 0, "test": 1})
    found = problems(tmp_path)
    assert any("1 patients of B are in more than one of train, val and test: w" in reason for reason in found)
    assert not any("entries have no image" in reason for reason in found)          # one table serves both sides
    assert not any("error" in level for level in found.values())
