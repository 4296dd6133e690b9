"""The paper's baselines as a user types them: trained, gone on with after a kill, tested, asked, exported."""
import csv
import io
import json
import os
import signal
import sys

import pytest
import torch

from duiit.models.shared_trunk import SharedTrunkModel
from duiit.util import states
from duiit_cli.main import main

pytestmark = pytest.mark.slow              # trains both baselines

KINDS = ("multitask", "dann")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, duiit, phantom, tiny):
    """A --checkpoints_dir with the runs `multitask` and `dann` (MRI and CT), each of 12 steps in 2 epochs."""
    folder = tmp_path_factory.mktemp("baselines")
    for kind in KINDS:
        assert duiit(*words(kind, phantom, tiny, folder, kind)) == 0
    return folder


def words(kind, phantom, tiny, folder, name):
    return [str(w) for w in ("train", "--model", kind, "--dataroot", phantom, "--preset", tiny, "--sources", "mri",
                             "--max_steps", 12, "--save_latest_freq", 4, "--checkpoints_dir", folder, "--name", name)]


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# -- using a run -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", KINDS)
def test_test_scores_the_target_and_asks_for_no_translation(tmp_path, duiit, runs, kind):
    assert duiit("test", "--checkpoints_dir", runs, "--name", kind, "--results_dir", tmp_path) == 0
    folder = tmp_path / kind / "test_latest"
    report = json.loads((folder / "metrics.json").read_text())
    assert report["predictor"]["by_patient"]["n"] == 1
    assert not {"label_fidelity", "paired"} & set(report)
    assert {row["modality"] for row in table(folder / "predictions.csv")} == {"ct"}
    assert (folder / "index.html").is_file()


def test_a_machine_without_the_sources_can_test_too(tmp_path, duiit, phantom, runs):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ct").symlink_to(phantom / "ct")
    assert duiit("test", "--checkpoints_dir", runs, "--name", "dann", "--results_dir", tmp_path, "--dataset_mode",
                 "labelled", "--dataroot", tmp_path / "data") == 0
    assert (tmp_path / "dann" / "test_latest" / "metrics.json").is_file()


@pytest.mark.parametrize("kind", KINDS)
def test_predict(tmp_path, duiit, phantom, runs, kind):
    assert duiit("predict", "--checkpoints_dir", runs, "--name", kind, "--input", phantom / "ct",
                 "--output", tmp_path / "ages.csv") == 0
    rows = table(tmp_path / "ages.csv")
    assert len(rows) == 6
    assert all(0 < float(row["prediction"]) < 150 for row in rows)
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert (runs / kind / "calibration_latest.json").is_file()


@pytest.mark.parametrize("kind", KINDS)
def test_the_predictor_can_be_exported_and_a_translator_cannot(tmp_path, duiit, refused, phantom, runs, kind):
    run = ["--checkpoints_dir", runs, "--name", kind]
    assert duiit("export", *run, "--net", "P", "--format", "torchscript", "--output", tmp_path / "p.pt") == 0
    assert torch.jit.load(tmp_path / "p.pt")(torch.zeros(1, 1, 40, 40)).shape == (1,)
    message = refused("translate", *run, "--input", phantom / "mri", "--output", tmp_path / "out")
    assert f"a run of --model {kind} has no translator" in message


def test_the_source_head_and_the_domain_classifier_stay_behind(runs):
    names = {kind: {p.stem for p in (runs / kind).glob("latest_net_*.pth")} for kind in KINDS}
    assert names == {"multitask": {"latest_net_P", "latest_net_H"}, "dann": {"latest_net_P", "latest_net_C"}}


# -- going on ----------------------------------------------------------------------------------------------------

def killed_at(step, command):
    """Runs the command line in a child that kills itself before it has seen the batch of that step."""
    child = os.fork()
    if child == 0:
        seen, take = [], SharedTrunkModel.set_input

        def set_input(model, batch):
            seen.append(batch)
            if len(seen) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            take(model, batch)
        try:
            sys.stderr = io.StringIO()
            SharedTrunkModel.set_input = set_input
            main(command)
        finally:
            os._exit(70)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_ends_as_if_nobody_had_disturbed_it(tmp_path, duiit, phantom, tiny, runs, kind):
    """Killed in the middle of an epoch, past a saved state: the strength of the reversal goes on where it was."""
    assert killed_at(7, words(kind, phantom, tiny, tmp_path, kind)) == -signal.SIGKILL
    assert duiit("train", "--checkpoints_dir", tmp_path, "--name", kind, "--continue_train") == 0
    names = [p.name for p in (runs / kind).glob("*_net_*.pth")] + [states.LATEST, "loss_log.csv"]
    assert len(names) >= 4
    assert [n for n in names if (runs / kind / n).read_bytes() != (tmp_path / kind / n).read_bytes()] == []


def test_an_option_of_the_method_cannot_change_on_the_way(refused, runs):
    for words in (["dann", "--gamma_dann", 5], ["multitask", "--weight_source", 0.5], ["dann", "--augment", "simple"]):
        message = refused("train", "--checkpoints_dir", runs, "--name", words[0], "--continue_train", *words[1:])
        assert message.startswith(f"{words[1]}: the run goes on as it began")


# -- transfer learning, mixing, augmentation -----------------------------------------------------------------------

def test_transfer_learning(tmp_path, duiit, phantom, tiny):
    """A network of MRIs, tested as such, begins the one of CTs: at a rate of 0 its weights are found there."""
    common = ["--model", "predictor", "--dataroot", phantom, "--preset", tiny, "--checkpoints_dir", tmp_path]
    assert duiit("train", *common, "--target", "mri", "--name", "tl_source") == 0
    facts = json.loads((tmp_path / "tl_source" / "facts.json").read_text())
    assert facts["target_range"][2] == "grey"
    assert duiit("test", "--checkpoints_dir", tmp_path, "--name", "tl_source", "--results_dir", tmp_path / "r") == 0
    report = json.loads((tmp_path / "r" / "tl_source" / "test_latest" / "metrics.json").read_text())
    assert report["predictor"]["modality"] == "mri"
    first = tmp_path / "tl_source" / "latest_net_P.pth"
    assert duiit("train", *common, "--weights_P", first, "--lr", 0, "--name", "tl") == 0
    source, tuned = (torch.load(path, weights_only=True) for path in (first, tmp_path / "tl" / "latest_net_P.pth"))
    for key in ("backbone.conv1.weight", "backbone.layer4.0.conv2.weight", "head.weight", "head.bias"):
        assert torch.equal(source[key], tuned[key])
    assert not torch.equal(source["label_mean"], tuned["label_mean"])       # the CTs' own standard scores
    assert duiit("test", "--checkpoints_dir", tmp_path, "--name", "tl", "--results_dir", tmp_path / "r") == 0


def test_multitask_begins_from_a_network_of_cts(tmp_path, duiit, phantom, tiny, runs):
    start = runs / "dann" / "latest_net_P.pth"
    assert duiit(*words("multitask", phantom, tiny, tmp_path, "run"), "--weights_P", start, "--lr", 0) == 0
    begun, tuned = (torch.load(p, weights_only=True) for p in (start, tmp_path / "run" / "latest_net_P.pth"))
    assert torch.equal(begun["backbone.conv1.weight"], tuned["backbone.conv1.weight"])
    assert torch.equal(begun["head.weight"], tuned["head.weight"])


def test_raw_mixing_and_augmentation(tmp_path, capsys, duiit, phantom, tiny):
    run = ["--checkpoints_dir", tmp_path, "--name", "raw"]
    assert duiit("train", "--model", "predictor", "--dataroot", phantom, "--preset", tiny, "--raw", "mri,pet",
                 "--augment", "autoaugment", *run) == 0
    told = capsys.readouterr().err
    assert "--raw mri: 12 images of 6 patients to train on, 2 without a label" in told
    assert "--raw pet: 8 images of 4 patients to train on" in told
    assert duiit("test", *run, "--results_dir", tmp_path / "r") == 0
    report = json.loads((tmp_path / "r" / "raw" / "test_latest" / "metrics.json").read_text())
    assert report["predictor"]["modality"] == "ct"


def test_classes(tmp_path, duiit, phantom, tiny):
    root = tmp_path / "data"
    for modality in ("mri", "ct"):
        root.joinpath(modality).mkdir(parents=True)
        for n, image in enumerate(sorted((phantom / "mri").rglob("*_1.tif"))[:6]):
            folder = root / modality / f"{modality}{n}"
            folder.mkdir()
            (folder / "1.tif").write_bytes(image.read_bytes())
        lines = [f"{modality}{n},{'ill' if n % 2 else 'well'}" for n in range(6)]
        (root / modality / "labels.csv").write_text("\n".join(["patient,label", *lines]) + "\n")
    for kind in KINDS:
        run = ["--checkpoints_dir", tmp_path, "--name", kind]
        assert duiit("train", "--model", kind, "--dataroot", root, "--preset", tiny, "--task", "classification",
                     *run) == 0
        assert duiit("predict", *run, "--input", root / "ct", "--output", tmp_path / "out.csv") == 0
        assert {row["prediction"] for row in table(tmp_path / "out.csv")} <= {"ill", "well"}


# -- help --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("kind", "options", "batch"), [
    ("multitask", ("--weight_source", "--weight_target", "--weight_decay", "--augment", "--weights_P"), 32),
    ("dann", ("--lambda_dann", "--gamma_dann", "--weight_decay", "--augment"), 64)])
def test_help_lists_the_methods_options(capsys, duiit, kind, options, batch):
    assert duiit("train", "--model", kind, "--help") == 0
    page = capsys.readouterr().out
    assert all(option in page.split(f"Model {kind}:")[1] for option in options)
    assert f"[default: {batch}]" in page
    assert "--guidance" not in page
