"""The prepared cohort on disk: made once, found again by content, never half made."""
import multiprocessing
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duiit.data import readers
from duiit.data.modality_dataset import ModalityDataset
from duiit.data.preparing import cohort
from duiit.util.errors import UserError


@pytest.fixture
def folder(tmp_path, cohort_on_disk):
    return cohort_on_disk(tmp_path / "data" / "t1", ["a", "b", "c"], [10, 20, None])


@pytest.fixture
def reads(monkeypatch):
    """The names of the scans whose pixels are decoded, in order."""
    names, read = [], readers.read_scan
    monkeypatch.setattr(cohort.readers, "read_scan", lambda scan: names.append(scan.name) or read(scan))
    return names


def load(folder, opt):
    return ModalityDataset(opt, folder, 1)


def caches(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache").iterdir()) if (tmp_path / "cache").exists() else []


def test_pixels_are_kept_to_a_step_of_16_bits(folder, options):
    opt = options("--preprocess none")
    member = load(folder, opt)
    for row in member.rows:
        file = np.asarray(Image.open(folder / row.file), np.float32)[None]
        image = member.cohort.image(row)
        assert image.dtype == np.float32 and abs(image).max() <= 1
        np.testing.assert_allclose(image, file / 127.5 - 1, atol=3e-5)
    assert [(r.patient, r.label, r.index) for r in member.rows] == [
        ("a", 10, 0), ("a", 10, 1), ("b", 20, 0), ("b", 20, 1), ("c", None, 0), ("c", None, 1)]


def test_each_scan_is_decoded_once_and_never_again(folder, options, reads):
    load(folder, options())
    assert sorted(reads) == ["a", "b", "c"]
    load(folder, options())
    assert len(reads) == 3


def test_a_changed_byte_makes_a_new_cache(folder, options, reads, tmp_path):
    before = load(folder, options()).cohort.image(load(folder, options()).rows[0])
    pixels = np.asarray(Image.open(folder / "a" / "1.png")).copy()
    pixels[0] = 255 - pixels[0]
    Image.fromarray(pixels).save(folder / "a" / "1.png")
    member = load(folder, options())
    assert len(caches(tmp_path)) == 2 and len(reads) == 6
    assert not np.array_equal(member.cohort.image(member.rows[0]), before)


@pytest.mark.parametrize("words", ["--load_size 24", "--slices every:2", "--preprocess none --ct_window bone"])
def test_a_changed_setting_makes_a_new_cache(folder, options, reads, words):
    load(folder, options())
    load(folder, options(words))
    assert len(reads) == 6


def test_changed_labels_need_no_new_cache(folder, options, reads):
    load(folder, options())
    (folder / "labels.csv").write_text("patient,label\na,11\nc,33\n")
    rows = load(folder, options()).rows
    assert [r.label for r in rows[::2]] == [11, None, 33]
    assert len(reads) == 3


def test_a_moved_cohort_is_recognised(folder, options, reads, tmp_path):
    load(folder, options())
    shutil.move(folder, tmp_path / "elsewhere" / "t1")
    load(tmp_path / "elsewhere" / "t1", options())
    assert len(reads) == 3


def damage_index(cache):
    (cache / "index.json").write_text('[{"scan": "a"')


def damage_pixels(cache):
    content = (cache / "images.bin").read_bytes()
    (cache / "images.bin").write_bytes(content[:-100])


@pytest.mark.parametrize("damage", [
    damage_index, damage_pixels,
    lambda cache: (cache / "images.bin").unlink(),
    lambda cache: (cache / "index.json").unlink(),
    lambda cache: (cache / "index.json").write_text('{"no": "list"}')])
def test_a_damaged_cache_is_made_anew(folder, options, reads, tmp_path, damage):
    member = load(folder, options())
    before = member.cohort.image(member.rows[-1])
    damage(tmp_path / "cache" / caches(tmp_path)[0])
    member = load(folder, options())
    np.testing.assert_array_equal(member.cohort.image(member.rows[-1]), before)
    assert len(caches(tmp_path)) == 1 and len(reads) == 6


def test_a_failure_names_the_file_and_leaves_nothing(folder, options, tmp_path):
    (folder / "b" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(UserError, match=r"b/2\.png"):
        load(folder, options())
    assert caches(tmp_path) == []


def test_pixels_are_mapped_not_loaded_and_travel_as_a_path(folder, options):
    member = load(folder, options())
    image = member.cohort.image(member.rows[3])
    assert isinstance(member.cohort._pixels.base, np.memmap)
    packed = pickle.dumps(member.cohort)
    assert len(packed) < 5000                       # six images would be larger
    np.testing.assert_array_equal(pickle.loads(packed).image(member.rows[3]), image)


def test_empty_slices_are_dropped_unless_kept(folder, options):
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(folder / "a" / "2.png")
    assert [r.file for r in load(folder, options()).rows][:2] == ["a/1.png", "b/1.png"]
    assert [r.empty for r in load(folder, options("--keep_empty")).rows] == [False, True] + [False] * 4
    for name in ("a/1.png", "b/1.png", "b/2.png", "c/1.png", "c/2.png"):
        Image.fromarray(np.full((20, 20), 9, np.uint8)).save(folder / name)
    with pytest.raises(UserError, match="t1: every slice is constant.*--keep_empty"):
        load(folder, options())


def _load_in_process(folder, opt, barrier, results):
    barrier.wait()
    member = load(folder, opt)
    results.put([float(member.cohort.image(r).sum()) for r in member.rows])


def test_two_processes_may_prepare_at_once(folder, options, tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    both = [context.Process(target=_load_in_process, args=(folder, options(), barrier, results)) for _ in range(2)]
    for process in both:
        process.start()
    sums = [results.get(timeout=60) for _ in both]
    for process in both:
        process.join(60)
    assert [p.exitcode for p in both] == [0, 0] and sums[0] == sums[1]
    assert len(caches(tmp_path)) == 1


def test_who_comes_second_takes_the_firsts(folder, options, tmp_path, monkeypatch):
    """The other run finishes while this one is still reading."""
    fill = cohort._fill

    def slowly(part, *args):
        fill(part, *args)
        monkeypatch.setattr(cohort, "_fill", fill)
        load(folder, options())
    monkeypatch.setattr(cohort, "_fill", slowly)
    assert len(load(folder, options()).rows) == 6
    assert len(caches(tmp_path)) == 1


def test_where_caches_are_kept(monkeypatch, options):
    assert cohort.cache_root(options("--cache_dir /x")) == Path("/x")
    monkeypatch.setenv("XDG_CACHE_HOME", "/y")
    assert cohort.cache_root(options(cache_dir=None)) == Path("/y/duiit")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cohort.cache_root(options(cache_dir=None)) == Path.home() / ".cache" / "duiit"
