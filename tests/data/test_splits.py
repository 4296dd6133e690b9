from types import SimpleNamespace

import pytest

from duiit.data import splits
from duiit.util.errors import UserError


def rows(*patients, slices=1):
    return [SimpleNamespace(patient=p, scan=f"scan of {p}", file=f"{p}/{i}.png", index=i)
            for p in patients for i in range(slices)]


def opt(tmp_path=".", **values):
    return SimpleNamespace(**{"target": "ct", "split_by": "patient", "split_seed": 0, "val_fraction": 0.1,
                              "test_fraction": 0.2, "source_test_fraction": 0.1, "checkpoints_dir": str(tmp_path),
                              "name": "run", "isTrain": True, "phase": "train", "continue_train": False, **values})


@pytest.mark.parametrize("n, fractions, expected", [
    (2438, (0.1, 0.2), (1706, 244, 488)),       # the paper's number of CT slices
    (2438, (0.0, 0.5), (1219, 0, 1219)),
    (10, (0.1, 0.2), (7, 1, 2)),
    (3, (0.1, 0.2), (1, 1, 1)),                 # from three on, who is wanted comes
    (3, (0.0, 0.01), (2, 0, 1)),
    (2, (0.1, 0.2), (2, 0, 0)),                 # below, all train
    (1, (0.5, 0.4), (1, 0, 0)),
    (4, (0.5, 0.49), (1, 1, 2)),                # somebody is left to train on
    (10, (0.6, 0.39), (1, 5, 4)),
    (3, (0.9, 0.0), (1, 2, 0)),                 # and nobody tests who was not asked to
    (20, (0.0, 0.0), (20, 0, 0)),
])
def test_sizes(n, fractions, expected):
    assert splits.sizes(n, *fractions) == expected


@pytest.mark.parametrize("n", range(3, 40))
def test_sizes_add_up_and_leave_nobody_out(n):
    train, val, test = splits.sizes(n, 0.1, 0.2)
    assert train + val + test == n and min(train, val, test) >= 1


def test_patients_stand_on_one_side():
    members = rows(*[f"p{i}" for i in range(20)], slices=5)
    parts = splits.assign({"ct": members}, opt())["ct"]
    sides = {}
    for row, part in zip(members, parts, strict=True):
        sides.setdefault(row.patient, set()).add(part)
    assert all(len(s) == 1 for s in sides.values())
    counts = [sum(s == {part} for s in sides.values()) for part in splits.PARTS]
    assert counts == [14, 2, 4]


def test_a_person_in_two_modalities_stands_on_the_same_side_in_both():
    ct, mri = rows(*[f"p{i}" for i in range(20)]), rows(*[f"p{i}" for i in range(10, 40)])
    parts = splits.assign({"ct": ct, "mri": mri}, opt())
    side = dict(zip((r.patient for r in ct), parts["ct"], strict=True))
    both = [(side[r.patient], part) for r, part in zip(mri, parts["mri"], strict=True) if r.patient in side]
    assert len(both) == 10 and all(a == b for a, b in both)
    assert {"test", "train"} <= set(parts["mri"])


def test_of_sources_only_the_test_fraction_is_held_out():
    parts = splits.assign({"ct": rows(*"abcdefghij"), "mri": rows(*[f"m{i}" for i in range(30)])}, opt())["mri"]
    assert parts.count("test") == 3 and parts.count("val") == 0


def test_the_seed_decides_and_the_order_does_not():
    members = rows(*[f"p{i}" for i in range(30)])
    first = splits.assign({"ct": members}, opt())["ct"]
    assert splits.assign({"ct": members}, opt())["ct"] == first
    assert splits.assign({"ct": members[::-1]}, opt())["ct"] == first[::-1]
    assert splits.assign({"ct": members}, opt(split_seed=1))["ct"] != first


def test_by_image_a_patients_slices_stand_on_both_sides():
    members = rows(*[f"p{i}" for i in range(4)], slices=25)
    parts = splits.assign({"ct": members}, opt(split_by="image"))["ct"]
    assert [parts.count(p) for p in splits.PARTS] == [70, 10, 20]
    assert len({part for row, part in zip(members, parts, strict=True) if row.patient == "p0"}) > 1


ODD = ["plain", "with,comma", 'a "quote"', "two\nlines", "  space ", "Zoë", "'", ""]


@pytest.mark.parametrize("split_by", ["patient", "image"])
def test_what_is_written_is_read_back(tmp_path, split_by):
    members = {"ct": rows(*ODD, slices=2), 'm,"r"i': rows(*ODD[:4])}
    parts = splits.assign(members, opt(split_by=split_by))
    splits.write(tmp_path, members, parts, split_by)
    assert splits.read(tmp_path, members, split_by) == parts


def test_by_patient_a_line_is_a_patient(tmp_path):
    members = {"ct": rows("a", "b", slices=3)}
    splits.write(tmp_path, members, {"ct": ["train"] * 3 + ["test"] * 3}, "patient")
    assert (tmp_path / "split.csv").read_text() == "modality,patient,file,slice,split\nct,a,,,train\nct,b,,,test\n"


def test_who_is_not_named_belongs_nowhere(tmp_path):
    splits.write(tmp_path, {"ct": rows("a")}, {"ct": ["train"]}, "patient")
    assert splits.read(tmp_path, {"ct": rows("a", "new"), "mri": rows("a")}, "patient") == {
        "ct": ["train", None], "mri": [None]}


@pytest.mark.parametrize("text, message", [
    ("", "columns are not"), ("patient,split\na,train\n", "columns are not"),
    ("modality,patient,file,slice,split\nct,a,,train\n", "columns are not"),
    ("modality,patient,file,slice,split\nct,a,,,traim\n", "'traim' is none of train, val, test"),
])
def test_a_damaged_table_is_refused(tmp_path, text, message):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(UserError, match=f"split.csv.*{message}"):
        splits.read(tmp_path, {"ct": rows("a")}, "patient")


def test_a_table_that_a_spreadsheet_saved_again_is_read(tmp_path):
    (tmp_path / "split.csv").write_bytes(b"\xef\xbb\xbfmodality,patient,file,slice,split\r\nct,a,,,test\r\n\r\n")
    assert splits.read(tmp_path, {"ct": rows("a")}, "patient") == {"ct": ["test"]}


def test_a_run_keeps_its_split(tmp_path):
    members = {"ct": rows(*[f"p{i}" for i in range(30)])}
    drawn = splits.of_run(opt(tmp_path), members)
    assert (tmp_path / "run" / "split.csv").is_file()
    assert splits.of_run(opt(tmp_path, isTrain=False, phase="test", split_seed=9), members) == drawn
    assert splits.of_run(opt(tmp_path, continue_train=True, split_seed=9), members) == drawn
    assert splits.of_run(opt(tmp_path, split_seed=9), members) != drawn            # a new run


def test_testing_without_the_runs_split_is_refused(tmp_path):
    with pytest.raises(UserError, match="split.csv"):
        splits.of_run(opt(tmp_path, isTrain=False, phase="test"), {"ct": rows("a")})
