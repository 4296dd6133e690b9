"""Folders whose filling goes on where it was interrupted."""
import shutil

import pytest

from duiit.util.errors import UserError
from duiit.util.part_folder import part_folder, part_of

PIECES = ("one", "two", "three")


def fill(path, until=None, made_with=None, **how):
    """Writes the PIECES that are not there, a file each; raises KeyboardInterrupt in the one named. Returns those that
    were written."""
    written = []
    with part_folder(path, made_with or {"--format": "png"}, **how) as part:
        for piece in PIECES[len(part.entries):] if not part.complete else ():
            (part.folder / piece).mkdir(exist_ok=True)
            (part.folder / piece / "file").write_text(piece[:2] if piece == until else piece)
            if piece == until:
                raise KeyboardInterrupt
            part.note([f"{piece}/file"])
            written.append(piece)
    return written


def interrupt(path, where, **how):
    with pytest.raises(KeyboardInterrupt):
        fill(path, until=where, **how)


def contents(path):
    return {p.relative_to(path).as_posix(): p.read_text() for p in path.rglob("*") if p.is_file()}


WHOLE = {f"{piece}/file": piece for piece in PIECES}


def test_it_goes_on_and_ends_as_if_undisturbed(tmp_path, caplog):
    interrupt(tmp_path / "out", "three")
    assert not (tmp_path / "out").exists() and "--resume" in caplog.text
    assert fill(tmp_path / "out", resume=True) == ["three"]
    assert contents(tmp_path / "out") == WHOLE and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_nothing_stays_where_nothing_was_finished(tmp_path):
    interrupt(tmp_path / "out", "one")
    assert list(tmp_path.iterdir()) == []


def test_what_an_interrupted_call_left_is_neither_lost_nor_taken_up_unasked(tmp_path):
    interrupt(tmp_path / "out", "two")
    with pytest.raises(UserError, match="out.part: .*--resume goes on.*--force begins anew"):
        fill(tmp_path / "out")
    assert fill(tmp_path / "out", force=True) == list(PIECES)


def test_made_with_something_else_it_does_not_go_on(tmp_path):
    interrupt(tmp_path / "out", "two")
    with pytest.raises(UserError, match="begun with --format png, and now it is tiff"):
        fill(tmp_path / "out", made_with={"--format": "tiff"}, resume=True)
    assert fill(tmp_path / "out", resume=True) == ["two", "three"]


@pytest.mark.parametrize("damage", ["torn line", "cut file", "missing file"])
def test_a_piece_that_is_not_whole_is_made_again(tmp_path, damage):
    interrupt(tmp_path / "out", "three")
    part = part_of(tmp_path / "out")
    journal = part / "journal.jsonl"
    if damage == "torn line":
        journal.write_text(journal.read_text()[:-5])
    elif damage == "cut file":
        (part / "files" / "two" / "file").write_text("t")
    else:
        shutil.rmtree(part / "files" / "two")
    assert fill(tmp_path / "out", resume=True) == ["two", "three"]
    assert contents(tmp_path / "out") == WHOLE


def test_killed_between_the_last_two_steps(tmp_path):
    """The folder is in its place, and what it was made from is still there."""
    interrupt(tmp_path / "out", "three")
    shutil.copytree(part_of(tmp_path / "out"), tmp_path / "kept")
    fill(tmp_path / "out", resume=True)
    shutil.rmtree(tmp_path / "kept" / "files")
    (tmp_path / "kept").rename(part_of(tmp_path / "out"))
    assert fill(tmp_path / "out", resume=True) == []
    assert contents(tmp_path / "out") == WHOLE and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_full_place_is_refused_before_and_replaced_at_the_end(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        fill(tmp_path / "out")
    interrupt(tmp_path / "out", "two", force=True)
    assert contents(tmp_path / "out") == {"mine": "mine"}
    with pytest.raises(UserError, match="not empty"):
        fill(tmp_path / "out", resume=True)
    assert fill(tmp_path / "out", force=True, resume=True) == ["two", "three"]
    assert contents(tmp_path / "out") == WHOLE


def test_in_a_place_that_cannot_be_moved(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr("pathlib.Path.is_mount", lambda path: path == tmp_path / "out")
    interrupt(tmp_path / "out", "three")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["out.part"]
    assert fill(tmp_path / "out", resume=True) == ["three"]
    assert contents(tmp_path / "out") == WHOLE


def test_somebodys_own_folder_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "mine").write_text("mine")
    with pytest.raises(UserError, match=r"out\.part: is in the way"):
        fill(tmp_path / "out", force=True)
    assert (tmp_path / "out.part" / "mine").read_text() == "mine"


def test_two_at_once(tmp_path):
    with part_folder(tmp_path / "out", {}) as part:
        part.folder.joinpath("file").write_text("")
        with pytest.raises(UserError, match="this process"):
            fill(tmp_path / "out", force=True)
    assert contents(tmp_path / "out") == {"file": ""}
