"""What was found in files is known to the next process, and never of a file that is another by then."""
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from duiit.util.file_index import FileIndex


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_text(f"text of {name}")
    return folder


@pytest.fixture
def look(data, tmp_path, opened):
    """look(*names) -> ([what the files hold], [files that had to be opened]), as a new process would."""
    def go(*names):
        with opened(data) as found, FileIndex(data, tmp_path / "cache") as index:
            texts = [index.recall(data / name, "text", lambda path: path.read_text()) for name in names]
        return texts, [Path(name).name for name in found]
    return go


def kept(tmp_path):
    [path] = (tmp_path / "cache" / "files").iterdir()
    return path


@pytest.mark.usefixtures("settled")
def test_a_file_is_opened_once(look):
    assert look("a", "b") == (["text of a", "text of b"], ["a", "b"])
    assert look("a", "b", "c") == (["text of a", "text of b", "text of c"], ["c"])
    assert look("c", "a")[1] == []


@pytest.mark.usefixtures("settled")
def test_another_file_of_the_same_size_and_time_is_noticed(data, look, tmp_path):
    """Written in place with its time set back; copied over it with the other's time; moved over it."""
    look("a", "b", "c")
    times = (data / "a").stat().st_mtime_ns
    (data / "a").write_text("TEXT OF A")
    os.utime(data / "a", ns=(times, times))
    other = tmp_path / "other"
    other.write_text("text of z")
    os.utime(other, ns=(times, times))
    os.utime(data / "b", ns=(times, times))
    os.utime(data / "c", ns=(times, times))
    look("b", "c")
    shutil.copy2(other, data / "b")
    other.replace(data / "c")
    assert look("a", "b", "c") == (["TEXT OF A", "text of z", "text of z"], ["a", "b", "c"])


def test_what_changed_just_now_is_not_kept(look, tmp_path):
    """It could change again without another time."""
    assert look("a")[1] == look("a")[1] == ["a"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("settled")
def test_a_file_that_changes_while_it_is_read_is_not_kept(data, look, tmp_path):
    def read(path):
        text = path.read_text()
        path.write_text("changed by somebody")
        return text

    with FileIndex(data, tmp_path / "cache") as index:
        assert index.recall(data / "a", "text", read) == "text of a"
    assert look("a") == (["changed by somebody"], ["a"])


@pytest.mark.usefixtures("settled")
def test_a_link_is_known_by_what_it_points_to(data, look):
    (data / "link").symlink_to(data / "a")
    assert look("link")[0] == ["text of a"]
    (data / "link").unlink()
    (data / "link").symlink_to(data / "b")
    assert look("link")[0] == ["text of b"]


@pytest.mark.usefixtures("settled")
def test_removed_files_are_forgotten(data, look, tmp_path):
    look("a", "b")
    (data / "a").unlink()
    look("c")
    assert set(json.loads(kept(tmp_path).read_text())["files"]) == {"b", "c"}
    with pytest.raises(FileNotFoundError):
        look("a")


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("spoil", [
    lambda text: text[:len(text) // 2], lambda text: "", lambda text: "[]", lambda text: text.replace("of a", "of x"),
    lambda text: text.replace('"made_by": "', '"made_by": "0 ')])
def test_a_damaged_or_older_index_is_made_anew(look, tmp_path, spoil):
    look("a")
    path = kept(tmp_path)
    path.write_text(spoil(path.read_text()))
    assert look("a") == (["text of a"], ["a"])
    assert look("a") == (["text of a"], [])


@pytest.mark.usefixtures("settled")
def test_two_that_write_at_once_keep_what_both_found(data, look, tmp_path):
    with FileIndex(data, tmp_path / "cache") as one, FileIndex(data, tmp_path / "cache") as other:
        for index, name, what in ((one, "a", "size"), (one, "b", "text"), (other, "a", "text"), (other, "c", "text")):
            index.recall(data / name, what, lambda path: path.read_text())
    assert look("a", "b", "c")[1] == []


@pytest.mark.usefixtures("settled")
def test_threads_share_an_index(data, look, tmp_path):
    for n in range(200):
        (data / f"f{n}").write_text(str(n))
    names = [data / f"f{n}" for n in range(200)]
    with FileIndex(data, tmp_path / "cache") as index, ThreadPoolExecutor(8) as pool:
        assert [*pool.map(lambda path: index.recall(path, "text", lambda p: p.read_text()), names)] == \
            [str(n) for n in range(200)]
    assert look(*(path.name for path in names))[1] == []


@pytest.mark.usefixtures("settled")
def test_where_nothing_can_be_written_the_work_goes_on(data, look, tmp_path):
    (tmp_path / "cache").write_text("a file, where a folder is wanted")
    assert look("a") == (["text of a"], ["a"])
