"""`duiit data check`: what it reports of sound data, and each problem provoked once."""
import json
import os
import shutil

import nibabel as nib
import numpy as np
import pytest

from duiit.data.checking import scan_survey
from duiit.data.checking.check import as_fingerprint, as_json
from duiit.options import CheckOptions
from duiit.util.errors import UserError


def test_sound_data(root, check, problems):
    ct, mri = check(root)[0]
    assert (ct.name, ct.patients, ct.scans, ct.slices, ct.empty_slices) == ("ct", 10, 10, 20, 0)
    assert ct.sizes == {"20x20": 20} and ct.units == {"display": 10} and ct.spacings == {}
    assert ct.labels["count"] == 20 and ct.labels["missing"] == 0 and ct.labels["mean"] == 34.5
    assert (ct.labels["min"], ct.labels["max"]) == (30, 39) and sum(ct.labels["histogram"]["counts"]) == 20
    assert ct.split == {"train": 7, "val": 1, "test": 2} and mri.split == {"train": 4, "val": 0, "test": 1}
    assert 0 <= ct.intensity_range[0] < 10 and 245 < ct.intensity_range[1] <= 255
    assert problems(root) == {}


def test_the_report_is_plain_data(root, check):
    report = json.loads(json.dumps(as_json(*check(root))))
    assert [m["name"] for m in report["modalities"]] == ["ct", "mri"]
    assert (report["errors"], report["warnings"]) == (0, 1)
    assert set(report["problems"][0]) == {"level", "where", "reason", "remedy"}


def test_the_fingerprint_names_no_patient(root, check):
    modalities, _ = check(root)
    told = as_fingerprint(modalities, CheckOptions().parse(["--dataroot", str(root)]))
    assert told["modalities"]["ct"]["fingerprint"]["scans"] == told["modalities"]["ct"]["patients"] == 10
    assert not any(f'"c{n}"' in json.dumps(told) for n in range(10))


def _die(scan, loader, opt):
    os._exit(9)


def test_a_reader_process_that_is_killed(root, monkeypatch, check):
    monkeypatch.setattr(scan_survey, "SMALL", 0)
    monkeypatch.setattr(scan_survey.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(scan_survey, "survey_scan", _die)
    with pytest.raises(UserError, match="was ended by the system.*--num_threads 1"):
        check(root, "--num_threads 2")


def test_reader_processes_find_what_one_process_finds(root, monkeypatch, check):
    alone = check(root, "--num_threads 1")
    (root / "ct" / "c3" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    broken = check(root, "--num_threads 1")
    monkeypatch.setattr(scan_survey, "SMALL", 0)
    monkeypatch.setattr(scan_survey.os, "cpu_count", lambda: 2)
    assert check(root, "--num_threads 2") == broken != alone


def test_the_announced_split_is_the_one_that_training_draws(root, options, check, paint):
    from duiit.data.cross_modality_dataset import CrossModalityDataset
    for n in (1, 2):
        paint(root / "ct" / "c4" / f"{n}.png", np.zeros((20, 20)))       # c4 shows nothing and is in no part
    announced = {m.name: m.patients_by_part for m in check(root)[0]}
    dataset = CrossModalityDataset(options("--model duiit", dataroot=str(root)))
    for part in ("train", "val", "test"):
        assert set(announced["ct"][part]) == {r.patient for r in dataset.target_part(part)}
    assert set(announced["mri"]["train"]) == {r.patient for r in dataset.members["mri"].rows}


def test_the_announced_split_by_image(root, options, check):
    from duiit.data.cross_modality_dataset import CrossModalityDataset
    announced = {m.name: m.split for m in check(root, "--split_by image")[0]}
    dataset = CrossModalityDataset(options("--model duiit --split_by image", dataroot=str(root)))
    assert announced["ct"] == {part: len(dataset.target_part(part)) for part in ("train", "val", "test")}


def test_an_unreadable_image(root, one_problem):
    (root / "ct" / "c3" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    where, level = one_problem(root)
    assert "c3/2.png" in where and level == "error"


def test_empty_slices(root, one_problem, paint):
    paint(root / "mri" / "m0" / "1.png", np.zeros((20, 20)))
    where, level = one_problem(root)
    assert "1 of 10 slices are constant" in where and level == "warning"


def test_mixed_sizes(root, one_problem, paint):
    paint(root / "ct" / "c0" / "1.png", np.random.default_rng(0).integers(0, 255, (30, 20)))
    assert "ct: mixed image sizes: 20x20, 30x20" in one_problem(root)[0]


def test_patients_without_a_label(root, one_problem):
    text = (root / "ct" / "labels.csv").read_text().replace("c3,33\n", "")
    (root / "ct" / "labels.csv").write_text(text)
    assert one_problem(root) == (f"{root}/ct: no label for 1 patient: c3", "warning")


def test_labels_without_a_patient(root, one_problem):
    with (root / "ct" / "labels.csv").open("a") as file:
        file.write("c99,50\n")
    assert "labels.csv: 1 entries have no image: c99" in one_problem(root)[0]


def test_no_labels_in_one_modality_or_in_any(root, problems, one_problem):
    (root / "mri" / "labels.csv").unlink()
    assert one_problem(root) == (f"{root}/mri: no labels at all", "warning")
    (root / "ct" / "labels.csv").unlink()
    assert problems(root)[f"{root}: no image has a label"] == "error"


def test_a_label_that_is_no_number(root, one_problem):
    (root / "ct" / "labels.csv").write_text("patient,label\nc0,old\n")
    where, level = one_problem(root)
    assert "labels.csv" in where and "old" in where and level == "error"


def label(root, modality, column, values):
    lines = [f"{modality[0]}{i},{value}" for i, value in enumerate(values)]
    (root / modality / "labels.csv").write_text("\n".join([f"patient,{column}", *lines]) + "\n")


def test_impossible_ages(root, one_problem):
    label(root, "ct", "age", [30, 150, 31, 32, -3, 33, 34, 35, 36, 37])
    assert one_problem(root, far=False) == (f"{root}/ct/labels.csv: ages that cannot be: c1 (150), c4 (-3)", "error")


def test_a_missing_code_among_labels(root, one_problem):
    label(root, "ct", "label", [1.2, 1.5, 1.1, 1.3, 1.0, 1.4, 999, 1.6, 1.1, 1.2])
    assert one_problem(root) == (f"{root}/ct/labels.csv: labels far from all others: c6 (999)", "warning")


def test_labels_that_are_all_the_same(root, one_problem):
    label(root, "mri", "label", [50] * 5)
    assert one_problem(root) == (f"{root}/mri/labels.csv: every label is 50", "warning")


def test_labels_of_other_patients(root, one_problem):
    label(root, "mri", "label", [])
    with (root / "mri" / "labels.csv").open("a") as file:
        file.write("sub-1,50\nsub-2,60\n")
    where, level = one_problem(root)
    assert "its ids (sub-1, sub-2) are none of the patients (m0, m1, m2, m3, m4)" in where and level == "warning"


def test_classes(root, problems, one_problem):
    words = "--task classification"
    for modality, n in (("ct", 10), ("mri", 5)):
        label(root, modality, "label", ["well"] * n)
    assert problems(root, words) == {f"{root}: every label is well": "error"}
    label(root, "ct", "label", ["well"] * 5 + ["ill"] * 4 + ["iII"])
    assert one_problem(root, words) == (f"{root}/ct/labels.csv: classes with fewer than three patients: iII (1)",
                                        "warning")


def test_a_ct_among_the_mris(root, check):
    volume = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 2)).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), root / "mri" / "m9.nii.gz")
    with (root / "mri" / "labels.csv").open("a") as file:
        file.write("m9,50\n")
    (found,) = [p for p in check(root)[1] if p.where.endswith("mri")]
    assert "look like Hounsfield units" in found.reason and found.level == "warning"


def test_ct_without_hounsfield_units(root, check):
    (found,) = check(root)[1]
    assert found.where.endswith("ct") and "no image is in Hounsfield units (display)" in found.reason


def test_roles(root, problems):
    assert problems(root, "--target pet")[f"{root}: no folder of the target modality pet"] == "error"
    assert problems(root, "--sources ct") == {f"{root}: only ct is here": "warning"}
    for n in range(8):
        shutil.rmtree(root / "ct" / f"c{n}")
    (root / "ct" / "labels.csv").write_text("patient,label\nc8,1\nc9,2\n")
    assert problems(root) == {f"{root}/ct: only 2 patients": "warning"}


def test_sources_that_are_not_there(root, problems):
    assert problems(root, "--sources mri,pett") == {f"{root}: no folder of the source modality pett": "error"}


def test_a_split_that_leaves_nobody(root, cohort_on_disk, check, problems):
    """The only MRI patient is one whom the CTs' split tests on."""
    tested = check(root)[0][0].patients_by_part["test"][0]
    shutil.rmtree(root / "mri")
    cohort_on_disk(root / "mri", [tested], [40], seed=9)
    assert problems(root)[f"{root}/mri: the split leaves nobody to train on"] == "error"


def test_nothing_but_empty_slices(root, problems, paint):
    for path in (root / "mri").rglob("*.png"):
        paint(path, np.zeros((20, 20)))
    assert problems(root)[f"{root}/mri: every slice is constant or almost empty"] == "error"


def test_an_empty_modality(root, one_problem):
    (root / "pet").mkdir()
    where, level = one_problem(root)
    assert f"{root}/pet" in where and level == "error"


def test_nothing_to_check(tmp_path, check):
    with pytest.raises(UserError, match="no such folder"):
        check(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no folder"):
        check(tmp_path / "empty")


def test_the_toolkits_layout(tmp_path, cohort_on_disk, check, problems):
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
