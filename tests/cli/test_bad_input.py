"""Mistakes in the input: one line that names the file or the option, exit status 2, and nothing left behind."""
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory with a cache of its own. Afterwards it must hold what the test put there, and the
    cache nothing half-made."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "work"
    for entry in (tmp_path / "cache").glob("duiit/[!f]*"):           # but for `files`, the index of files looked into
        assert (entry / "index.json").is_file(), f"{entry} is half-made"
        assert ".duiit-tmp-" not in entry.name
        assert not entry.name.endswith(f".{os.getpid()}")


@pytest.fixture
def pngs(here):
    """A small good data folder of PNGs, mri and ct with labels.csv, for one thing to be broken in."""
    rng = np.random.default_rng(0)
    for modality in ("mri", "ct"):
        lines = ["patient,age"]
        for n in range(5):
            (here / "D" / modality / f"{modality}{n}").mkdir(parents=True)
            for z in range(2):
                image = Image.fromarray(rng.integers(30, 200, (32, 32), dtype=np.uint8))
                image.save(here / "D" / modality / f"{modality}{n}" / f"{z}.png")
            lines.append(f"{modality}{n},{20 + n}")
        (here / "D" / modality / "labels.csv").write_text("\n".join(lines) + "\n")
    return here / "D"


@pytest.fixture
def tiny_cycle_gan(tmp_path, tiny):
    """The preset for the model without a predictor, which by default takes trainA, trainB and three channels."""
    lines = [line for line in tiny.read_text().splitlines() if not line.startswith("netP")]
    path = tmp_path / "cycle_gan.toml"
    path.write_text("\n".join([*lines, 'model = "cycle_gan"', 'dataset_mode = "cross_modality"', "input_nc = 1",
                               "output_nc = 1"]) + "\n")
    return path


@pytest.fixture
def train_refused(here, refused, tiny):
    """train_refused(*words) -> the complaint; no run folder is left."""
    def call(*words):
        before = sorted(here.rglob("*"))
        message = refused("train", "--preset", tiny, *words)
        assert sorted(here.rglob("*")) == before
        return message
    return call


def test_the_good_folder_is_good(pngs, duiit, tiny):
    assert duiit("train", "--preset", tiny, "--dataroot", pngs, "--max_steps", 1) == 0


# -- data folders ------------------------------------------------------------------------------------------------

def test_missing_folder(train_refused, refused):
    assert train_refused("--dataroot", "nowhere") == "--dataroot nowhere: no such folder"
    assert refused("data", "check", "nowhere") == "--dataroot nowhere: no such folder"


def test_empty_folder(here, train_refused, refused):
    (here / "D").mkdir()
    assert "--target ct: D has no such folder" in train_refused("--dataroot", "D")
    assert "--dataroot D: holds no folder" in refused("data", "check", "D")


def test_empty_modality_folder(here, pngs, train_refused):
    shutil.rmtree(pngs / "mri")
    (pngs / "mri").mkdir()
    assert str(Path("D", "mri")) in train_refused("--dataroot", "D")


def test_no_source(pngs, train_refused):
    shutil.rmtree(pngs / "mri")
    assert "no source modality beside ct" in train_refused("--dataroot", "D")


def test_wrong_source_and_target(pngs, train_refused):
    assert train_refused("--dataroot", "D", "--sources", "pet").startswith("--sources pet: ")
    assert train_refused("--dataroot", "D", "--sources", "ct").startswith("--sources ct: ")
    assert train_refused("--dataroot", "D", "--target", "pet").startswith("--target pet: ")


def test_no_labels_file(pngs, train_refused):
    for modality in ("mri", "ct"):
        (pngs / modality / "labels.csv").unlink()
    message = train_refused("--dataroot", "D")
    assert "label" in message
    assert "labels.csv" in message
    assert "--lambda_pred 0" in message
    assert "--extra" in train_refused("--dataroot", "D", "--model", "predictor")


@pytest.mark.slow
def test_no_labels_are_needed_for_translation_alone(pngs, duiit, tiny, tiny_cycle_gan):
    for modality in ("mri", "ct"):
        (pngs / modality / "labels.csv").unlink()
    words = ["train", "--dataroot", pngs, "--max_steps", 1]
    assert duiit(*words, "--preset", tiny, "--lambda_pred", 0, "--name", "a") == 0
    assert duiit(*words, "--preset", tiny_cycle_gan, "--name", "b") == 0


def test_a_label_that_is_no_number(pngs, train_refused):
    table = pngs / "ct" / "labels.csv"
    table.write_text(table.read_text().replace("22", "old"))
    message = train_refused("--dataroot", "D")
    assert str(Path("D", "ct", "labels.csv")) in message
    assert "old" in message


def test_an_unreadable_image_is_named(pngs, train_refused, capsys, duiit):
    broken = pngs / "mri" / "mri3" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    assert str(broken.relative_to(pngs)) in train_refused("--dataroot", "D")
    capsys.readouterr()
    assert duiit("data", "check", "D") == 2
    assert str(broken.relative_to(pngs)) in capsys.readouterr().out


def test_an_extra_folder_that_is_not_there(pngs, train_refused):
    words = ("--dataroot", "D", "--model", "predictor")
    assert train_refused(*words, "--extra", "nowhere") == "--extra nowhere: no such folder"
    assert "--no_target" in train_refused(*words, "--no_target")


def test_a_class_alone(pngs, train_refused):
    for modality in ("mri", "ct"):
        rows = "".join(f"{modality}{n},ill\n" for n in range(5))
        (pngs / modality / "labels.csv").write_text("patient,label\n" + rows)
    assert "at least two classes" in train_refused("--dataroot", "D", "--task", "classification")


# -- options that do not fit the networks or one another -------------------------------------------------------------

@pytest.mark.parametrize(("words", "told"), [
    (("--crop_size", "30"), "30"),
    (("--netG", "unet_256"), "unet_256"),
    (("--netG", "resnet_blocks"), "resnet_blocks"),
    (("--netG", "gpt"), "gpt"),
    (("--lambda_identity", "0.5", "--output_nc", "3"), "--lambda_identity"),
    (("--lambda_pred", "-1"), "--lambda_pred"),
    (("--ct_window", "wide"), "--ct_window wide"),
    (("--slices", "some"), "--slices some"),
    (("--patient_regex", "("), "--patient_regex ("),
    (("--weights_P", "nowhere.pth"), "nowhere.pth"),
    (("--phase", "holiday"), "--phase: 'holiday' is not one of train"),
    (("--label_column", "weight"), "weight"),
    (("--lamda_pred", "1"), "unknown option --lamda_pred"),
    (("--crop_size", "64"), "--crop_size 64 is larger than --load_size 32"),
])
def test_options_that_cannot_work(pngs, train_refused, words, told):
    assert told in train_refused("--dataroot", "D", *words)


def test_several_sources_go_one_way_only(pngs, train_refused):
    shutil.copytree(pngs / "mri", pngs / "t2")
    assert "--direction BtoA" in train_refused("--dataroot", "D", "--direction", "BtoA")


# -- runs --------------------------------------------------------------------------------------------------------

@pytest.fixture
def run(here, trained):
    """A copy of the trained run, for one thing to be broken in; the words that name it."""
    shutil.copytree(trained, here / "runs")
    return ["--checkpoints_dir", "runs", "--name", "demo"]


def work(phantom, command):
    """The words that a command on a run needs besides."""
    source = {"translate": "mri", "predict": "ct"}.get(command)
    words = ["--input", phantom / source] if source else []
    return words + (["--output", "out"] if command == "translate" else [])


@pytest.mark.parametrize("command", ["test", "translate", "predict"])
def test_a_run_that_does_not_exist(here, run, refused, phantom, command):
    message = refused(command, "--checkpoints_dir", "runs", "--name", "demmo", *work(phantom, command))
    assert message == "--name demmo: no such run under runs; the runs there are demo (did you mean demo?)"
    assert [p.name for p in here.iterdir()] == ["runs"]


@pytest.mark.parametrize("command", ["test", "translate", "predict"])
@pytest.mark.parametrize(("words", "told"), [
    (("--netG", "resnet_2blocks", "--netP", "resnet18"), "another architecture"),
    (("--epoch", "7"), "7_net_"),
    (("--load_iter", "12"), "iter_12_net_")])
def test_weights_that_do_not_fit_or_are_not_there(here, run, refused, phantom, command, words, told):
    message = refused(command, *run, *work(phantom, command), *words)
    assert told in message
    assert "runs/demo" in message
    assert [p.name for p in here.iterdir()] == ["runs"]


def test_a_damaged_checkpoint_is_named(here, run, refused, phantom):
    path = here / "runs" / "demo" / "latest_net_P.pth"
    path.write_bytes(path.read_bytes()[:1000])
    assert "runs/demo/latest_net_P.pth" in refused("predict", *run, *work(phantom, "predict"))
    path.unlink()
    assert "runs/demo/latest_net_P.pth" in refused("predict", *run, *work(phantom, "predict"))


def test_going_on_with_nothing(here, refused, phantom, tiny):
    message = refused("train", "--continue_train", "--name", "demo", "--dataroot", phantom, "--preset", tiny)
    assert message.startswith("--name demo: no such run under checkpoints")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("command", ["translate", "predict"])
def test_input_that_is_not_there_or_holds_nothing(here, run, refused, phantom, command):
    (here / "empty").mkdir()
    words = [command, *run, *work(phantom, command)]
    for name in ("nowhere", "empty"):
        assert name in refused(*words, "--input", name)
    (here / "notes.txt").write_text("no image")
    assert "notes.txt" in refused(*words, "--input", "notes.txt")
    assert sorted(p.name for p in here.iterdir()) == ["empty", "notes.txt", "runs"]


def test_an_unreadable_input_leaves_no_output(here, run, refused, phantom):
    shutil.copytree(phantom / "mri", here / "mri")
    broken = sorted((here / "mri").rglob("*.tif"))[-1]
    broken.write_bytes(b"II*\0 and no more")
    assert broken.name in refused("translate", *run, "--input", "mri", "--output", "out")
    assert "ct.png" in refused("predict", *run, "--input", _text_image(here / "ct.png"), "--output", "ages.csv")
    assert sorted(p.name for p in here.iterdir()) == ["ct.png", "mri", "runs"]


def _text_image(path):
    path.write_text("no image at all")
    return path


@pytest.mark.slow
def test_commands_that_a_model_cannot_do(here, duiit, refused, phantom, tiny, tiny_cycle_gan):
    words = ["train", "--dataroot", phantom, "--max_steps", 1, "--sources", "mri"]
    assert duiit(*words, "--model", "predictor", "--preset", tiny, "--name", "p") == 0
    assert duiit(*words, "--preset", tiny_cycle_gan, "--name", "c") == 0
    assert "--name p: a run of --model predictor" in refused("translate", "--name", "p", *work(phantom, "translate"))
    assert "--name c: a run of --model cycle_gan" in refused("predict", "--name", "c", *work(phantom, "predict"))


def test_an_output_that_cannot_be_written(here, run, refused, phantom):
    (here / "file").write_text("mine")
    assert "file" in refused("translate", *run, "--input", phantom / "mri", "--output", "file")
    assert "file" in refused("predict", *run, "--input", phantom / "ct", "--output", "file/ages.csv")
    assert "file" in refused("train", "--continue_train", "--name", "demo", "--checkpoints_dir", "file")
    assert (here / "file").read_text() == "mine"


def test_phantom_where_something_lies(here, refused):
    (here / "mine").mkdir()
    (here / "mine" / "a.txt").write_text("a")
    assert "mine" in refused("data", "phantom", "--output", "mine")
    assert "--size" in refused("data", "phantom", "--size", "3")
    assert sorted(p.name for p in here.rglob("*")) == ["a.txt", "mine"]
