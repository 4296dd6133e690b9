"""Files are written whole or not at all, and what the user can mend is one line that names the path."""
import errno
import json
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from duiit.util import files
from duiit.util.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_natural_key_sorts_as_people_do():
    mixed = ["p2/10", "p10/1", "p2/9", "P1/x", "p2/a1", "p2/01", "p2/1", "", "7", "x"]
    expected = ["", "7", "P1/x", "p2/01", "p2/1", "p2/9", "p2/10", "p2/a1", "p10/1", "x"]
    assert sorted(mixed, key=files.natural_key) == expected
    assert sorted([Path("b 10.png"), Path("b 9.png")], key=files.natural_key)[0].name == "b 9.png"


def test_a_finished_file_is_in_place_with_its_parents(tmp_path):
    target = tmp_path / "Müller, 胸部 CT" / "a b" / "out.npy"
    files.write_atomically(target, lambda temporary: np.save(temporary, np.arange(3)))
    assert np.load(target).tolist() == [0, 1, 2]
    assert names(target.parent) == ["out.npy"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failing_write_keeps_the_old_file_and_leaves_nothing(tmp_path, failure):
    target = tmp_path / "labels.csv"
    target.write_text("old")
    with pytest.raises(failure), files.atomic_path(target) as temporary:
        temporary.write_text("half")
        raise failure
    assert target.read_text() == "old"
    assert names(tmp_path) == ["labels.csv"]


def test_long_names_keep_their_suffix(tmp_path):
    target = tmp_path / ("ü" * 120 + ".nii.gz")  # 247 bytes, near the limit of 255
    with files.atomic_path(target) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"x")
    assert target.read_bytes() == b"x"


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    files.write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"
    files.write_text("/dev/null", "gone")
    assert Path("/dev/null").is_char_device()


def test_a_full_disk_is_one_line_that_names_the_path(tmp_path):
    target = tmp_path / "ages.csv"
    with pytest.raises(UserError, match="ages.csv.*no space"), files.atomic_path(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "write",
    [
        lambda path: torch.save({"a": torch.zeros(100_000)}, path),
        lambda path: path.write_bytes(bytes(200_000)),
        lambda path: np.save(path, np.zeros(100_000)),
    ],
    ids=["torch", "bytes", "numpy"],
)
def test_every_writers_way_of_saying_disk_full(tmp_path, write):
    """A limit on the size of files stands for the full disk; each library reports a short write in its own words."""
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, old_limit[1]))
    try:
        with pytest.raises(UserError, match=r"out\.npy could not be written"):
            files.write_atomically(tmp_path / "out.npy", write)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert names(tmp_path) == []


def test_missing_permission_names_the_path_but_not_for_other_files(tmp_path):
    target = tmp_path / "out.txt"
    with pytest.raises(UserError, match="out.txt.*permission"), files.atomic_path(target) as temporary:
        raise PermissionError(errno.EACCES, "Permission denied", str(temporary))
    with pytest.raises(PermissionError), files.atomic_path(target):
        raise PermissionError(errno.EACCES, "Permission denied", "/somewhere/else/input.nii")


def test_a_folder_or_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("x")
    for bad in (tmp_path, tmp_path / "file" / "below.txt"):
        with pytest.raises(UserError, match=str(tmp_path)):
            files.write_text(bad, "x")


def test_json_and_csv_take_what_programs_hold(tmp_path):
    values = {"mae": np.float32(1.5), "bad": float("nan"), "n": np.int64(3), "path": Path("ä/b"), "t": torch.ones(2)}
    files.write_json(tmp_path / "m.json", values)
    text = (tmp_path / "m.json").read_text("utf-8")
    assert json.loads(text) == {"mae": 1.5, "bad": None, "n": 3, "path": "ä/b", "t": [1.0, 1.0]}
    assert "ä/b" in text
    files.write_csv(tmp_path / "a.csv", [{"id": "Ö, 1", "age": 61.5}, {"id": "b", "file": "x"}])
    assert (tmp_path / "a.csv").read_text("utf-8") == 'id,age,file\n"Ö, 1",61.5,\nb,,x\n'


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    target = tmp_path / "synthetic"
    with pytest.raises(ValueError), files.atomic_folder(target) as folder:
        (folder / "a.png").write_bytes(b"x")
        raise ValueError
    assert names(tmp_path) == []
    with files.atomic_folder(target) as folder:
        (folder / "a.png").write_bytes(b"x")
    assert names(tmp_path) == ["synthetic"]
    assert names(target) == ["a.png"]


def test_a_full_folder_is_replaced_only_by_force_and_only_when_done(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(UserError, match="not empty"), files.atomic_folder(target):
        pytest.fail("the work must not begin")
    with pytest.raises(ValueError), files.atomic_folder(target, force=True):
        raise ValueError
    assert names(target) == ["old"]
    with files.atomic_folder(target, force=True) as folder:
        (folder / "new").write_text("new")
    assert names(tmp_path) == ["out"]
    assert names(target) == ["new"]


def test_force_never_replaces_the_folder_one_stands_in(tmp_path, monkeypatch):
    work = tmp_path / "project" / "runs"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    with pytest.raises(UserError, match="current folder"), files.atomic_folder(tmp_path / "project", force=True):
        pytest.fail("the work must not begin")


def test_a_mounted_folder_is_filled_in_place(tmp_path, monkeypatch):
    target = tmp_path / "volume"
    target.mkdir()
    (target / "old").mkdir()
    inode = target.stat().st_ino
    monkeypatch.setattr(Path, "is_mount", lambda self: self == target)
    with files.atomic_folder(target, force=True) as folder:
        assert folder.parent == target
        (folder / "new").write_text("new")
    assert names(target) == ["new"]
    assert target.stat().st_ino == inode


def test_files_have_the_rights_a_plain_open_gives(tmp_path):
    (tmp_path / "plain").write_text("x")
    files.write_text(tmp_path / "ours", "x")
    assert os.stat(tmp_path / "ours").st_mode == os.stat(tmp_path / "plain").st_mode  # noqa: PTH116
