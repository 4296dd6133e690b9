"""What a run's folder says of how the run came about."""
import hashlib
import json
import shutil
import subprocess

import pytest

from duiit.util import provenance


def entries(folder):
    return json.loads((folder / "provenance.json").read_text())["entries"]


def test_a_run_says_how_it_came_about(tmp_path, monkeypatch, duiit, phantom, tiny):
    monkeypatch.setenv("SECRET_TOKEN", "do not tell")
    run = ["--name", "a b", "--checkpoints_dir", tmp_path]
    words = ["--dataroot", phantom, "--preset", tiny, "--sources", "mri", *run]
    assert duiit("train", *words, "--max_steps", 1) == 0
    folder = tmp_path / "a b"
    [first] = entries(folder)
    assert first["command"] == f"duiit train --dataroot {phantom} --preset {tiny} --sources mri --name 'a b' " \
                               f"--checkpoints_dir {tmp_path} --max_steps 1"
    assert first["date"].endswith("+00:00")
    assert {"duiit", "python", "torch", "torchvision", "numpy", "cuda"} <= set(first["versions"])
    assert first["host"]["processor"] == first["device"]
    assert first["threads"] == 1
    assert first["resumed_at_step"] is None
    assert first["split_sha256"] == hashlib.sha256((folder / "split.csv").read_bytes()).hexdigest()
    assert duiit("train", *run, "--continue_train", "--max_steps", 2) == 0
    [again, second] = entries(folder)
    assert again == first
    assert second["resumed_at_step"] == 1
    assert second["split_sha256"] == first["split_sha256"]
    assert "do not tell" not in (folder / "provenance.json").read_text()
    assert "words" not in json.loads((folder / "train_opt.json").read_text())["options"]


def test_the_text_of_the_options_marks_what_is_not_the_default(trained):
    lines = {line.split(":")[0].strip(): line for line in (trained / "demo" / "train_opt.txt").read_text().splitlines()}
    assert lines["ngf"].endswith("ngf: 4    [default: 64]")
    assert lines["lambda_pred"].endswith("lambda_pred: 0.001")
    assert lines["input_nc"].endswith("input_nc: 1"), "the model's default, not the toolkit's"
    assert "default" not in lines["label_mean"]


def test_a_damaged_file_costs_no_run(tmp_path, caplog):
    (tmp_path / "provenance.json").write_text("{")
    provenance.note(tmp_path, "train", ["--x"])
    assert [e["command"] for e in entries(tmp_path)] == ["duiit train --x"]
    assert "damaged" in caplog.text


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_of_a_checkout(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True,
                       capture_output=True)

    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "util" / "provenance.py"))
    assert provenance.git() is None
    git("init")
    assert provenance.git() is None, "nothing is committed"
    (tmp_path / "code.py").write_text("a = 1\n")
    git("add", "code.py")
    git("commit", "-m", "first")
    told = provenance.git()
    assert (len(told["commit"]), told["changed"]) == (40, False)
    (tmp_path / "notes.txt").write_text("untracked files change nothing")
    assert provenance.git()["changed"] is False
    (tmp_path / "code.py").write_text("a = 2\n")
    assert provenance.git() == {"commit": told["commit"], "changed": True}
    assert told["commit"] in provenance.in_words({"git": told})
