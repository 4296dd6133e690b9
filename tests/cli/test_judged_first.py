"""What is wrong with an option is told before any image is opened: reading a cohort takes minutes.

Every image of these data is broken. Whoever opens one complains of that file, and not of the option.
"""
import json
import os
import shutil

import pytest

from duiit.options import (
    CheckOptions,
    EvaluateOptions,
    ExperimentOptions,
    ExportOptions,
    PredictOptions,
    TestOptions,
    TrainOptions,
    TranslateOptions,
)
from duiit.options.parsing import is_flag, option_actions
from duiit.util.bounds import Bounded

# Of options whose value is text: one that is wrong whatever the data are. {} stands for a file that is there.
WRONG = {
    "model": "nosuch", "dataset_mode": "nosuch", "preset": "nosuch", "plugins": "nowhere", "device": "gpu",
    "gpu_ids": "first", "netG": "resnet_blocks", "slices": "some", "ct_window": "wide", "pet_window": "hot",
    "patient_regex": "(", "weights_P": "nowhere.pth", "extra": "nowhere", "name": "../elsewhere", "suffix": "{nosuch}",
    "cache_dir": "{}/cache", "checkpoints_dir": "{}/runs", "dataroot": "nowhere", "target": "nowhere",
    "sources": "nowhere", "raw": "nowhere", "source": "nowhere", "epoch": "77", "truth": "nowhere",
    "results_dir": "{}/results", "mask": "nowhere", "metrics": "beauty", "fid_weights": "nowhere.pth",
    "published": "nowhere.toml", "methods": "nosuch", "slurm": "partition", "json": "{}/found.json",
    "fingerprint": "{}/print.json", "real": "nowhere", "fake": "nowhere", "input": "nowhere"}
OUTPUTS = {"translate": "{}/out", "predict": "{}/ages.csv", "export": "{}/net.pt2", "evaluate": "{}/found.json",
           "experiment": "{}/experiment"}
# And those of which nothing can be wrong before there are data, or at all.
FREE = {"label_column", "id_column", "display_server", "display_env"}
# Options that a command has, since all have them, and makes nothing of. Evaluate's images may be of any modality, and
# `data check` tells of folders that are not there among all that is wrong with the data.
UNUSED = {"train": {"epoch"}, "test": {"weights_P"}, "translate": {"weights_P", "dataroot"},
          "predict": {"weights_P", "dataroot"}, "export": {"weights_P", "dataroot"},
          "evaluate": {"weights_P", "target"}, "data check": {"target", "sources"}}
OPTIONS = {"train": TrainOptions, "test": TestOptions, "translate": TranslateOptions, "predict": PredictOptions,
           "evaluate": EvaluateOptions, "export": ExportOptions, "experiment": ExperimentOptions,
           "data check": CheckOptions}
# Where a value is of another option's making, the line speaks of that one.
NAMED = {"cache_dir": "cache", "gpu_ids": "gpu_ids|device", "checkpoints_dir": "name|checkpoints_dir"}


@pytest.fixture(scope="module")
def place(tmp_path_factory, trained):
    """A folder with the data, a file, and a run on them."""
    root = tmp_path_factory.mktemp("broken")
    for modality in ("mri", "ct"):
        lines = ["patient,age"]
        for n in range(8):
            path = root / "D" / modality / f"p{n}" / "1.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
            lines.append(f"p{n},{20 + n}")
        (root / "D" / modality / "labels.csv").write_text("\n".join(lines) + "\n")
    shutil.copytree(trained, root / "checkpoints")
    path = root / "checkpoints" / "demo" / "train_opt.json"
    said = json.loads(path.read_text())
    said["options"]["dataroot"] = str(root / "D")
    path.write_text(json.dumps(said))
    (root / "file").write_text("mine")
    return root


WORDS = {"train": ["--dataroot", "D"], "test": ["--name", "demo"],
         "evaluate": ["--name", "demo", "--metrics", "label_fidelity", "--real", "D/ct", "--fake", "D/ct"],
         "translate": ["--name", "demo", "--input", "D/mri", "--output", "out"],
         "predict": ["--name", "demo", "--input", "D/ct"], "export": ["--name", "demo", "--output", "net.pt2",
                                                                       "--format", "pt2"],
         "experiment": ["--dataroot", "D", "--output", "e"], "data check": ["--dataroot", "D"]}


def wrong_words(command, action):
    """The words that set an option wrongly, several where it can be wrong in several ways."""
    name = action.option_strings[0]
    if action.choices is not None:
        return [[name, "nosuch"]]
    if isinstance(action.type, Bounded):
        low = [[name, str(action.type.low - 1)]] if action.type.low is not None else []
        return [[name, "nosuch"], *low]
    if action.type in (int, float):
        return [[name, "nosuch"]]
    value = OUTPUTS[command] if action.dest == "output" else WRONG[action.dest]
    return [[name, value.replace("{}", "file")]]


@pytest.mark.parametrize("command", OPTIONS)
def test_a_wrong_value_is_refused_before_an_image_is_opened(place, monkeypatch, refused, command):
    monkeypatch.chdir(place)
    missed = []
    words = ["--model", "predictor"] if command == "train" else []
    found = [*option_actions(OPTIONS[command]().declare(WORDS[command])),
             *(option_actions(TrainOptions().declare(words)) if words else [])]
    actions = {a.dest: a for a in found if not is_flag(a) and a.dest not in FREE and a.help != "==SUPPRESS=="}
    before = sorted(place.rglob("*"))
    for action in actions.values():
        if action.dest in UNUSED.get(command, ()):
            continue
        for wrong in wrong_words(command, action):
            extra = words if action.dest in ("extra", "raw") or action.container.title == "Model predictor" else []
            extra = [*extra, *(["--paired"] if action.dest == "mask" else [])]
            message = refused(*command.split(), *WORDS[command], *extra, *wrong)
            names = NAMED.get(action.dest, action.dest).split("|")
            if "1.png" in message or not any(n in message for n in (*names, wrong[1])):
                missed.append((wrong, message))
    assert missed == []
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(("command", "words", "told"), [
    ("train", ["--crop_size", "30"], "--netG resnet_9blocks takes images"),
    ("train", ["--netD", "n_layers", "--n_layers_D", "7"], "--n_layers_D 7 needs images"),
    ("train", ["--lambda_identity", "1", "--output_nc", "3"], "--lambda_identity"),
    ("train", ["--batch_size", "1", "--crop_size", "32"], "--batch_size 2 or more"),
    ("train", ["--batch_size", "3", "--nproc", "2"], "cannot be divided among 2 processes"),
    ("train", ["--netG", "gpt", "--nproc", "2"], "--netG gpt is not known"),
    ("train", ["--model", "predictor", "--augment", "autoaugment", "--output_nc", "2"], "--augment autoaugment"),
    ("train", ["--model", "predictor", "--no_target"], "--no_target"),
    ("train", ["--model", "dann", "--output_nc", "2"], "--input_nc 1 and --output_nc 2"),
    ("train", ["--name", "demo", "--continue_train", "--epoch", "77"], "77_net_*.pth"),
    ("train", ["--weights_P", "file"], "predictor weights file cannot be read"),
    ("translate", ["--output", "D/mri/out"], "is in --input D/mri"),
    ("translate", ["--output", "D", "--force"], "holds --input D/mri"),
    ("translate", ["--output", "D/ct"], "already exists and is not empty"),
    ("translate", ["--load_iter", "7"], "iter_7_net_"),
    ("test", ["--load_iter", "7"], "iter_7_net_"),
    ("predict", ["--load_iter", "7"], "iter_7_net_"),
    ("predict", ["--output", "ages.xlsx"], ".csv or .json"),
        ("evaluate", ["--fid_weights", "file", "--metrics", "fid"], "not the Inception weights"),
    ("experiment", ["--output", "D/e"], "is in --dataroot"),
    ("experiment", ["--fid_weights", "file"], "not the Inception weights"),
    ("experiment", ["--preset", "wrong.toml"], "resnet_blocks"),
    ("experiment", ["--load_size", "32"], "--crop_size"),
    ("experiment", ["--methods", "pure_ct", "--executor", "slurm", "--slurm", "nosuch=1"], "slurm"),
])
def test_options_that_cannot_work_together(place, monkeypatch, refused, command, words, told):
    monkeypatch.chdir(place)
    (place / "wrong.toml").write_text('netG = "resnet_blocks"\n')
    message = refused(*command.split(), *WORDS[command], *words)
    assert told in message


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(place, monkeypatch, refused, tmp_path):
    monkeypatch.chdir(place)
    tmp_path.chmod(0o500)
    assert "may not be written to" in refused("predict", *WORDS["predict"], "--output", tmp_path / "ages.csv")
