"""Runs of before, which kept what the data said among their options."""
import json
import shutil

import pytest

from duiit.util import checkpoint


@pytest.fixture
def older(tmp_path, trained):
    """The words that name a run as it was left before."""
    run = tmp_path / "runs" / "demo"
    shutil.copytree(trained / "demo", run)
    path, facts = run / "train_opt.json", run / "facts.json"
    whole = json.loads(path.read_text())
    whole["options"] |= json.loads(facts.read_text())
    path.write_text(json.dumps(whole))
    facts.unlink()
    return ["--checkpoints_dir", tmp_path / "runs", "--name", "demo"]


@pytest.mark.slow
def test_they_are_used_like_others(tmp_path, capsys, duiit, older, trained, phantom):
    now, answers = ["--checkpoints_dir", trained, "--name", "demo"], []
    for number, run in enumerate((older, now)):
        assert duiit("test", *run, "--results_dir", tmp_path / f"results{number}", "--device", "cpu") == 0
        assert duiit("translate", *run, "--input", phantom / "mri", "--output", tmp_path / f"ct{number}") == 0
        file = tmp_path / f"{number}.pt"
        assert duiit("export", *run, "--net", "G", "--format", "torchscript", "--output", file) == 0
        capsys.readouterr()
        assert duiit("predict", *run, "--input", phantom / "ct", "--device", "cpu") == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    for name in ("metrics.json", "predictions.csv"):
        one, other = (tmp_path / f"results{n}" / "demo" / "test_latest" / name for n in (0, 1))
        assert one.read_text() == other.read_text()
    files = sorted(p.relative_to(tmp_path / "ct0") for p in (tmp_path / "ct0").rglob("*.*"))
    assert files and all((tmp_path / "ct0" / f).read_bytes() == (tmp_path / "ct1" / f).read_bytes() for f in files)


@pytest.mark.slow
def test_they_go_on_with_their_data_and_with_no_other(tmp_path, duiit, refused, older):
    path = tmp_path / "runs" / "demo" / "train_opt.json"
    before = path.read_text()
    whole = json.loads(before)
    whole["options"]["label_mean"] += 1
    path.write_text(json.dumps(whole))
    message = refused("train", *older, "--continue_train", "--max_steps", 4)
    assert "these are not the data that the run began with (another label_mean)" in message
    path.write_text(before)
    assert duiit("train", *older, "--continue_train", "--max_steps", 4) == 0
    assert json.loads(path.with_name("facts.json").read_text())["target_range"] == [-20.0, 100.0, "HU"]
    assert "label_mean" not in json.loads(path.read_text())["options"]


def test_a_fact_that_is_lost_is_named(tmp_path, refused, trained, phantom):
    shutil.copytree(trained / "demo", tmp_path / "demo")
    (tmp_path / "demo" / "facts.json").unlink()
    message = refused("translate", "--checkpoints_dir", tmp_path, "--name", "demo", "--input", phantom / "mri",
                      "--output", tmp_path / "out")
    assert message.startswith(f"{tmp_path / 'demo' / 'facts.json'}: does not say target_range")


@pytest.mark.slow
def test_a_run_from_before_pet_windows_keeps_scaling_each_scan_by_itself(tmp_path, duiit, phantom, tiny):
    """PET -> CT and back: what such a run makes of PET in SUV, and in SUV, is what it made when it was trained."""
    runs = tmp_path / "runs"
    made = {}
    for target, source in (("ct", "pet"), ("pet", "ct")):
        for window in ("percentiles", "0,10"):
            assert duiit("train", "--dataroot", phantom, "--preset", tiny, "--target", target, "--sources", source,
                         "--name", f"{source}_{window[0]}", "--checkpoints_dir", runs, "--pet_window", window) == 0
        run = runs / f"{source}_p"
        shutil.copytree(run, runs / f"{source}_before")
        path = runs / f"{source}_before" / "train_opt.json"
        whole = json.loads(path.read_text())
        del whole["options"]["pet_window"]
        path.write_text(json.dumps(whole))
        for name in ("p", "before", "0"):
            out = tmp_path / f"{source}_{name}"
            assert duiit("translate", "--checkpoints_dir", runs, "--name", f"{source}_{name}", "--input",
                         phantom / source, "--output", out, "--format", "npy", "--device", "cpu") == 0
            made[source, name] = {p.relative_to(out): p.read_bytes() for p in sorted(out.rglob("*.npy"))}
        assert made[source, "before"] and made[source, "before"] == made[source, "p"] != made[source, "0"]
    ranges = {name: json.loads((runs / f"ct_{name}" / "facts.json").read_text())["target_range"] for name in "p0"}
    assert ranges["0"] == [0, 10, "SUV"] and ranges["p"][2] == "SUV" and ranges["p"] != ranges["0"]


@pytest.mark.slow
def test_an_augmented_run_that_drew_other_numbers_is_not_gone_on_with(tmp_path, duiit, refused, phantom, tiny):
    run = "--checkpoints_dir", tmp_path, "--name", "run"
    assert duiit("train", "--dataroot", phantom, "--preset", tiny, "--model", "predictor", "--augment", "simple",
                 *run) == 0
    path = tmp_path / "run" / "latest_state.pth"
    state = checkpoint.load(path)
    del state["drawing"]                                        # as an earlier version left it
    checkpoint.save(state, path)
    before = path.read_bytes()
    message = refused("train", *run, "--continue_train", "--max_steps", 5)
    assert message.startswith("--augment simple: the run was begun by an earlier version")
    assert path.read_bytes() == before
    assert duiit("train", *run, "--continue_train", "--epoch", "latest", "--epoch_count", 2) == 0   # weights alone
