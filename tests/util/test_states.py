"""The latest states and the best one, on disk; and the lock on a run's folder."""
import os
import zipfile

import pytest
import torch

from duiit.util import checkpoint, run_lock
from duiit.util.errors import UserError
from duiit.util.files import remove_temporaries
from duiit.util.states import StateFiles


@pytest.fixture
def saved(tmp_path):
    """saved(keep, [best, …]): files with the states 0, 1, … saved, of which some were the best."""
    def save(count, keep=2, best=()):
        files = StateFiles(tmp_path, keep)
        for number in range(count):
            files.save({"number": number}, best=number in best)
        return files
    return save


def numbers(folder):
    return {p.name: torch.load(p)["number"] for p in folder.glob("*_state.pth*")}


@pytest.mark.parametrize(("keep", "expected"), [
    (1, {"latest_state.pth": 4}), (2, {"latest_state.pth": 4, "latest_state.pth.1": 3}),
    (3, {"latest_state.pth": 4, "latest_state.pth.1": 3, "latest_state.pth.2": 2})])
def test_the_last_ones_are_kept(tmp_path, saved, keep, expected):
    saved(5, keep)
    assert numbers(tmp_path) == expected


def test_fewer_are_kept_when_asked(tmp_path, saved):
    saved(5, 4)
    StateFiles(tmp_path, 2).save({"number": 9})
    assert numbers(tmp_path) == {"latest_state.pth": 9, "latest_state.pth.1": 4}


def test_the_best_is_kept_besides(tmp_path, saved):
    saved(5, best=(0, 1))
    assert numbers(tmp_path)["best_state.pth"] == 1


def test_no_state_is_no_error(tmp_path):
    assert StateFiles(tmp_path).newest() is None


@pytest.mark.parametrize("damage", [
    lambda data: data[:-1], lambda data: data[:100], lambda data: b"", lambda data: data[:200] + b"\x99" + data[201:],
    lambda data: data + b"\0"])
def test_a_damaged_state_is_put_aside_for_the_one_before(tmp_path, caplog, saved, damage):
    files = saved(3)
    files.latest.write_bytes(damage(files.latest.read_bytes()))
    assert checkpoint.load(files.newest())["number"] == 1
    assert f"{files.latest} is damaged; going on from the state before it (latest_state.pth.1)" in caplog.text
    files.save({"number": 7})
    assert checkpoint.load(files.newest())["number"] == 7
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest_state.pth", "latest_state.pth.1",
                                                          "latest_state.pth.damaged"]


def test_nothing_is_put_aside_where_nothing_is_left(tmp_path, saved):
    saved(2)
    for name in ("latest_state.pth", "latest_state.pth.1"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match="latest_state.pth is damaged, and no other state"):
        StateFiles(tmp_path).newest()
    assert (tmp_path / "latest_state.pth").is_file()


def test_a_state_that_was_complete_but_not_yet_the_latest_is(tmp_path, saved):
    files = saved(2)
    checkpoint.save({"number": 2}, files.new)
    assert files.newest() == files.latest
    assert numbers(tmp_path) == {"latest_state.pth": 2, "latest_state.pth.1": 1}


def test_the_checksum_is_the_comment_of_a_sound_archive(tmp_path):
    checkpoint.save({"x": torch.ones(3)}, tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(checkpoint.MARK)
    assert checkpoint.sealed(tmp_path / "x.pth") is True
    torch.save({"x": 1}, tmp_path / "other.pth")
    assert checkpoint.sealed(tmp_path / "other.pth") is None
    assert checkpoint.load(tmp_path / "other.pth") == {"x": 1}


def test_the_same_values_make_the_same_bytes(tmp_path):
    name = "".join(["a", "b"])                              # equal to the literal, and another object
    pair = (1, 2)
    checkpoint.save({"ab": [pair, pair], "c": {"ab": "ab"}}, tmp_path / "one.pth")
    checkpoint.save({name: [(1, 2), (1, 2)], "c": {"ab": name}}, tmp_path / "two.pth")
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "two.pth").read_bytes()


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / "web").mkdir()
    for path in (tmp_path / ".duiit-tmp-77-ab-x.pth", tmp_path / "web" / ".duiit-tmp-77-cd-i.html", tmp_path / "kept"):
        path.write_text("x")
    remove_temporaries(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["kept", "web"]


# ---- the lock -------------------------------------------------------------------------------------------------------

def test_a_lock_is_left_without_a_trace(tmp_path):
    for _ in range(2):
        with run_lock.hold(tmp_path):
            assert f"process {os.getpid()}" in (tmp_path / run_lock.NAME).read_text()
        assert not list(tmp_path.iterdir())


def test_a_lock_is_not_held_twice(tmp_path):
    with run_lock.hold(tmp_path), pytest.raises(UserError, match="this process is training this run"), \
            run_lock.hold(tmp_path):
        pass


def test_the_file_of_a_dead_process_locks_nothing(tmp_path):
    (tmp_path / run_lock.NAME).write_text("process 1 on elsewhere")
    with run_lock.hold(tmp_path):
        pass
