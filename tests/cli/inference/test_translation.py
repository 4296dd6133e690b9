"""What `duiit translate` writes and says, and how it goes on."""
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from duiit.models import networks
from duiit.util import threads
from duiit.util.part_folder import PartFolder, part_of
from duiit_cli.inference import translation
from duiit_cli.inference.networks import translate

CLIPPED = "Values are limited to -20 to 100 HU"


@pytest.fixture
def series(tmp_path, capsys, duiit, phantom):
    """series(checkpoints, name) -> (the first data set that translate --format dicom wrote, what it said)."""
    def make(checkpoints, name):
        run = "translate", "--name", name, "--checkpoints_dir", checkpoints, "--device", "cpu"
        assert duiit(*run, "--input", phantom / "mri", "--output", tmp_path / "out", "--format", "dicom") == 0
        return pydicom.dcmread(min((tmp_path / "out").rglob("*.dcm"))), capsys.readouterr().err
    return make


def test_a_series_of_the_brain_window_says_where_its_hu_end(series, trained):
    written, said = series(trained, "demo")
    assert CLIPPED in written.DerivationDescription
    assert "from MR images" in written.DerivationDescription        # the source is TIFF, which has no header to say it
    lines = [line for line in said.splitlines() if "bone and air are written as these ends" in line]
    assert len(lines) == 1 and lines[0].startswith("warning: --format dicom: this run knows only -20 to 100 HU")


@pytest.mark.slow
def test_a_series_of_the_full_window_has_nothing_to_say(series, duiit, phantom, tiny, tmp_path):
    assert duiit("train", "--dataroot", phantom, "--preset", tiny, "--sources", "mri", "--max_steps", 1, "--name",
                 "full", "--ct_window", "full", "--checkpoints_dir", tmp_path) == 0
    written, said = series(tmp_path, "full")
    assert CLIPPED not in written.DerivationDescription
    assert "bone and air" not in said
    assert written.pixel_array.max() > 1024 + 100           # HU beyond the brain window


@pytest.mark.parametrize("words", [["translate", "--output", "out"], ["predict"]])
def test_another_window_than_the_trained_one_is_refused(refused, trained, phantom, words):
    """It would give wrong Hounsfield units without a word."""
    message = refused(*words, "--name", "demo", "--checkpoints_dir", trained, "--input", phantom / "mri", "--device",
                      "cpu", "--ct_window", "full")
    assert message.startswith("--ct_window full: the run demo was trained with --ct_window brain")


# ---- batches, order, threads ---------------------------------------------------------------------------------------

@pytest.fixture
def translated(tmp_path, duiit, phantom, trained):
    """translated(*words, output) -> {file: bytes} of the folder that translate wrote."""
    def call(*words, output="out", status=0):
        run = "translate", "--name", "demo", "--checkpoints_dir", trained, "--device", "cpu"
        assert duiit(*run, "--input", phantom / "mri", "--output", tmp_path / output, *words) == status
        return files_in(tmp_path / output)
    return call


def files_in(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_batches_go_on_from_scan_to_scan(translated, monkeypatch):
    """Scans of two slices in batches of five."""
    sizes, plain = [], translation.translating

    def counted(*args):
        run = plain(*args)
        return lambda batch: sizes.append(len(batch)) or run(batch)

    monkeypatch.setattr(translation, "translating", counted)
    assert len(translated("--batch_size", 5)) == 12 + 1
    assert sizes == [5, 5, 2]


@pytest.mark.parametrize("words", [["--batch_size", 5], ["--batch_size", 16]])
def test_what_is_in_a_batch_with_an_image_is_not_seen_in_it(translated, words):
    """Not in 8 bits, but for a value that the last bits of float32 push over the edge between two of them."""
    one, several = translated("--batch_size", 1), translated(*words, output="several")
    assert one.keys() == several.keys() and one["labels.csv"] == several["labels.csv"]
    for name in one.keys() - {"labels.csv"}:
        first, second = (np.asarray(Image.open(io.BytesIO(files[name])), int) for files in (one, several))
        assert abs(first - second).max() <= 1


@pytest.mark.parametrize("kind", ["png", "nifti", "dicom", "tiff16"])
def test_however_many_threads_read_and_write_the_files_are_the_same(translated, monkeypatch, kind):
    few = translated("--format", kind)
    monkeypatch.setattr(threads, "helpers", lambda: 4)
    assert translated("--format", kind, output="many") == few


# ---- going on ------------------------------------------------------------------------------------------------------

# A lot is four images, two scans: three lots.
LOTS = "--batch_size", 1


@pytest.mark.parametrize("kind", ["png", "dicom"])
def test_killed_at_any_moment_it_goes_on_and_ends_as_if_undisturbed(translated, tmp_path, monkeypatch, kind):
    """The part folder is copied at moments when a kill could come, and each copy gone on with."""
    part, moments, one = part_of(tmp_path / "out"), [], threading.Lock()
    note, write = PartFolder.note, translation.Writer.write

    def moment():
        with one:
            shutil.copytree(part, tmp_path / f"moment{len(moments)}", ignore=shutil.ignore_patterns(".lock"))
            moments.append(part)

    def noted(self, *args, **kwargs):
        moment()
        note(self, *args, **kwargs)
        moment()

    def written(self, *args):
        rows = write(self, *args)
        moment()
        return rows

    monkeypatch.setattr(PartFolder, "note", noted)
    monkeypatch.setattr(translation.Writer, "write", written)
    monkeypatch.setattr(threads, "helpers", lambda: 1)
    whole = translated("--format", kind, *LOTS)
    monkeypatch.setattr(PartFolder, "note", note)
    monkeypatch.setattr(translation.Writer, "write", write)
    assert len(moments) == 12 and len(whole) == 13
    for number in range(len(moments)):
        shutil.rmtree(tmp_path / "out")
        (tmp_path / f"moment{number}").rename(part)
        assert translated("--format", kind, *LOTS, "--resume") == whole
        assert not part.exists()


def interrupt(monkeypatch, after, error):
    """The next translation ends with this error when so many scans are written."""
    done, write = [], translation.Writer.write

    def written(self, *args):
        if len(done) == after:
            raise error
        done.append(args)
        return write(self, *args)

    monkeypatch.setattr(translation.Writer, "write", written)
    monkeypatch.setattr(threads, "helpers", lambda: 1)


def test_finished_scans_are_not_read_again(translated, phantom, tmp_path, monkeypatch, capsys, opened):
    with monkeypatch.context() as patch:
        interrupt(patch, 5, KeyboardInterrupt())
        assert translated(*LOTS, status=130) == {}
    said = capsys.readouterr().err
    assert "the same command with --resume goes on there" in said and "error: interrupted" in said
    journal = (part_of(tmp_path / "out") / "journal.jsonl").read_text().splitlines()
    finished = [name for line in journal for name, _ in json.loads(line)["scans"]]
    with opened(phantom / "mri") as names:
        assert len(translated(*LOTS, "--resume")) == 13
    assert len(finished) == 4 and "4 of 6 scans are finished" in capsys.readouterr().err
    assert any(n.endswith(".tif") for n in names) and not [n for n in names for f in finished if f in n]


@pytest.mark.parametrize("change, told", [
    (["--format", "png16"], "begun with --format png, and now it is png16"),
    (["--slice_blend", 1], "begun with --slice_blend 0, and now it is 1"),
    (["--batch_size", 2], "begun with --batch_size 1, and now it is 2")])
def test_with_other_options_it_does_not_go_on(translated, refused, trained, phantom, tmp_path, monkeypatch, change,
                                              told):
    with monkeypatch.context() as patch:
        interrupt(patch, 5, KeyboardInterrupt())
        translated(*LOTS, status=130)
    run = "translate", "--name", "demo", "--checkpoints_dir", trained, "--device", "cpu"
    assert told in refused(*run, "--input", phantom / "mri", "--output", tmp_path / "out", *LOTS, "--resume", *change)


def test_with_other_scans_or_weights_it_does_not_go_on(duiit, refused, trained, phantom, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "runs")
    shutil.copytree(phantom / "mri", tmp_path / "mri")
    words = ["translate", "--name", "demo", "--checkpoints_dir", tmp_path / "runs", "--device", "cpu", *LOTS,
             "--input", tmp_path / "mri", "--output", tmp_path / "out"]
    with monkeypatch.context() as patch:
        interrupt(patch, 5, KeyboardInterrupt())
        assert duiit(*words) == 130
    done = json.loads((part_of(tmp_path / "out") / "journal.jsonl").read_text().splitlines()[0])
    changed = next(p for p in (tmp_path / "mri").rglob("*.tif") if done["scans"][0][0] in str(p))
    times = changed.stat().st_atime_ns, changed.stat().st_mtime_ns
    os.utime(changed)
    assert "--resume: the scan " in refused(*words, "--resume")
    os.utime(changed, ns=times)
    weights = tmp_path / "runs" / "demo" / "latest_net_G_A.pth"
    mine = weights.read_bytes()
    shutil.copy(weights.with_name("latest_net_G_B.pth"), weights)
    assert "the generator's weights" in refused(*words, "--resume")
    weights.write_bytes(mine)
    assert duiit(*words, "--resume") == 0


def test_a_scan_that_cannot_be_read_ends_it_by_name_and_it_goes_on_once_that_is_mended(duiit, refused, trained, phantom,
                                                                                      tmp_path):
    shutil.copytree(phantom / "mri", tmp_path / "mri")
    words = ["translate", "--name", "demo", "--checkpoints_dir", trained, "--device", "cpu", *LOTS,
             "--input", tmp_path / "mri", "--output", tmp_path / "out"]
    last = max(p for p in (tmp_path / "mri").rglob("*.tif") if "mask" not in p.name)
    whole = last.read_bytes()
    last.write_bytes(whole[:50])
    assert str(last) in refused(*words)
    last.write_bytes(whole)
    assert duiit(*words, "--resume") == 0
    assert len(files_in(tmp_path / "out")) == 13


@pytest.mark.slow
def test_a_process_that_is_killed(translated, trained, phantom, tmp_path):
    """Whenever it is: it may have done nothing or all of it."""
    whole = translated(*LOTS, "--format", "npy", output="undisturbed")
    words = [sys.executable, "-m", "duiit_cli", "translate", "--name=demo", f"--checkpoints_dir={trained}",
             "--device=cpu", f"--input={phantom / 'mri'}", f"--output={tmp_path / 'out'}", "--batch_size=1",
             "--format=npy"]
    process = subprocess.Popen(words)
    while process.poll() is None and not (part_of(tmp_path / "out") / "journal.jsonl").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not (tmp_path / "out").exists():
        assert translated(*LOTS, "--format", "npy", "--resume") == whole
    assert files_in(tmp_path / "out") == whole


def test_large_images_go_through_a_network_on_a_cpu_as_single_ones_do():
    """Bit for bit, whatever is in a batch with them."""
    images = list(np.random.default_rng(0).uniform(-1, 1, (5, 1, 256, 256)).astype(np.float32))
    net = networks.define_G(1, 1, 4, "resnet_1blocks").eval()
    opt = Namespace(netG="resnet_1blocks", batch_size=5)
    alone = [made for i in images for made in translate(net, [i], opt, torch.device("cpu"))]
    np.testing.assert_array_equal(translate(net, images, opt, torch.device("cpu")), alone)
