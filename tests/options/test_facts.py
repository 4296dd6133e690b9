"""What the data said: kept beside the options, read back, found in runs of before, refused where it is missing."""
import json

import pytest

from duiit.options import TestOptions, TrainOptions, run_file
from duiit.util.errors import UserError
from duiit.util.facts import Facts

SAID = Facts(labels_known=7, label_mean=51.5, label_std=9.25, classes=("old", "young"), batches_in_epoch=3,
             target_range=(0.0, 80.0, "HU"), label_stats={"ct": {"known": 7, "mean": 51.5, "std": 9.25}})


@pytest.fixture
def run(tmp_path):
    """The folder of the run `one`, whose data said SAID."""
    opt = TrainOptions().parse(["--dataroot", "somewhere", "--device", "cpu", "--model", "cycle_gan", "--ngf", "7"])
    opt.facts = SAID
    run_file.write(tmp_path / "one", opt, "0")
    return tmp_path / "one"


def made_older(run):
    """As DUIIT left a run before: what the data said stands among the options."""
    path = run / "train_opt.json"
    whole = json.loads(path.read_text())
    whole["options"] |= json.loads((run / "facts.json").read_text())
    path.write_text(json.dumps(whole))
    (run / "facts.json").unlink()
    return run


def options_for_testing(run):
    return TestOptions().parse(["--checkpoints_dir", str(run.parent), "--name", run.name, "--device", "cpu"])





def test_facts_and_options_stand_in_files_of_their_own(run):
    options = json.loads((run / "train_opt.json").read_text())["options"]
    facts = json.loads((run / "facts.json").read_text())
    assert options["ngf"] == 7 and not set(options) & set(facts) and "facts" not in options
    assert facts["classes"] == ["old", "young"] and "file" not in facts
    assert run_file.read_facts(run.parent, "one") == SAID


@pytest.mark.parametrize("older", [False, True])
def test_commands_on_a_run_find_them(run, older):
    opt = options_for_testing(made_older(run) if older else run)
    assert opt.facts == SAID and opt.ngf == 7
    assert not [name for name in ("label_mean", "classes", "target_range", "labels_known") if hasattr(opt, name)]
    assert not set(run_file.read(run.parent, "one")) & set(SAID.said())


def test_a_plug_ins_option_may_have_the_name_of_a_fact(run):
    path = run / "train_opt.json"
    whole = json.loads(path.read_text())
    whole["options"]["classes"] = 12
    path.write_text(json.dumps(whole))
    assert run_file.read(run.parent, "one")["classes"] == 12


def test_a_new_run_begins_without(run):
    assert TrainOptions().parse(["--dataroot", "somewhere", "--device", "cpu"]).facts == Facts()


def test_what_is_missing_is_refused_with_its_file(run):
    (run / "facts.json").unlink()
    facts = options_for_testing(run).facts
    assert facts == Facts()
    with pytest.raises(UserError, match=r"one/facts\.json: does not say target_range.*restore the file"):
        facts.need("target_range")
    with pytest.raises(UserError, match="--dataset_mode: the data set does not say classes.*docs/plugins.md"):
        Facts().need("classes")


@pytest.mark.parametrize("text", ["", "{", "3", "[1]", "\xff"])
def test_a_damaged_file_is_named(run, text):
    (run / "facts.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"facts\.json is damaged"):
        options_for_testing(run)
