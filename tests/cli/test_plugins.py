"""Models and data sets from a folder of the user's own, written for the toolkit and run as they are."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.shell_completion import BashComplete
from PIL import Image

from duiit.options import TestOptions, TrainOptions
from duiit.util import plugins
from duiit_cli.main import cli

MATERIAL = Path(__file__).parent.parent / "plugins"
OLD, NEW = MATERIAL / "toolkit", MATERIAL / "toolkit_2025"
SMALL = ["--device", "cpu", "--display_id", 0, "--no_html", "--num_threads", 0, "--ngf", 4, "--ndf", 4,
         "--netG", "resnet_1blocks", "--netD", "n_layers", "--n_layers_D", 1, "--load_size", 36, "--crop_size", 32,
         "--batch_size", 2, "--max_steps", 2, "--print_freq", 1]

# What files written for the toolkit may read off `opt`, when training and when testing.
BASE = """dataroot name gpu_ids checkpoints_dir model input_nc output_nc ngf ndf netD netG n_layers_D norm init_type
    init_gain no_dropout dataset_mode direction serial_batches num_threads batch_size load_size crop_size
    max_dataset_size preprocess no_flip display_winsize epoch load_iter verbose suffix phase isTrain"""
TRAIN = """display_freq display_ncols display_id display_server display_env display_port update_html_freq print_freq
    no_html save_latest_freq save_epoch_freq save_by_iter continue_train epoch_count n_epochs n_epochs_decay beta1 lr
    gan_mode pool_size lr_policy lr_decay_iters"""
TEST = "results_dir aspect_ratio eval num_test"


@pytest.fixture(autouse=True)
def _no_plugins_after():
    yield
    plugins.use(None)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Colour noise: train/ and test/ with A|B in one file, trainA, trainB, testA and testB with one file each."""
    root, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    for part, count in (("train", 3), ("test", 2)):
        for side, width in (("", 64), ("A", 32), ("B", 32)):
            for patient in ("p1", "p2"):
                folder = root / f"{part}{side}" / patient
                folder.mkdir(parents=True)
                for n in range(count):
                    pixels = rng.integers(0, 256, (32, width, 3), np.uint8)
                    Image.fromarray(pixels).save(folder / f"{n}.png")
    return root


def pictures(folder):
    return {p.relative_to(folder / "images").as_posix() for p in (folder / "images").rglob("*.png")}


# -- unmodified files ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("folder", "words", "networks", "first"), [
    (OLD, ["--model", "pix2pix"], {"G", "D"}, "test/p1/0_real_A.png"),
    (OLD, ["--model", "grey_to_colour", "--direction", "BtoA", "--output_nc", 1, "--input_nc", 1], {"G", "D"},
     "test/p1/0_shown.png"),
    (OLD, ["--model", "cycle_gan", "--dataset_mode", "aligned"], {"G_A", "G_B", "D_A", "D_B"}, "test/p1/0_rec_B.png"),
    (NEW, ["--model", "paired", "--invert_B", "--crop_size", 36], {"G", "D"}, "testA/p1/0_fake_B.png")])
def test_train_and_test(tmp_path, duiit, pairs, folder, words, networks, first):
    run = ["--checkpoints_dir", tmp_path / "runs", "--name", "mine"]
    assert duiit("train", "--plugins", folder, "--dataroot", pairs, *run, *SMALL, *words) == 0
    made = {p.stem.removeprefix("latest_net_") for p in (tmp_path / "runs" / "mine").glob("latest_net_*.pth")}
    assert made == networks
    assert duiit("test", *run, "--plugins", folder, "--results_dir", tmp_path / "results", "--device", "cpu") == 0
    shown = pictures(tmp_path / "results" / "mine" / "test_latest")
    assert first in shown
    assert len({name.rsplit("/", 1)[0] + name.split("/")[-1][0] for name in shown}) == 4, "every image of two patients"


def test_images_are_tested_whole_and_unflipped(tmp_path, duiit, pairs):
    run = ["--checkpoints_dir", tmp_path / "runs", "--name", "mine"]
    assert duiit("train", "--plugins", OLD, "--model", "pix2pix", "--dataroot", pairs, *run, *SMALL) == 0
    assert duiit("test", *run, "--plugins", OLD, "--results_dir", tmp_path, "--num_test", 1, "--device", "cpu") == 0
    folder = tmp_path / "mine" / "test_latest"
    assert len(pictures(folder)) == 3
    seen = np.asarray(Image.open(folder / "images" / "test" / "p1" / "0_real_A.png"))
    assert np.abs(seen.astype(int) - np.asarray(Image.open(pairs / "test" / "p1" / "0.png"))[:, :32]).max() <= 1


def test_a_run_goes_on_and_finds_its_plugins(tmp_path, monkeypatch, capsys, duiit, refused, pairs):
    folder = tmp_path / "plugins"
    shutil.copytree(NEW, folder)
    monkeypatch.chdir(tmp_path)
    words = ["--plugins", "plugins", "--model", "paired", "--dataroot", pairs, "--name", "mine", *SMALL]
    assert duiit("train", *words) == 0
    options = json.loads(Path("checkpoints", "mine", "train_opt.json").read_text())["options"]
    assert (options["plugins"], options["lambda_L1"], options["norm"]) == (str(folder), 10.0, "instance")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = ["--name", "mine", "--checkpoints_dir", tmp_path / "checkpoints"]
    assert duiit("train", *run, "--plugins", folder, "--continue_train", "--max_steps", 4) == 0
    assert duiit("trust", folder) == 0
    plugins.use(None)
    capsys.readouterr()
    assert duiit("train", *run, "--continue_train", "--max_steps", 6) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "duiit trust" in line]
    assert told == [f"--name mine: with the plug-ins in {folder}, a folder that you trust (duiit trust)"]
    folder.rename(tmp_path / "moved")
    message = refused("test", *run)
    assert message.startswith(f"--plugins {folder}: no such folder")
    assert "--plugins" in message.split(";")[1]
    assert duiit("test", *run, "--plugins", tmp_path / "moved") == 0


SPAWN = """
import multiprocessing, sys
from duiit_cli.main import main
if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main(sys.argv[1:])
"""


@pytest.mark.slow
def test_loader_processes_that_import_everything_anew(tmp_path, pairs):
    (tmp_path / "spawn.py").write_text(SPAWN)
    words = ["train", "--plugins", NEW, "--model", "paired", "--dataroot", pairs, *SMALL, "--num_threads", 1]
    done = subprocess.run([sys.executable, "spawn.py", *map(str, words)], cwd=tmp_path, env=os.environ, text=True,
                          capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_worked_example_of_the_documentation(tmp_path, duiit, phantom, tiny):
    text = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
    (tmp_path / "edge_duiit_model.py").write_text(text.split("```python\n")[1].split("```")[0])
    run = ["--checkpoints_dir", tmp_path / "runs", "--name", "edges", "--plugins", tmp_path]
    assert duiit("train", "--model", "edge_duiit", "--dataroot", phantom, "--sources", "mri", "--preset", tiny,
                 *run) == 0
    assert "edge: " in (tmp_path / "runs" / "edges" / "loss_log.txt").read_text()
    assert duiit("test", *run, "--results_dir", tmp_path / "results") == 0
    assert (tmp_path / "results" / "edges" / "test_latest" / "metrics.json").is_file()
    assert duiit("translate", *run, "--input", phantom / "mri", "--output", tmp_path / "synthetic") == 0


# -- what they may rely on -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("model", ["duiit", "cycle_gan", "predictor", "pix2pix"])
def test_the_toolkits_options_are_there(tmp_path, duiit, pairs, model):
    words = ["--plugins", str(OLD), "--model", model, "--dataroot", str(pairs), "--device", "cpu"]
    opt = TrainOptions().parse([*words, "--checkpoints_dir", str(tmp_path), "--name", "run"])
    assert not [name for name in f"{BASE} {TRAIN}".split() if not hasattr(opt, name)]
    from duiit.options import run_file

    run_file.write(tmp_path / "run", opt, "0")
    opt = TestOptions().parse(["--checkpoints_dir", str(tmp_path), "--name", "run", "--device", "cpu", "--plugins",
                               str(OLD)])
    assert not [name for name in f"{BASE} {TEST}".split() if not hasattr(opt, name)]


def test_names_in_help_completion_and_messages(capsys, duiit, refused, pairs):
    assert duiit("train", "--plugins", OLD, "--model", "pix2pix", "--help") == 0
    assert "--lambda_L1" in capsys.readouterr().out.split("Model pix2pix:")[1]
    complete = BashComplete(cli, {}, "duiit", "_DUIIT_COMPLETE").get_completions
    found = complete(["train", "--plugins", str(OLD), "--model"], "p")
    assert [item.value for item in found] == ["pix2pix", "predictor"]
    message = refused("train", "--plugins", NEW, "--model", "pix2pix", "--dataroot", pairs)
    assert message == "--model pix2pix: no such model; there are cycle_gan, dann, duiit, multitask, " \
        "paired, predictor"
    assert "pairs" in refused("train", "--plugins", NEW, "--dataset_mode", "aligned", "--dataroot", pairs)


# -- files with mistakes -------------------------------------------------------------------------------------------

GOOD = "from .base_model import BaseModel\n"
METHODS = "".join(f"    def {name}(self, *given): pass\n" for name in ("set_input", "forward", "optimize_parameters"))


@pytest.mark.parametrize(("text", "told"), [
    ("class FooModel(:\n", "line 1: SyntaxError: "),
    ("import nosuchpackage\n", "line 1: ModuleNotFoundError: No module named 'nosuchpackage'"),
    ("\nfrom .networks import nothing\n", "line 2: ImportError: cannot import name 'nothing'"),
    ("\nx = 1 / 0\n", "line 2: ZeroDivisionError: division by zero"),
    (GOOD + "class FooModelV2(BaseModel): pass\n", "holds no BaseModel whose lower-case name is foomodel"),
    (GOOD + "class FooModel(BaseModel): pass\n", "FooModel does not define forward, optimize_parameters, set_input"),
    (GOOD + "class FooModel(BaseModel):\n" + METHODS + "    @staticmethod\n"
     "    def modify_commandline_options(parser, is_train): return nosuchname\n", "line 7: NameError: ")])
def test_a_mistake_in_a_file_is_one_line(tmp_path, monkeypatch, refused, pairs, text, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foo_model.py").write_text(text)
    message = refused("train", "--plugins", tmp_path, "--model", "foo", "--dataroot", pairs)
    assert str(tmp_path / "foo_model.py") in message
    assert told in message
    assert not Path("checkpoints").exists()


def test_a_mistake_in_a_file_that_another_imports(tmp_path, refused, pairs):
    (tmp_path / "foo_model.py").write_text("from .foo_parts import layer\n")
    (tmp_path / "foo_parts.py").write_text("layer = [\n")
    message = refused("train", "--plugins", tmp_path, "--model", "foo", "--dataroot", pairs)
    assert message.startswith(f"{tmp_path / 'foo_parts.py'}, line 1: SyntaxError")


def test_a_missing_folder(tmp_path, refused, pairs):
    message = refused("train", "--plugins", tmp_path / "no", "--dataroot", pairs)
    assert message.startswith(f"--plugins {tmp_path / 'no'}: no such folder")


# -- names ---------------------------------------------------------------------------------------------------------

def test_own_names_win_and_say_so(tmp_path, capsys, duiit):
    (tmp_path / "models").mkdir()
    for name in ("cycle_gan_model", "networks", "base_model"):
        (tmp_path / "models" / f"{name}.py").write_text("raise RuntimeError('of the plug-ins')\n")
    assert duiit("train", "--plugins", tmp_path, "--model", "cycle_gan", "--help") == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert str(tmp_path / "models" / "cycle_gan_model.py") in warnings[0]


def test_another_folder_takes_the_place_of_the_first(tmp_path):
    from duiit.models import find_model_using_name, model_names

    found = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "foo_model.py").write_text(
            GOOD + "from .helper import here\nclass FooModel(BaseModel):\n    here = here\n" + METHODS)
        (tmp_path / folder / "helper.py").write_text(f"here = {folder!r}\n")
        plugins.use(tmp_path / folder)
        found.append(find_model_using_name("foo").here)
    assert found == ["a", "b"]
    plugins.use(None)
    assert "foo" not in model_names()
    assert "duiit.models.foo_model" not in sys.modules


# -- what a data set of the toolkit does not say -------------------------------------------------------------------

def test_a_data_set_without_facts_serves_what_needs_none(tmp_path, duiit, refused, pairs):
    words = ["train", "--plugins", OLD, "--dataset_mode", "aligned", "--dataroot", pairs, "--checkpoints_dir", tmp_path,
             *SMALL, "--input_nc", 3, "--output_nc", 3, "--netP", "resnet10"]
    assert duiit(*words, "--model", "duiit", "--lambda_pred", 0, "--name", "translator") == 0
    assert set(json.loads((tmp_path / "translator" / "facts.json").read_text())) == {"batches_in_epoch"}
    assert "no training image" in refused(*words, "--model", "duiit", "--name", "both")
    message = refused("translate", "--checkpoints_dir", tmp_path, "--name", "translator", "--plugins", OLD,
                      "--sources", "A",
                      "--input", pairs / "testA", "--output", tmp_path / "out")
    assert message.startswith(f"{tmp_path / 'translator' / 'facts.json'}: does not say target_range")


# -- where plug-ins may stand --------------------------------------------------------------------------------------

def test_a_plugin_may_be_a_link_and_its_name_have_capitals(tmp_path):
    from duiit.models import find_model_using_name

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "MyNet_model.py").write_text(
        "from models.base_model import BaseModel\n\n\nclass MyNetModel(BaseModel):\n" + METHODS)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "MyNet_model.py").symlink_to(tmp_path / "elsewhere" / "MyNet_model.py")
    plugins.use(tmp_path / "linked")
    assert find_model_using_name("MyNet").__name__ == "MyNetModel"


def test_duiit_itself_may_be_installed_below_the_folder(tmp_path):
    """--plugins . in a project whose .venv holds DUIIT: its own modules are no plug-ins."""
    from duiit.models import model_names

    own = Path(plugins.__file__).parent
    (tmp_path / "foo_model.py").write_text(GOOD + "class FooModel(BaseModel):\n" + METHODS)
    plugins.use(own.parent)                             # the folder that DUIIT's packages are in
    assert not plugins._is_plugin(str(own / "errors.py"))
    plugins.use(tmp_path)
    assert "duiit.util.errors" in sys.modules
    plugins.use(None)
    assert "cycle_gan" in model_names()
    plugins.use(tmp_path)
    assert plugins._is_plugin(str(tmp_path / "foo_model.py"))
