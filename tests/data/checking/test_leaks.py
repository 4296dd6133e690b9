"""What `duiit data check` says of one person under two names, and of two under one."""
import shutil

import numpy as np
import pytest


def test_the_same_image_under_two_patients(root, one_problem):
    shutil.copy(root / "ct" / "c1" / "1.png", root / "ct" / "c2" / "1.png")
    where, level = one_problem(root)
    assert level == "error"
    assert where.startswith(f"{root}/ct: the same images under the patients c1, c2: 1 image alike (such as ct/c1/1.png "
                            "and ct/c2/1.png)")


def test_the_same_image_in_two_modalities(root, one_problem):
    shutil.copy(root / "ct" / "c1" / "1.png", root / "mri" / "m2" / "1.png")
    where, level = one_problem(root)
    assert f"{root}: the same images under the patients c1 (ct), m2 (mri)" in where and level == "error"


def test_a_leak_says_where_the_split_puts_them(root, check, one_problem):
    parts = check(root)[0][0].patients_by_part
    tested, trained = parts["test"][0], parts["train"][0]
    shutil.copy(root / "ct" / tested / "1.png", root / "ct" / trained / "1.png")
    assert one_problem(root)[0].endswith("which the split would put into train and test")


@pytest.mark.parametrize("names", [("049", "49"), ("P1", "p01"), ("sub-7", "SUB_07")])
def test_one_name_spelled_in_two_ways(root, cohort_on_disk, names, problems):
    for seed, name in enumerate(names):
        cohort_on_disk(root / "ct", [name], seed=10 + seed)
    with (root / "ct" / "labels.csv").open("a") as file:
        file.write("".join(f"{name},30\n" for name in names))
    found = {where: level for where, level in problems(root).items() if "one person" in where}
    ((where, level),) = found.items()
    assert level == "warning" and all(name in where for name in names)


def test_names_that_only_look_alike_are_nobodys_twins(root, cohort_on_disk, problems):
    cohort_on_disk(root / "ct", ["10", "100", "1", "c10"], seed=10)
    assert not any("one person" in where for where in problems(root))


@pytest.mark.parametrize(("ids", "leaks"), [(("A1", "A1", "B2"), True), (("A1", "C3", "B2"), False),
                                            (("ANON", "ANON", "B2"), False), (("A1", "A1", "A1"), False)])
def test_one_patient_id_in_two_folders(tmp_path, ids, leaks, check, write_series):
    """Folders name the patients here, so the header's PatientID is a second opinion."""
    for n, patient_id in enumerate(ids):
        write_series(tmp_path / "ct" / f"person{n}", patient_id, n + 1)
    found = {p.reason: p.level for p in check(tmp_path, "--patient_regex (person.)/")[1]}
    told = [reason for reason in found if reason.startswith("the DICOM PatientID of person0, person1 is the same (A1)")]
    assert len(told) == leaks and all(found[reason] == "error" for reason in told)


def flat_folder(root, names, paint):
    for n, name in enumerate(names):
        paint(root / "ct" / name, np.random.default_rng(n).integers(0, 255, (20, 20)))


def test_a_flat_folder_of_numbered_images(tmp_path, problems, paint):
    (tmp_path / "ct").mkdir()
    flat_folder(tmp_path, [f"{n}.png" for n in range(1, 9)], paint)
    found = problems(tmp_path)
    (told,) = [where for where in found if "patient of its own" in where]
    assert "each of the 8 images was taken for a patient of its own (such as 1.png)" in told
    assert found[told] == "warning"
    assert not any("patient of its own" in where for where in problems(tmp_path, "--patient_regex (.)"))
    (tmp_path / "ct" / "labels.csv").write_text(
        "file,patient,label\n" + "".join(f"{n}.png,p{n},{n}\n" for n in range(1, 9)))
    assert not any("patient of its own" in where for where in problems(tmp_path))


def test_people_in_both_modalities(root, cohort_on_disk, check, problems):
    cohort_on_disk(root / "mri", ["c3"], seed=9)
    with (root / "mri" / "labels.csv").open("a") as file:
        file.write("c3,33\n")
    ct, mri = check(root)[0]
    assert ct.shared_patients == mri.shared_patients == ["c3"]
    sides = [part for m in (ct, mri) for part, members in m.patients_by_part.items() if "c3" in members]
    assert sides[0] == sides[1] and problems(root) == {}
