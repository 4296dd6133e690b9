"""Help, version and shell completion: what answers before any work, and how fast."""
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from duiit.options import TrainOptions
from duiit_cli.main import cli

DUIIT = str(Path(sys.executable).with_name("duiit"))


def help_of(capsys, duiit, *words):
    """The help page, as {title: text of the section}."""
    assert duiit(*words) == 0
    sections, title = {"": ""}, ""
    for line in capsys.readouterr().out.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            title = line[:-1]
        sections[title] = sections.get(title, "") + line + "\n"
    return sections


# -- help --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("command", ["train", "test", "translate", "predict", "evaluate", "experiment", "import",
                                     "export", "trust", "data check",
                                     "data phantom", "data", ""])
def test_every_command_has_help_without_a_run_or_data(tmp_path, monkeypatch, capsys, duiit, command):
    monkeypatch.chdir(tmp_path)
    warnings.simplefilter("error")       # click warns of an option that it finds twice; pytest restores the filters
    for flag in ("--help", "-h"):
        assert duiit(*command.split(), flag) == 0
        assert capsys.readouterr().out.startswith("Usage: duiit " + command)
    assert list(tmp_path.iterdir()) == []


def test_train_help_is_grouped_and_shows_the_chosen_model(capsys, duiit):
    page = help_of(capsys, duiit, "train", "--help")
    titles = "Run", "Data", "Images", "Labels and splits", "Networks", "Training", "Saving and resuming", "Watching"
    assert [title for title in page if title in titles] == list(titles)
    for name in ("--guidance", "--lambda_pred", "--netP", "--lambda_A", "--lr_P"):
        assert name in page["Model duiit"]
    assert "--netG" in page["Networks"]
    assert "--weight_decay" not in "".join(page.values())
    assert "[default: 16]" in page["Data"], "the default is the model's"


def test_help_of_another_model(capsys, duiit):
    page = help_of(capsys, duiit, "train", "--model", "predictor", "--help")
    assert "--weight_decay" in page["Model predictor"]
    assert "--extra" in page["Data set labelled"]
    assert "--guidance" not in "".join(page.values())


def test_help_survives_what_is_wrong_with_the_other_words(capsys, duiit):
    assert "Networks" in help_of(capsys, duiit, "train", "--preset", "nosuch", "--lr", "--help")
    assert "Translating" in help_of(capsys, duiit, "translate", "--name", "nosuch", "--help")


@pytest.mark.slow
def test_help_of_a_run_shows_its_model(capsys, duiit, trained):
    page = help_of(capsys, duiit, "predict", "--checkpoints_dir", trained, "--name", "demo", "-h")
    assert "--netP" in page["Model duiit"]


def test_without_a_command_help_goes_to_stderr(capsys, duiit):
    for words in ((), ("data",)):
        assert duiit(*words) == 2
        seen = capsys.readouterr()
        assert seen.err.startswith("Usage: duiit")
        assert seen.out == ""


@pytest.mark.parametrize(("words", "told"), [
    (("trian",), "unknown command trian (did you mean train?); there are train, test, translate, predict, "
     "evaluate, experiment, import, export, data, trust"),
    (("data", "chek"), "unknown command chek (did you mean check?); there are check, phantom"),
    (("--nope",), "--nope")])
def test_an_unknown_command_is_told_with_the_nearest(refused, words, told):
    assert told in refused(*words)


# -- quick answers -----------------------------------------------------------------------------------------------

def test_help_and_version_do_not_wait_for_torch():
    code = ("import sys, duiit_cli.main as m\n"
            "for words in (['--help'], ['--version'], ['data', '--help'], ['trian']):\n"
            "    try: m.main(words)\n"
            "    except SystemExit: pass\n"
            "sys.exit(bool({'torch', 'numpy', 'rich'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "duiit, version" in done.stdout


# -- the command line is the options class ------------------------------------------------------------------------

def test_the_command_gets_what_the_options_class_parses(monkeypatch, duiit, phantom, tiny):
    from duiit_cli.training import loop

    seen = []
    monkeypatch.setattr(loop, "train", lambda opt: seen.append(vars(opt)) or 0)
    words = ["--dataroot", str(phantom), "--preset", str(tiny), "--netG", "unet_128", "--lambda-pred=0.1",
             "--max_dataset_size", "inf", "--sources", "mri", "--no_flip", "--gpu_ids", "-1"]
    assert duiit("train", *words) == 0
    assert seen == [vars(TrainOptions().parse(words))]
    assert (seen[0]["netG"], seen[0]["lambda_pred"], seen[0]["ngf"]) == ("unet_128", 0.1, 4)


# -- shell completion --------------------------------------------------------------------------------------------

def complete(words, incomplete):
    return [item.value for item in BashComplete(cli, {}, "duiit", "_DUIIT_COMPLETE").get_completions(words, incomplete)]


@pytest.mark.parametrize(("words", "incomplete", "found"), [
    ([], "tr", ["train", "translate", "trust"]),
    (["data"], "", ["check", "phantom"]),
    (["train"], "--lambda_p", ["--lambda_pred"]),
    (["train"], "--lambda-p", ["--lambda_pred"]),
    (["train"], "--net", ["--netG", "--netD", "--netP"]),
    (["train", "--model", "predictor"], "--weight_", ["--weight_decay"]),
    (["train", "--model", "predictor"], "--guid", []),
    (["train", "--guidance"], "", ["joint", "real", "detached"]),
    (["train", "--lambda-pred", "1", "--guidance"], "d", ["detached"]),
    (["train"], "--direction=", ["AtoB", "BtoA"]),
    (["train", "--model"], "", ["cycle_gan", "dann", "duiit", "multitask", "predictor"]),
    (["train", "--dataset_mode"], "l", ["labelled"]),
    (["train", "--preset"], "pha", ["phantom"]),
    (["translate", "--name", "nosuch", "--format"], "n", ["npy", "nifti"])])
def test_completion(words, incomplete, found):
    assert complete(words, incomplete) == found


def test_completion_through_the_shell(tmp_path):
    """As bash calls it: words and the cursor's place in the environment, answers on stdout."""
    environment = {**os.environ, "_DUIIT_COMPLETE": "bash_complete", "COMP_WORDS": "duiit tr", "COMP_CWORD": "1"}
    done = subprocess.run([DUIIT], env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.stdout.split(), done.stderr) == (["plain,train", "plain,translate", "plain,trust"], "")
    environment["_DUIIT_COMPLETE"] = "bash_source"
    source = subprocess.run([DUIIT], env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert "complete -o nosort -F _duiit_completion duiit" in source.stdout
