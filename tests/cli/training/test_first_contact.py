"""What somebody sees who trains for the first time, or goes the wrong way: one line with the way on."""
import json
import logging
import shutil

import pytest
import torch

from duiit.util import run_status
from duiit_cli.training import outlook


@pytest.fixture
def copied(tmp_path, trained):
    """The run `demo`, to be changed."""
    shutil.copytree(trained / "demo", tmp_path / "demo")
    return tmp_path / "demo"


def go_on(duiit, run, *more):
    return duiit("train", "--name", "demo", "--checkpoints_dir", run.parent, "--continue_train", *more)


# -- a first run -------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_a_long_training_is_told_before_its_first_step_and_is_not_changed_by_that(tmp_path, monkeypatch, caplog, duiit,
                                                                                 phantom, tiny, trained):
    monkeypatch.setattr(outlook, "LARGE", 1)
    monkeypatch.setattr(outlook, "LONG", 0)
    with caplog.at_level(logging.INFO):
        assert duiit("train", "--dataroot", phantom, "--preset", tiny, "--sources", "mri", "--name", "demo",
                     "--checkpoints_dir", tmp_path) == 0
    said = [r.getMessage() for r in caplog.records]
    parts = ["reading the data", "building the networks", "timing one image", "a step of 2 images takes about",
             "this will take about", "first step"]
    places = [next(i for i, line in enumerate(said) if line.startswith(part)) for part in parts]
    assert places == sorted(places)
    assert "--preset phantom" in said[places[4]]
    for path in (trained / "demo").glob("latest_net_*.pth"):
        assert path.read_bytes() == (tmp_path / "demo" / path.name).read_bytes()


def test_no_estimate_where_the_model_takes_no_such_batch(monkeypatch, caplog):
    monkeypatch.setattr(outlook, "create_model", lambda opt: 1 / 0)
    opt = type("Options", (), {"device": "cpu", "batch_size": 16})()
    state = torch.get_rng_state()
    with caplog.at_level(logging.INFO):
        outlook.announce(opt, {"A": torch.zeros(16, 1, 256, 256), "A_paths": []}, 10)
    assert "takes about" not in caplog.text
    assert torch.equal(torch.get_rng_state(), state)


# -- going on with what is done ----------------------------------------------------------------------------------

def test_a_finished_run_says_that_it_is_complete_and_what_trains_longer(copied, monkeypatch, capsys, duiit):
    monkeypatch.setattr("duiit_cli.training.loop.create_dataset", lambda opt: pytest.fail("it read the data"))
    before = (copied / "latest_state.pth").stat().st_mtime_ns
    assert go_on(duiit, copied) == 0
    told = capsys.readouterr().err
    assert "demo is already complete: 3 steps are trained. To train longer, give a larger --max_steps" in told
    assert (copied / "latest_state.pth").stat().st_mtime_ns == before


def test_a_run_of_before_that_has_no_status_is_complete_as_well(copied, capsys, duiit):
    (copied / run_status.NAME).unlink()
    assert go_on(duiit, copied) == 0
    assert "already complete" in capsys.readouterr().err


def test_what_was_stopped_behind_its_last_step_is_brought_to_its_end(copied, duiit):
    said = run_status.read(copied)
    (copied / run_status.NAME).write_text(json.dumps({**said, "state": "running"}))
    (copied / "calibration_latest.json").unlink()
    assert go_on(duiit, copied) == 0
    assert (copied / "calibration_latest.json").is_file()
    assert run_status.read(copied)["state"] == "finished"


def test_another_number_of_threads_is_told(copied, capsys, duiit):
    threads = torch.get_num_threads()
    try:
        assert go_on(duiit, copied, "--max_steps", "4", "--threads", "2") == 0
    finally:
        torch.set_num_threads(threads)
    assert "the run began with 1 threads and goes on with 2" in capsys.readouterr().err


# -- wrong ways --------------------------------------------------------------------------------------------------

def test_weights_that_are_not_there_are_answered_with_those_that_are(trained, refused, phantom):
    told = refused("predict", "--name", "demo", "--checkpoints_dir", trained, "--epoch", "7", "--input", phantom / "ct")
    assert "there are best, latest" in told or "there are latest" in told


def test_a_run_without_weights_says_how_to_go_on(copied, refused, phantom):
    for path in copied.glob("*_net_*.pth"):
        path.unlink()
    told = refused("predict", "--name", "demo", "--checkpoints_dir", copied.parent, "--input", phantom / "ct")
    assert "nothing was saved yet" in told
    assert "--continue_train" in told


def test_a_run_given_as_the_folder_of_runs(trained, refused, phantom):
    told = refused("predict", "--name", "demo", "--checkpoints_dir", trained / "demo", "--input", phantom / "ct")
    assert f"is a run itself: give --checkpoints_dir {trained} --name demo" in told


@pytest.mark.parametrize("where", ["name", "folder"])
def test_an_experiment_given_as_a_run(tmp_path, refused, phantom, where):
    run = tmp_path / "E" / "cells" / "duiit" / "split_00"
    run.mkdir(parents=True)
    (run / "train_opt.json").write_text("{}")
    (tmp_path / "E" / "plan.json").write_text("{}")
    root, name = (tmp_path, "E") if where == "name" else (tmp_path / "E", "duiit")
    told = refused("predict", "--name", name, "--checkpoints_dir", root, "--input", phantom / "ct")
    assert f"is an experiment: its runs are such as --checkpoints_dir {run.parent} --name split_00" in told
