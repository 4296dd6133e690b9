"""Numbers that are not finite, changed options, early stopping: what a run says, and what it keeps."""
import csv
import shutil

import pytest
import torch

from duiit.util import states


@pytest.fixture
def begin(tmp_path, phantom, tiny):
    """begin(*more) -> the words of a small run `run` of the predictor under tmp_path."""
    def words(*more):
        return ["train", "--model", "predictor", "--dataroot", phantom, "--preset", tiny, "--max_steps", 6,
                "--val_freq", 0, "--checkpoints_dir", tmp_path, "--name", "run", *more]
    return words


@pytest.fixture
def go_on(tmp_path):
    return lambda *more: ["train", "--name", "run", "--checkpoints_dir", tmp_path, "--continue_train", *more]


@pytest.fixture
def bad_numbers(monkeypatch):
    """bad_numbers(*calls): the loss is NaN in these calls, counted from 1."""
    from duiit.models.networks.losses import PredictionLoss

    real, count = PredictionLoss.forward, [0]

    def spoil(*calls):
        def forward(self, prediction, target):
            count[0] += 1
            return real(self, prediction, target) * (float("nan") if count[0] in calls else 1.0)
        monkeypatch.setattr(PredictionLoss, "forward", forward)
    return spoil


def rows(folder):
    return list(csv.DictReader((folder / "run" / "loss_log.csv").open()))


def weights(folder):
    return torch.load(folder / "run" / states.LATEST)["weights"]["P"]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, refused, begin, bad_numbers, duiit, go_on):
    bad_numbers(4)
    message = refused(*begin("--save_latest_freq", 3))
    assert message.startswith("loss P is not a finite number at epoch 1, step 4 (images ")
    assert str(tmp_path / "run") in message
    named = message.partition("(images ")[2].partition(")")[0].split(", ")
    assert len(named) == 2
    assert all(".nii" in path for path in named)
    state = torch.load(tmp_path / "run" / states.LATEST)
    assert state["steps"] == 3
    assert all(value.isfinite().all() for value in state["weights"]["P"].values())
    assert duiit(*go_on()) == 0


@pytest.mark.slow
def test_a_step_that_is_not_finite_is_undone(tmp_path, capsys, begin, bad_numbers, duiit, go_on):
    assert duiit(*begin("--max_steps", 2)) == 0
    before = weights(tmp_path)
    bad_numbers(1)
    assert duiit(*go_on("--max_steps", 3, "--on_nan", "skip")) == 0
    assert "warning: loss P is not a finite number at epoch 1, step 3" in capsys.readouterr().err
    after = torch.load(tmp_path / "run" / states.LATEST)
    assert (after["steps"], after["skipped"]) == (3, [1, 1])
    assert all(torch.equal(after["weights"]["P"][key], value) for key, value in before.items())
    assert duiit(*go_on("--max_steps", 4)) == 0
    after = torch.load(tmp_path / "run" / states.LATEST)
    assert after["skipped"] == [1, 0]
    assert all(value.isfinite().all() for value in after["weights"]["P"].values())


@pytest.mark.slow
def test_too_many_in_a_row_stop_the_run(refused, begin, bad_numbers):
    bad_numbers(*range(2, 30))
    message = refused(*begin("--on_nan", "skip", "--max_steps", 30, "--n_epochs", 30))
    assert "step 11 " in message
    assert "as in the 9 steps before" in message


def test_norms_and_balance_are_logged(trained):
    found = next(csv.DictReader((trained / "demo" / "loss_log.csv").open()))
    for name in ("norm_G", "norm_D", "norm_P"):
        assert float(found[name]) > 0
    discriminators, generators = (sum(float(found[f"{k}_{x}"]) for x in "AB") for k in "DG")
    assert float(found["balance"]) == pytest.approx(discriminators / generators)


@pytest.mark.slow
def test_early_stopping(tmp_path, capsys, begin, duiit, go_on):
    words = begin("--max_steps", 0, "--n_epochs", 50, "--lr", 0, "--early_stop", 2)
    words[words.index("--val_freq") + 1] = 1
    assert duiit(*words) == 0
    assert "stopped early" in capsys.readouterr().err
    state = torch.load(tmp_path / "run" / states.LATEST)
    assert (state["stale"], state["batches_done"]) == (2, 0)
    assert state["epoch"] < 10
    assert torch.load(tmp_path / "run" / states.BEST)["epoch"] <= state["epoch"] - 2
    assert duiit(*go_on()) == 0, "an early stop is an end: nothing more is trained"
    assert torch.load(tmp_path / "run" / states.LATEST)["steps"] == state["steps"]


@pytest.mark.parametrize("words", [["--val_freq", 0], ["--val_freq", 1, "--val_fraction", 0],
                                   ["--val_freq", 1, "--model", "duiit", "--lambda_pred", 0]])
def test_plateau_needs_a_validation(refused, begin, words):
    assert "--lr_policy plateau: nothing is validated" in refused(*begin("--lr_policy", "plateau", *words))


def test_early_stopping_needs_a_validation(refused, begin):
    assert "--early_stop 3: nothing is validated" in refused(*begin("--early_stop", 3))


@pytest.mark.slow
@pytest.mark.parametrize(("option", "value"), [
    ("lr", 0.5), ("seed", 3), ("batch_size", 3), ("n_epochs", 7), ("loss_P", "l1"), ("no_flip", None)])
def test_options_that_change_the_run_are_refused(refused, begin, duiit, go_on, option, value):
    assert duiit(*begin("--max_steps", 1)) == 0
    more = [f"--{option}"] + ([value] if value is not None else [])
    assert refused(*go_on(*more)).startswith(f"--{option}: the run goes on as it began")


@pytest.mark.slow
def test_options_of_speed_and_logging_are_taken(tmp_path, begin, duiit, go_on):
    assert duiit(*begin("--max_steps", 1)) == 0
    assert duiit(*go_on("--max_steps", 3, "--num_threads", 1, "--print_freq", 2, "--keep", 1, "--save_every_minutes",
                        0.0001, "--save_latest_freq", 2)) == 0
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2"]
    assert not list((tmp_path / "run").glob(f"{states.LATEST}.*"))


@pytest.mark.slow
def test_other_data_are_refused(tmp_path, refused, begin, duiit, go_on, phantom):
    moved = tmp_path / "moved"
    shutil.copytree(phantom, moved)
    assert duiit(*begin("--max_steps", 1)) == 0
    assert duiit(*go_on("--dataroot", moved, "--max_steps", 2)) == 0
    table = next((moved / "ct").glob("*.csv"))
    table.write_text(table.read_text().replace("1", "7"))
    message = refused(*go_on("--dataroot", moved, "--max_steps", 3))
    assert message.startswith(f"--dataroot {moved}: these are not the data that the run began with")


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--epoch_count", 2), ("--epoch", "3"), ("--load_iter", 4)])
def test_fine_tuning_starts_from_weights_alone(tmp_path, begin, duiit, go_on, words):
    assert duiit(*begin("--max_steps", 0, "--n_epochs", 3, "--save_by_iter", "--save_latest_freq", 4)) == 0
    assert duiit(*go_on(*words, "--lr", 0.5, "--max_steps", 1)) == 0
    state = torch.load(tmp_path / "run" / states.LATEST)
    assert state["steps"] == 1
    assert state["model"]["optimizers"][0]["param_groups"][0]["lr"] == 0.5
