"""`duiit data check`: what it reports of sound data, and each problem provoked once."""
import json
import os
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from duiit.data.checking import scan_survey
from duiit.data.checking.check import as_fingerprint, as_json, check_folder
from duiit.options import CheckOptions
from duiit.util.errors import UserError


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


def one_problem(root, words="", far=True):
    """The only one there is; far=False: besides labels far from the others."""
    found = {where: level for where, level in problems(root, words).items() if far or "far from" not in where}
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
    report = json.loads(json.dumps(as_json(*check(root))))
    assert [m["name"] for m in report["modalities"]] == ["ct", "mri"]
    assert (report["errors"], report["warnings"]) == (0, 1)
    assert set(report["problems"][0]) == {"level", "where", "reason", "remedy"}


def test_the_fingerprint_names_no_patient(root):
    modalities, _ = check(root)
    told = as_fingerprint(modalities, CheckOptions().parse(["--dataroot", str(root)]))
    assert told["modalities"]["ct"]["fingerprint"]["scans"] == told["modalities"]["ct"]["patients"] == 10
    assert not any(f'"c{n}"' in json.dumps(told) for n in range(10))


def _die(scan, loader, opt):
    os._exit(9)


def test_a_reader_process_that_is_killed(root, monkeypatch):
    monkeypatch.setattr(scan_survey, "SMALL", 0)
    monkeypatch.setattr(scan_survey.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(scan_survey, "survey_scan", _die)
    with pytest.raises(UserError, match="was ended by the system.*--num_threads 1"):
        check(root, "--num_threads 2")


def test_reader_processes_find_what_one_process_finds(root, monkeypatch):
    alone = check(root, "--num_threads 1")
    (root / "ct" / "c3" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    broken = check(root, "--num_threads 1")
    monkeypatch.setattr(scan_survey, "SMALL", 0)
    monkeypatch.setattr(scan_survey.os, "cpu_count", lambda: 2)
    assert check(root, "--num_threads 2") == broken != alone


def test_the_announced_split_is_the_one_that_training_draws(root, options):
    from duiit.data.cross_modality_dataset import CrossModalityDataset
    for n in (1, 2):
        paint(root / "ct" / "c4" / f"{n}.png", np.zeros((20, 20)))       # c4 shows nothing and is in no part
    announced = {m.name: m.patients_by_part for m in check(root)[0]}
    dataset = CrossModalityDataset(options("--model duiit", dataroot=str(root)))
    for part in ("train", "val", "test"):
        assert set(announced["ct"][part]) == {r.patient for r in dataset.target_part(part)}
    assert set(announced["mri"]["train"]) == {r.patient for r in dataset.members["mri"].rows}


def test_the_announced_split_by_image(root, options):
    from duiit.data.cross_modality_dataset import CrossModalityDataset
    announced = {m.name: m.split for m in check(root, "--split_by image")[0]}
    dataset = CrossModalityDataset(options("--model duiit --split_by image", dataroot=str(root)))
    assert announced["ct"] == {part: len(dataset.target_part(part)) for part in ("train", "val", "test")}


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
    assert one_problem(root) == (f"{root}/ct: no label for 1 patient: c3", "warning")


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


def label(root, modality, column, values):
    lines = [f"{modality[0]}{i},{value}" for i, value in enumerate(values)]
    (root / modality / "labels.csv").write_text("\n".join([f"patient,{column}", *lines]) + "\n")


def test_impossible_ages(root):
    label(root, "ct", "age", [30, 150, 31, 32, -3, 33, 34, 35, 36, 37])
    assert one_problem(root, far=False) == (f"{root}/ct/labels.csv: ages that cannot be: c1 (150), c4 (-3)", "error")


def test_a_missing_code_among_labels(root):
    label(root, "ct", "label", [1.2, 1.5, 1.1, 1.3, 1.0, 1.4, 999, 1.6, 1.1, 1.2])
    assert one_problem(root) == (f"{root}/ct/labels.csv: labels far from all others: c6 (999)", "warning")


def test_labels_that_are_all_the_same(root):
    label(root, "mri", "label", [50] * 5)
    assert one_problem(root) == (f"{root}/mri/labels.csv: every label is 50", "warning")


def test_labels_of_other_patients(root):
    label(root, "mri", "label", [])
    with (root / "mri" / "labels.csv").open("a") as file:
        file.write("sub-1,50\nsub-2,60\n")
    where, level = one_problem(root)
    assert "its ids (sub-1, sub-2) are none of the patients (m0, m1, m2, m3, m4)" in where and level == "warning"


def test_classes(root):
    words = "--task classification"
    for modality, n in (("ct", 10), ("mri", 5)):
        label(root, modality, "label", ["well"] * n)
    assert problems(root, words) == {f"{root}: every label is well": "error"}
    label(root, "ct", "label", ["well"] * 5 + ["ill"] * 4 + ["iII"])
    assert one_problem(root, words) == (f"{root}/ct/labels.csv: classes with fewer than three patients: iII (1)",
                                        "warning")


# -- one person under two names ----------------------------------------------------------------------------------

def test_the_same_image_under_two_patients(root):
    shutil.copy(root / "ct" / "c1" / "1.png", root / "ct" / "c2" / "1.png")
    where, level = one_problem(root)
    assert level == "error"
    assert where.startswith(f"{root}/ct: the same images under the patients c1, c2: 1 image alike (such as ct/c1/1.png "
                            "and ct/c2/1.png)")


def test_the_same_image_in_two_modalities(root):
    shutil.copy(root / "ct" / "c1" / "1.png", root / "mri" / "m2" / "1.png")
    where, level = one_problem(root)
    assert f"{root}: the same images under the patients c1 (ct), m2 (mri)" in where and level == "error"


def test_a_leak_says_where_the_split_puts_them(root):
    parts = check(root)[0][0].patients_by_part
    tested, trained = parts["test"][0], parts["train"][0]
    shutil.copy(root / "ct" / tested / "1.png", root / "ct" / trained / "1.png")
    assert one_problem(root)[0].endswith("which the split would put into train and test")


@pytest.mark.parametrize("names", [("049", "49"), ("P1", "p01"), ("sub-7", "SUB_07")])
def test_one_name_spelled_in_two_ways(root, cohort_on_disk, names):
    for seed, name in enumerate(names):
        cohort_on_disk(root / "ct", [name], seed=10 + seed)
    with (root / "ct" / "labels.csv").open("a") as file:
        file.write("".join(f"{name},30\n" for name in names))
    found = {where: level for where, level in problems(root).items() if "one person" in where}
    ((where, level),) = found.items()
    assert level == "warning" and all(name in where for name in names)


def test_names_that_only_look_alike_are_nobodys_twins(root, cohort_on_disk):
    cohort_on_disk(root / "ct", ["10", "100", "1", "c10"], seed=10)
    assert not any("one person" in where for where in problems(root))


def write_series(folder, patient_id, seed):
    """A CT series of two slices, of pydicom's own small CT, with other pixels."""
    folder.mkdir(parents=True)
    for n in range(2):
        ds = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
        ds.PatientID, ds.SeriesInstanceUID, ds.SOPInstanceUID = patient_id, f"1.2.{seed}", f"1.2.{seed}.{n}"
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.InstanceNumber, ds.ImagePositionPatient, ds.PatientAge = n + 1, [0, 0, 5 * n], "045Y"
        noise = np.random.default_rng(100 * seed + n).integers(0, 50, ds.pixel_array.shape)
        ds.PixelData = (ds.pixel_array + noise).astype(ds.pixel_array.dtype).tobytes()
        ds.save_as(folder / f"{n}.dcm")


@pytest.mark.parametrize(("ids", "leaks"), [(("A1", "A1", "B2"), True), (("A1", "C3", "B2"), False),
                                            (("ANON", "ANON", "B2"), False), (("A1", "A1", "A1"), False)])
def test_one_patient_id_in_two_folders(tmp_path, ids, leaks):
    """Folders name the patients here, so the header's PatientID is a second opinion."""
    for n, patient_id in enumerate(ids):
        write_series(tmp_path / "ct" / f"person{n}", patient_id, n + 1)
    found = {p.reason: p.level for p in check(tmp_path, "--patient_regex (person.)/")[1]}
    told = [reason for reason in found if reason.startswith("the DICOM PatientID of person0, person1 is the same (A1)")]
    assert len(told) == leaks and all(found[reason] == "error" for reason in told)


def flat_folder(root, names):
    for n, name in enumerate(names):
        paint(root / "ct" / name, np.random.default_rng(n).integers(0, 255, (20, 20)))


def test_a_flat_folder_of_numbered_images(tmp_path):
    (tmp_path / "ct").mkdir()
    flat_folder(tmp_path, [f"{n}.png" for n in range(1, 9)])
    found = problems(tmp_path)
    (told,) = [where for where in found if "patient of its own" in where]
    assert "each of the 8 images was taken for a patient of its own (such as 1.png)" in told
    assert found[told] == "warning"
    assert not any("patient of its own" in where for where in problems(tmp_path, "--patient_regex (.)"))
    (tmp_path / "ct" / "labels.csv").write_text(
        "file,patient,label\n" + "".join(f"{n}.png,p{n},{n}\n" for n in range(1, 9)))
    assert not any("patient of its own" in where for where in problems(tmp_path))


# -- units -------------------------------------------------------------------------------------------------------

def volume(path, values, spacing=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(values), np.diag([spacing, spacing, 1, 1])), path)


def test_cts_that_cannot_be_in_hounsfield_units(tmp_path):
    """An MRI, a CT without its intercept and one in wrong units among sound ones."""
    rng = np.random.default_rng(0)
    for n in range(3):
        volume(tmp_path / "ct" / f"good{n}.nii.gz", rng.integers(-1000, 1000, (20, 20, 2)).astype(np.int16))
    volume(tmp_path / "ct" / "mri.nii.gz", rng.integers(0, 900, (20, 20, 2)).astype(np.int16))
    volume(tmp_path / "ct" / "shifted.nii.gz", rng.integers(24, 2000, (20, 20, 2)).astype(np.int16))
    volume(tmp_path / "ct" / "units.nii.gz", rng.uniform(0, 2, (20, 20, 2)).astype(np.float32))
    (found,) = [p for p in check(tmp_path)[1] if "no air" in p.reason]
    assert "3 scans: mri, shifted, units" in found.reason


def test_mixed_scales_and_units(tmp_path):
    rng = np.random.default_rng(0)
    for n, spacing in enumerate((1.0, 1.1, 2.0)):
        volume(tmp_path / "ct" / f"c{n}.nii.gz", rng.integers(-1000, 1000, (20, 20, 2)).astype(np.int16), spacing)
    paint(tmp_path / "ct" / "c3.png", rng.integers(0, 255, (20, 20)))
    reasons = {p.reason for p in check(tmp_path)[1]}
    assert "fields of view from 20 mm (c0) to 40 mm (c2)" in reasons
    assert "values in different units: HU (3 scans), display (1 scan)" in reasons


def scans(root, modality, shape, affine, count=3):
    for n in range(count):
        volume = np.random.default_rng(n).integers(-1000, 1000, (*shape, 2)).astype(np.int16)
        (root / modality).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(volume, np.diag([*affine, 5.0, 1.0])), root / modality / f"{modality}{n}.nii.gz")


def test_spacings_and_fields_that_differ_are_told_in_mm(tmp_path):
    scans(tmp_path, "ct", (20, 20), (1.0, 1.0))
    scans(tmp_path, "t1", (20, 30), (1.5, 1.5))                         # columns, rows
    scans(tmp_path, "t1", (20, 30), (2.0, 1.0), count=1)
    found = {p.reason for p in check(tmp_path)[1]}
    assert any("t1 has fields of view of 45 mm and pixels of 1.5 mm, ct of 20 mm and 1 mm, in the median: resized, "
               "anatomy of t1 is 2.25 times smaller" in reason for reason in found)
    assert "pixel spacings from 1 mm (t10) to 1.5 mm (t11), 1.50 times as much" in found
    assert "fields of view that are not square in 3 scans: t10, t11, t12" in found
    found = {p.reason for p in check(tmp_path, "--preprocess none")[1]}
    assert "pixels that are not square in 1 scan: t10" in found and not any("are not square in 3" in r for r in found)
    found = {p.reason for p in check(tmp_path, "--spacing 1 --load_size 48")[1]}
    assert not any("spacing" in reason or "field" in reason for reason in found)
    found = {p.reason for p in check(tmp_path, "--spacing 1 --load_size 40")[1]}
    assert "fields of view above 40 mm, which are cropped, in 2 scans: up to 45 mm (t11)" in found


def test_a_spacing_that_is_asked_for_and_not_known(root):
    assert any(p.level == "error" and "no pixel spacing is known of 5 scans" in p.reason
               for p in check(root, "--spacing 1")[1])


def test_what_reading_remarks_is_reported_and_not_lost(tmp_path, caplog):
    """Unsigned 16-bit values cannot be HU: the reader says so in a log line, the check among the problems."""
    for n in range(3):
        pixels = np.random.default_rng(n).integers(0, 60000, (20, 20)).astype(np.uint16)
        (tmp_path / "ct" / f"c{n}").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "ct" / f"c{n}" / "1.png")
    for _ in range(2):
        found = [p for p in check(tmp_path)[1] if "unsigned 16-bit" in p.reason]
        assert {p.where for p in found} == {str(tmp_path / "ct" / f"c{n}") for n in range(3)}
    assert "unsigned 16-bit" not in caplog.text


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


def test_sources_that_are_not_there(root):
    assert problems(root, "--sources mri,pett") == {f"{root}: no folder of the source modality pett": "error"}


def test_a_split_that_leaves_nobody(root, cohort_on_disk):
    """The only MRI patient is one whom the CTs' split tests on."""
    tested = check(root)[0][0].patients_by_part["test"][0]
    shutil.rmtree(root / "mri")
    cohort_on_disk(root / "mri", [tested], [40], seed=9)
    assert problems(root)[f"{root}/mri: the split leaves nobody to train on"] == "error"


def test_nothing_but_empty_slices(root):
    for path in (root / "mri").rglob("*.png"):
        paint(path, np.zeros((20, 20)))
    assert problems(root)[f"{root}/mri: every slice is constant or almost empty"] == "error"


def test_people_in_both_modalities(root, cohort_on_disk):
    cohort_on_disk(root / "mri", ["c3"], seed=9)
    with (root / "mri" / "labels.csv").open("a") as file:
        file.write("c3,33\n")
    ct, mri = check(root)[0]
    assert ct.shared_patients == mri.shared_patients == ["c3"]
    sides = [part for m in (ct, mri) for part, members in m.patients_by_part.items() if "c3" in members]
    assert sides[0] == sides[1] and problems(root) == {}


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


def stacked(folder, places):
    """A series of CT_small, one image at each of `places` (mm)."""
    write_series(folder, "A1", 0)
    template = pydicom.dcmread(folder / "0.dcm")
    for path in folder.iterdir():
        path.unlink()
    for n, z in enumerate(places):
        template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        template.ImagePositionPatient = [0, 0, z]
        template.PixelData = np.random.default_rng(n).integers(0, 2000, (128, 128), np.int16).tobytes()
        template.save_as(folder / f"{n}.dcm")


def test_slices_that_are_not_evenly_spaced_are_a_problem(tmp_path):
    stacked(tmp_path / "ct" / "p", (0, 4, 8, 16))
    [problem] = [p for p in check(tmp_path)[1] if "apart" in p.reason]
    assert problem.level == "warning" and problem.where == str(tmp_path / "ct" / "p")
    assert "up to 2.7 mm off" in problem.reason and "--format dicom" in problem.remedy


def test_many_scans_with_one_fault_are_one_line(tmp_path):
    for n in range(7):
        stacked(tmp_path / "ct" / f"p{n}", (0, 4, 8, 16 + n % 4))
        for path in (tmp_path / "ct" / f"p{n}").iterdir():
            ds = pydicom.dcmread(path)
            ds.SeriesInstanceUID, ds.PatientID = f"1.2.{n + 5}", f"A{n}"
            ds.save_as(path)
    [problem] = [p for p in check(tmp_path)[1] if "mm off" in p.reason]
    assert "the worst; 6 others alike" in problem.reason and "4.7 mm off" in problem.reason
    assert problem.where.endswith("p3")


def test_images_at_one_position_are_an_error_where_nothing_tells_them_apart(tmp_path):
    stacked(tmp_path / "ct" / "p", (0, 0, 1, 1))
    assert [p.level for p in check(tmp_path)[1] if "position of another" in p.reason] == ["error"]
