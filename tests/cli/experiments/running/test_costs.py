"""What a part of an experiment reads and builds: each thing once."""
import json
from types import SimpleNamespace

import pytest

from duiit.data import modality_dataset, readers
from duiit.data.readers import labels
from duiit.models.predictor_model import PredictorModel
from duiit.util import checkpoint
from duiit_cli.experiments.planning import plan
from duiit_cli.experiments.running import execution, task

pytestmark = pytest.mark.slow              # trains

SCALE = """
load_size = 32
crop_size = 32
num_threads = 0
netP = "resnet10"
n_epochs = 1
n_epochs_decay = 0
val_fraction = 0.3
test_fraction = 0.3
val_freq = 1
[predictor]
batch_size = 4
steps_per_epoch = 4
"""


@pytest.fixture(scope="module")
def planned(tmp_path_factory, duiit, phantom):
    """(E, its tasks): two cells of one split, nothing of them done."""
    root = tmp_path_factory.mktemp("costs")
    (root / "scale.toml").write_text(SCALE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "execute", lambda *args: {})
        assert duiit("experiment", "--dataroot", phantom, "--preset", root / "scale.toml", "--device", "cpu",
                     "--output", root / "E", "--splits", 1, "--methods", "pure_ct,simple_augment") == 0
    return root / "E", plan.read(root / "E")


@pytest.fixture
def seen(monkeypatch):
    """What is prepared (modalities), read (scans) and loaded (files of weights), in order."""
    found = SimpleNamespace(prepared=[], read=[], loaded=[])

    def spy(module, name, note):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **kwargs: note(*args) or real(*args, **kwargs))

    spy(modality_dataset.cohort, "prepare", lambda scans, prepare, name, *rest: found.prepared.append(name))
    spy(readers, "read_scan", lambda scan: found.read.append(scan.name))
    spy(checkpoint, "load_weights", lambda net, path, *rest: found.loaded.append(path.name))
    return found


def test_a_cell_reads_each_scan_and_builds_each_thing_once(planned, seen):
    root, tasks = planned
    cells = [t for t in tasks.values() if t.kind == plan.CELL]
    assert len(cells) == 2
    task.run(root, cells[0])
    # Raw: all that is prepared, and training scans again for their fingerprint, which is of pixels as they were.
    assert len(seen.read) <= 6 + 2
    assert seen.prepared == ["ct", "ct"], "to train on; and to count, describe, test and validate"
    assert seen.loaded == ["latest_net_P.pth", "best_net_P.pth", f"{cells[0].about['epoch']}_net_P.pth"], \
        "two to calibrate, one to test"
    del seen.read[:]
    task.run(root, cells[1])
    assert seen.read == [], "all is known from the first"


def test_and_says_what_it_did(planned):
    root, tasks = planned
    [cell, _] = [json.loads((root / i / "cell.json").read_text()) for i, t in tasks.items() if t.kind == plan.CELL]
    assert cell["counts"]["val"]["patients"] == cell["validation"]["by_patient"]["n"] == 2
    assert cell["counts"]["test"]["patients"] == cell["predictor"]["by_patient"]["n"] == 2
    assert cell["data"]["ct"]["whole"]["patients"] == 6 and cell["data"]["ct"]["val"]["patients"] == 2


def test_what_is_asked_of_the_data_beforehand_is_looked_for_once(tmp_path, monkeypatch, duiit, phantom):
    """Labels, splits and sizes of images."""
    looked, find = [], labels.find_scans
    monkeypatch.setattr(labels, "find_scans", lambda root, *rest, **more: looked.append(root.name) or find(
        root, *rest, **more))
    monkeypatch.setattr(execution, "execute", lambda *args: {})
    assert duiit("experiment", "--dataroot", phantom, "--device", "cpu", "--output", tmp_path / "E") == 0
    assert sorted(looked) == ["ct", "mri", "pet"]
    assert set(json.loads((tmp_path / "E" / "experiment.json").read_text())["image_sizes"]) == set(looked)


def test_a_dry_run_shows_the_plan_then_a_line_a_kind_from_single_images(tmp_path, monkeypatch, capsys, duiit, phantom):
    """And what the data sets say of the same images they say once."""
    seen, batches, step = [], [], PredictorModel.set_input

    def note(model, batch):
        seen.append(capsys.readouterr())
        batches.append(len(batch["B"]))
        step(model, batch)

    monkeypatch.setattr(PredictorModel, "set_input", note)
    (tmp_path / "scale.toml").write_text(SCALE.replace("= 32", "= 40"))
    assert duiit("experiment", "--dataroot", phantom, "--preset", tmp_path / "scale.toml", "--device", "cpu",
                 "--output", tmp_path / "E", "--splits", 2, "--methods", "pure_ct,simple_augment", "--dry_run") == 0
    seen.append(capsys.readouterr())
    shown = [out.count(", 2 times") for out, _ in seen]
    assert "PURE-CT" in seen[0].out and shown[0] == 0, "the plan, before anything is timed"
    assert sum(shown) == 2 and shown[-1] == 1, "a line when each kind is timed"
    assert set(batches) == {1}
    assert "".join(err for _, err in seen).count("ct: 4 images of 2 patients to train on") == 1
