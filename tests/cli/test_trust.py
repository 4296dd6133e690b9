"""A run's folder that somebody else made runs none of its programs unless the user says so, and decides nothing that
is the user's to decide."""
import json
import os
import shutil

import pytest
from click.shell_completion import BashComplete

from duiit.options import PredictOptions, TrainOptions, TranslateOptions
from duiit.util import plugins, trust
from duiit.util.errors import UserError
from duiit_cli.main import cli

# Leaves a mark when it is imported.
PLUGIN = """
from pathlib import Path
Path({mark!r}).write_text("imported")
from .duiit_model import DuiitModel
class FooModel(DuiitModel):
    pass
"""


@pytest.fixture(autouse=True)
def _own_list(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    plugins.use(None)
    yield
    plugins.use(None)


@pytest.fixture
def mark(tmp_path):
    """The file that is there once the plug-in was imported."""
    return tmp_path / "mark"


@pytest.fixture
def folder(tmp_path, mark):
    """A plug-in folder."""
    (tmp_path / "plugins" / "models").mkdir(parents=True)
    (tmp_path / "plugins" / "models" / "foo_model.py").write_text(PLUGIN.format(mark=str(mark)))
    return tmp_path / "plugins"


@pytest.fixture
def rewrite(tmp_path, trained):
    """rewrite(**options) -> the words that name a copy of the trained run whose train_opt.json says so."""
    def change(**options):
        shutil.copytree(trained, tmp_path / "runs", dirs_exist_ok=True)
        path = tmp_path / "runs" / "demo" / "train_opt.json"
        said = json.loads(path.read_text())
        said["options"] |= options
        path.write_text(json.dumps(said))
        return ["--checkpoints_dir", tmp_path / "runs", "--name", "demo"]
    return change


@pytest.fixture
def received(rewrite, folder):
    """The words that name a run of the plug-in's model."""
    return rewrite(model="foo", plugins=str(folder))


def calls(phantom, tmp_path):
    return {"predict": ["--input", phantom / "ct"], "test": ["--results_dir", tmp_path / "results"],
            "translate": ["--input", phantom / "mri", "--output", tmp_path / "out"],
            "evaluate": ["--real", phantom / "ct", "--fake", phantom / "ct"],
            "export": ["--output", tmp_path / "net.onnx"], "train": ["--continue_train"]}


@pytest.mark.parametrize("command", ["predict", "test", "translate", "evaluate", "export", "train"])
def test_a_run_imports_no_plugin_unasked(tmp_path, received, refused, folder, mark, phantom, command):
    message = refused(command, *received, *calls(phantom, tmp_path)[command])
    assert message.startswith(f"--name demo: names the plug-ins in {folder}")
    assert message.endswith(f"add --plugins {folder}, or once for all: duiit trust {folder}")
    assert not mark.exists()


def test_help_and_completion_import_nothing_that_a_run_names(received, duiit, folder, mark, capsys):
    assert duiit("trust", folder) == 0
    capsys.readouterr()
    words = [str(w) for w in received]
    for command in ("predict", "translate", "train"):
        assert duiit(command, *words, *["--continue_train"] * (command == "train"), "--help") == 0
        assert f"they are with --plugins {folder}" in capsys.readouterr().out
        complete = BashComplete(cli, {}, "duiit", "_DUIIT_COMPLETE").get_completions
        assert complete([command, *words], "--ver")
        assert [c.value for c in complete([command, *words, "--plugins", str(folder), "--model"], "fo")] == ["foo"]
        assert complete([command, *words, "--plugins", str(folder), "--model", "foo"], "--ver")
    assert not mark.exists()


def test_both_ways_out(received, duiit, folder, mark, phantom, capsys):
    assert duiit("predict", *received, "--input", phantom / "ct", "--plugins", folder) == 0
    assert mark.exists()
    assert "duiit trust" not in capsys.readouterr().err
    plugins.use(None)
    assert duiit("trust", folder) == 0
    assert duiit("predict", *received, "--input", phantom / "ct") == 0
    assert f"with the plug-ins in {folder}, a folder that you trust" in capsys.readouterr().err


def test_from_python(received, folder, mark):
    import duiit

    _, place, _, name = received
    with pytest.raises(UserError, match="names the plug-ins in"):
        duiit.load(name, place)
    assert not mark.exists()
    assert duiit.load(name, place, plugins=folder).options.model == "foo"


def test_a_relative_path_means_nothing(tmp_path, monkeypatch, rewrite, refused, duiit, folder, mark, phantom):
    monkeypatch.chdir(tmp_path)
    assert duiit("trust", "plugins") == 0
    run = rewrite(model="foo", plugins="plugins")
    assert "by a relative path" in refused("predict", *run, "--input", phantom / "ct")
    assert not mark.exists()


def test_a_preset_is_no_word_of_the_user(tmp_path, refused, folder, mark, phantom):
    preset = tmp_path / "theirs.toml"
    preset.write_text(f'plugins = "{folder}"\nmodel = "foo"\n')
    message = refused("train", "--dataroot", phantom, "--preset", preset)
    assert message.startswith(f"--preset {preset}: names the plug-ins in {folder}")
    message = refused("experiment", "--dataroot", phantom, "--output", tmp_path / "e", "--preset", preset)
    assert message.startswith(f"--preset {preset}: names the plug-ins in {folder}")
    preset.write_text(f'[translator]\nplugins = "{folder}"\n')
    assert "names plugins" in refused("experiment", "--dataroot", phantom, "--output", tmp_path / "e", "--preset",
                                      preset, "--methods", "cyclegan_mri")
    assert not mark.exists()


def test_an_experiments_folder_is_no_word_of_the_user(tmp_path, refused, folder, mark, phantom):
    root = tmp_path / "experiment"
    root.mkdir()
    given = {"plugins": str(folder), "dataroot": str(phantom)}
    (root / "experiment.json").write_text(json.dumps({"given": given, "created": "", "settings": {"splits": 1},
                                                      "methods": []}))
    assert refused("experiment", "--output", root).startswith(f"--output {root}: names the plug-ins in {folder}")
    assert not mark.exists()


def test_the_parts_of_an_experiment_are_told_its_plugins(tmp_path, folder, phantom):
    from duiit.options import ExperimentOptions
    from duiit_cli.experiments.planning import methods, plan

    opt = ExperimentOptions().parse(["--dataroot", str(phantom), "--output", str(tmp_path / "e"), "--plugins",
                                     str(folder), "--splits", "1", "--methods", "pure_ct"])
    whole = plan.Plan(opt, methods.choose("pure_ct", ["mri", "pet"], phantom)[0])
    task = whole.tasks["cells/pure_ct/split_00"]
    assert f"--plugins={folder}" in task.words
    assert f"--plugins={folder}" in task.run_words(tmp_path)


def test_a_report_of_somebodys_experiment_runs_nothing(folder, mark):
    from duiit_cli.experiments.reporting import provenance

    assert provenance._defaults({"model": "foo", "plugins": str(folder)}) is None
    assert not mark.exists()
    trust.add(folder)
    assert provenance._defaults({"model": "foo", "plugins": str(folder)})["netG"] == "resnet_9blocks"


# -- the list --------------------------------------------------------------------------------------------------------

def test_the_list(tmp_path, duiit, refused, folder, capsys):
    assert duiit("trust", "--list") == 0
    assert capsys.readouterr().out == ""
    (tmp_path / "link").symlink_to(folder)
    assert duiit("trust", tmp_path / "link") == 0
    assert duiit("trust", folder) == 0
    capsys.readouterr()
    assert duiit("trust", "--list") == 0
    assert capsys.readouterr().out.split() == [str(folder)]
    assert json.loads(trust.list_file().read_text()) == {"folders": [str(folder)]}
    shutil.rmtree(folder)
    assert duiit("trust", "--remove", folder) == 0
    assert trust.folders() == []
    assert "is not on the list" in refused("trust", "--remove", folder)
    assert "no such folder" in refused("trust", folder)
    for words in ((), ("--list", folder), ("--list", "--remove")):
        assert refused("trust", *words).startswith("trust: give a folder")


def test_a_link_that_leads_elsewhere_by_now(tmp_path, folder):
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(folder)
    trust.add(tmp_path / "link")
    assert trust.is_trusted(tmp_path / "link")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "other")
    assert not trust.is_trusted(tmp_path / "link")
    shutil.move(folder, tmp_path / "moved")
    folder.symlink_to(tmp_path / "other")
    assert not trust.is_trusted(folder)
    assert not trust.is_trusted(tmp_path / "moved"), "a folder on the list is no other folder"
    assert not trust.is_trusted(tmp_path), "nor one above it"


@pytest.mark.skipif(os.name != "posix", reason="rights of files as POSIX has them")
@pytest.mark.parametrize("place", ["", "models", "models/foo_model.py", ".."])
def test_a_folder_that_all_may_write_to(folder, refused, received, phantom, mark, place):
    trust.add(folder)
    (folder / place).chmod(0o777)
    for words in (("trust", folder), ("predict", *received, "--input", phantom / "ct")):
        assert f"every user of this machine may change {(folder / place).resolve()}" in refused(*words)
    assert not mark.exists()


def test_a_damaged_list_trusts_nothing(folder, refused):
    trust.add(folder)
    for text in ("", "[]", '{"folders": "/"}', '{"folders": [1]}'):
        trust.list_file().write_text(text)
        assert refused("trust", "--list").startswith(f"{trust.list_file()} is damaged")


# -- what a run may not decide -----------------------------------------------------------------------------------------

def test_a_run_does_not_decide_what_is_overwritten_or_shown(rewrite):
    """These are no options of training: whoever finds them in a run's train_opt.json finds somebody's own additions."""
    words = [str(w) for w in rewrite(force=True, keep_identity=True, output="/etc", input="/", format="dicom",
                                     per_slice=True)]
    opt = TranslateOptions().parse([*words, "--input", "mri", "--output", "out"])
    assert (opt.force, opt.keep_identity, opt.format, opt.output) == (False, False, "png", "out")
    opt = PredictOptions().parse([*words, "--input", "ct"])
    assert (opt.output, opt.per_slice) == (None, False)


def test_a_run_does_not_say_whom_images_are_sent_to(rewrite):
    words = [str(w) for w in rewrite(display_server="http://elsewhere.example", display_port=80)]
    opt = TrainOptions().parse([*words, "--continue_train"])
    assert (opt.display_server, opt.display_port) == ("http://localhost", 8097)
