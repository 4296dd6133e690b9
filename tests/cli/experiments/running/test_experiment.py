"""An experiment from the command line to its report: killed and gone on with, bad parts among good ones, a cluster."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from duiit.data.readers.images import read_image
from duiit.util import checkpoint
from duiit_cli.experiments.planning import plan
from duiit_cli.experiments.running import cluster, execution

pytestmark = pytest.mark.slow              # whole experiments, some a minute long

HOME = Path(__file__).resolve().parents[4]
SCALE = """
load_size = 32
crop_size = 32
num_threads = 0
netP = "resnet10"
n_epochs = 1
n_epochs_decay = 0
val_fraction = 0.2
test_fraction = 0.2
[translator]
netG = "resnet_1blocks"
ngf = 4
ndf = 4
batch_size = 2
steps_per_epoch = 4
[predictor]
batch_size = 4
steps_per_epoch = 4
"""


@pytest.fixture(scope="module")
def scale(tmp_path_factory):
    path = tmp_path_factory.mktemp("scale") / "small.toml"
    path.write_text(SCALE)
    return path


@pytest.fixture(scope="module")
def words(phantom, scale):
    def make(output, *more):
        return ["experiment", "--dataroot", phantom, "--preset", scale, "--device", "cpu", "--output", output, *more]
    return make


TWO = ("--splits", 2, "--methods", "pure_ct,duiit_mri", "--jobs", 2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, duiit, words):
    """An experiment of two methods and two splits that nobody disturbed. Tests must not change it."""
    folder = tmp_path_factory.mktemp("finished") / "E"
    assert duiit(*words(folder, *TWO)) == 0
    return folder


def figures(folder):
    """What an experiment found, without when and how fast."""
    found = {}
    for path in sorted(folder.glob("*/*/split_*/*.json")):
        if path.name in ("cell.json", "quality.json"):
            report = json.loads(path.read_text())
            for key in ("seconds", "finished", "commands", "resumed"):
                report.pop(key, None)
            found[path.relative_to(folder).as_posix()] = report
    return found


def networks(folder):
    return {p.relative_to(folder).as_posix(): checkpoint.load(p) for p in sorted(folder.glob("*/*/*/latest_net_*.pth"))}


# -- the whole ---------------------------------------------------------------------------------------------------

def test_every_cell_is_a_run_with_its_seed_split_log_and_figures(finished):
    cell = finished / "cells" / "duiit_mri" / "split_01"
    for name in ("train_opt.json", "split.csv", "loss_log.txt", "latest_net_P.pth", "results/predictions.csv"):
        assert (cell / name).is_file()
    report = json.loads((cell / "cell.json").read_text())
    assert (report["seed"], report["split_seed"]) == (1, 1)
    assert report["counts"]["test"]["patients"] == report["predictor"]["by_patient"]["n"] == 1
    assert report["data"]["ct"]["test"]["patients"] == 1
    translator = json.loads((finished / "translators" / "duiit_mri" / "split_01" / "translator.json").read_text())
    mri = translator["data"]["mri"]
    assert mri["whole"]["slices"] == mri["train"]["slices"] + mri["test"]["slices"]
    assert mri["whole"]["ages"]["low"] < mri["whole"]["ages"]["mean"] < mri["whole"]["ages"]["high"]
    assert not list(finished.glob("*/*/*/*_state.pth*")), "a finished training is never gone on with"


def test_methods_of_one_split_are_tested_on_the_same_patients(finished):
    tables = {(finished / "cells" / m / "split_00" / "split.csv").read_text() for m in ("pure_ct", "duiit_mri")}
    assert len(tables) == 1
    translator = (finished / "translators" / "duiit_mri" / "split_00" / "split.csv").read_text()
    assert {line for line in translator.splitlines() if line.startswith("ct,")} == \
        {line for line in tables.pop().splitlines() if line.startswith("ct,")}


def test_predictors_learn_from_translations_as_the_generator_made_them(finished):
    """At the loading size, in 16 bits, with the range that [-1, 1] stands for."""
    images = sorted((finished / "translators" / "duiit_mri" / "split_00" / "synthetic" / "mri").rglob("*.tif"))
    assert len(images) == 12
    read, unit, span = read_image(images[0])
    assert (read[0].shape, unit, span) == ((32, 32), "HU", (-20, 100))


def test_the_ventricles_of_its_translations_are_measured(finished):
    report = json.loads((finished / "translators" / "duiit_mri" / "split_00" / "quality.json").read_text())
    found = report["sources"]["mri"]["ventricles"]
    assert found["held_out"]["patients"] + found["trained_on"]["patients"] == 6
    assert found["scale"] == {"n": 5}, "one patient has no label, and five are too few to tell years"


def test_validation_patients_choose_between_the_coupling_and_none(tmp_path, duiit, words):
    """What it was asked for brings what it chooses from; it stands in the report as a method of its own."""
    folder = tmp_path / "E"
    assert duiit(*words(folder, "--splits", 1, "--methods", "chosen_mri", "--jobs", 2, "--seed", 3)) == 0
    cells = {p.parts[-3]: json.loads(p.read_text()) for p in folder.glob("cells/*/split_00/cell.json")}
    assert set(cells) == {"pure_ct", "duiit_mri", "cyclegan_mri", "chosen_mri"}
    errors = {m: cells[m]["validation"]["by_patient"]["mse"] for m in ("duiit_mri", "cyclegan_mri")}
    chosen = cells["chosen_mri"]
    assert chosen["validation_errors"] == errors and chosen["chosen"] == min(errors, key=errors.get)
    best = cells[chosen["chosen"]]
    assert (chosen["seed"], chosen["split_seed"]) == (3, 3)
    assert chosen["predictor"] == best["predictor"] and chosen["predictor"] != chosen["validation"]
    patients = {line.split(",")[2] for line in (folder / "cells/chosen_mri/split_00/validation/predictions.csv")
                .read_text().splitlines()[1:]}
    assert len(patients) == chosen["validation"]["by_patient"]["n"] == best["counts"]["val"]["patients"]
    assert "chosen by validation" in (folder / "report.html").read_text()


def test_the_report_is_written(finished):
    text = (finished / "report.html").read_text()
    assert "PURE-CT" in text and "translator of DUIIT (MRI → CT)" in text and "MRI, held out" in text
    assert "Does it do harm?" in text
    assert "n_epochs = 1 (default 100)" in text and "ngf = 4" in text           # an option, and the --preset file
    for name in ("results.csv", "summary.csv", "summary.md"):
        assert (finished / name).stat().st_size


def test_killed_in_the_middle_it_ends_with_the_same_figures(tmp_path, duiit, words, finished):
    folder = tmp_path / "E"
    process = subprocess.Popen([sys.executable, "-m", "duiit_cli", *map(str, words(folder, *TWO))], cwd=HOME,
                               stderr=subprocess.DEVNULL)
    wait_for(lambda: any(folder.glob("cells/*/*/cell.json")) and any(folder.glob("translators/*/*/train_opt.json")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {p: p.stat().st_mtime_ns for p in folder.glob("*/*/*/cell.json")}
    assert len(done) < 4, "it was to be killed in the middle"
    wait_for(lambda: not children_of(folder))
    assert duiit("experiment", "--output", folder) == 0
    assert all(p.stat().st_mtime_ns == then for p, then in done.items()), "a finished cell is never run again"
    assert figures(folder) == figures(finished)
    for name, weights in networks(finished).items():
        mine = checkpoint.load(folder / name)
        assert all(torch.equal(mine[k], v) for k, v in weights.items()), name


def wait_for(condition, seconds=90):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def children_of(folder):
    """Processes that work on an experiment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_a_finished_experiment_is_not_run_again(capsys, duiit, finished):
    before = networks_times(finished)
    assert duiit("experiment", "--output", finished) == 0
    assert "8 of 8 parts are done already" in capsys.readouterr().err
    assert networks_times(finished) == before


def networks_times(folder):
    return {p: p.stat().st_mtime_ns for p in folder.glob("*/*/*/*.pth")}


def test_it_is_gone_on_with_from_another_folder(tmp_path, monkeypatch, capsys, duiit, phantom, scale, finished):
    shutil.copytree(finished, tmp_path / "E")
    monkeypatch.chdir(scale.parent)
    relative = ["--dataroot", os.path.relpath(phantom), "--preset", scale.name, "--output", tmp_path / "E", "--device",
                "cpu", *TWO]
    assert "was begun there with other settings" in told(capsys, duiit, "experiment", *relative, "--crop_size", 28)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "E" / "experiment.json").unlink()
    (tmp_path / "E" / "plan.json").unlink()
    assert "holds other files" in told(capsys, duiit, "experiment", "--output", "E", "--dataroot", phantom)
    (tmp_path / "F").mkdir()
    monkeypatch.chdir(scale.parent)
    words = [os.path.relpath(w) if w is phantom else w for w in ("--dataroot", phantom)]
    assert duiit("experiment", *words, "--preset", scale.name, "--output", tmp_path / "F", "--splits", 1, "--methods",
                 "pure_ct", "--device", "cpu") == 0
    monkeypatch.chdir(tmp_path)
    assert duiit("experiment", "--output", "F") == 0
    assert "1 of 1 parts are done already" in capsys.readouterr().err


def test_a_later_call_adds_methods_and_splits(tmp_path, capsys, duiit, words):
    folder = tmp_path / "E"
    assert duiit(*words(folder, "--splits", 1, "--methods", "pure_ct")) == 0
    before = networks_times(folder)
    assert duiit("experiment", "--output", folder, "--methods", "raw_mri", "--splits", 2) == 0
    cells = {p.parent.relative_to(folder / "cells").as_posix() for p in folder.glob("cells/*/*/cell.json")}
    assert cells == {f"{m}/split_0{k}" for m in ("pure_ct", "raw_mri") for k in (0, 1)}
    assert {p: t for p, t in networks_times(folder).items() if p in before} == before
    (folder / "cells" / "pure_ct" / "split_01" / "cell.json").unlink()
    assert duiit("experiment", "--output", folder) == 0, "the second call's split is not forgotten"
    assert (folder / "cells" / "pure_ct" / "split_01" / "cell.json").is_file()


def move(old, new):
    """Lets a copy of an experiment speak of its own place."""
    for name in ("plan.json", "experiment.json"):
        (new / name).write_text((new / name).read_text().replace(str(old), str(new)))


def told(capsys, duiit, *words):
    capsys.readouterr()
    assert duiit(*words) == 2
    return capsys.readouterr().err


def test_damaged_files_of_an_experiment_are_named(tmp_path, refused, words, finished):
    folder = tmp_path / "E"
    shutil.copytree(finished, folder)
    move(finished, folder)
    (folder / "experiment.json").write_text("{")
    assert "experiment.json is damaged: remove it" in refused("experiment", "--output", folder)
    assert "experiment.json is damaged: remove it" in refused(*words(folder, *TWO))
    (folder / "experiment.json").unlink()
    (folder / "plan.json").write_text("[{}]")
    assert "plan.json is damaged" in refused(*words(folder, *TWO))


def test_dry_run_trains_nothing(tmp_path, capsys, duiit, words):
    assert duiit(*words(tmp_path / "E", "--splits", 3, "--methods", "pure_ct,transfer_mri,cyclegan", "--dry_run")) == 0
    shown = capsys.readouterr().out
    assert "CycleGAN, then train (PET → CT)" in shown and "An estimate from a few steps of each kind" in shown
    assert not list((tmp_path / "E").glob("*/*/*.pth")) and not (tmp_path / "E" / "plan.json").exists()


def test_through_submitit(tmp_path, finished):
    pytest.importorskip("submitit")
    folder = tmp_path / "E"
    shutil.copytree(finished, folder)
    move(finished, folder)
    shutil.rmtree(folder / "cells" / "pure_ct" / "split_01")
    todo = {i: t for i, t in plan.read(folder).items() if not execution.is_done(folder, t)}
    assert list(todo) == ["cells/pure_ct/split_01"]
    jobs = cluster.ClusterJobs(folder, "local", ["time=5"])
    assert execution.execute(folder, todo, jobs, 0) == {}
    assert figures(folder) == figures(finished)


# -- parts that fail ---------------------------------------------------------------------------------------------

BOOM = """
from models.predictor_model import PredictorModel

class BoomModel(PredictorModel):
    def optimize_parameters(self):
        raise RuntimeError("the coil is on fire")
"""


def test_a_part_that_fails_is_told_and_the_others_go_on(tmp_path, capsys, duiit, words):
    (tmp_path / "plugins" / "models").mkdir(parents=True)
    (tmp_path / "plugins" / "models" / "boom_model.py").write_text(BOOM)
    method = tmp_path / "boom.toml"
    method.write_text('[method]\ntitle = "Boom"\ntable = "CT"\n[start]\nmodel = "boom"\n[predictor]\n'
                      'model = "predictor"\n')
    folder = tmp_path / "E"
    assert duiit(*words(folder, "--splits", 1, "--methods", method, "--plugins", tmp_path / "plugins")) == 1
    shown = capsys.readouterr().err
    assert "starts/boom/split_00: failed: RuntimeError: the coil is on fire" in shown
    assert "cells/boom/split_00: failed: it needs starts/boom/split_00, which failed" in shown
    assert (folder / "cells" / "pure_ct" / "split_00" / "cell.json").is_file()
    assert "the coil is on fire" in (folder / "logs" / "starts_boom_split_00.log").read_text()
    assert "the coil is on fire" in (folder / "report.html").read_text()


def test_a_damaged_cell_is_done_again(tmp_path, capsys, finished):
    shutil.copytree(finished / "cells" / "pure_ct" / "split_00", tmp_path / "cells" / "pure_ct" / "split_00")
    task = plan.read(finished)["cells/pure_ct/split_00"]
    for content in ("{", "{}", "[]"):
        assert execution.is_done(finished, task)
        (tmp_path / task.id / "cell.json").write_text(content)
        assert not execution.is_done(tmp_path, task)
    assert (tmp_path / task.id / "latest_net_P.pth").exists(), "asking changes nothing"
    execution.clear_damaged(tmp_path, {task.id: task})
    assert not (tmp_path / task.id).exists()


def test_a_cell_that_lost_its_done_file_is_trained_anew_not_on(tmp_path, duiit, finished):
    folder = tmp_path / "E"
    shutil.copytree(finished, folder)
    move(finished, folder)
    (folder / "cells" / "pure_ct" / "split_00" / "cell.json").unlink()
    assert duiit("experiment", "--output", folder) == 0
    assert figures(folder) == figures(finished)


# -- at the door -------------------------------------------------------------------------------------------------

def test_what_cannot_work_is_refused_before_anything_is_trained(tmp_path, refused, words, phantom, finished, scale):
    folder = tmp_path / "E"
    assert "--output is missing" in refused("experiment", "--dataroot", tmp_path)
    assert "holds no experiment to go on with" in refused("experiment", "--output", folder)
    assert "holds no experiment to report on" in refused("experiment", "--output", folder, "--report_only")
    assert "--methods dujit: no such method" in refused(*words(folder, "--methods", "dujit"))
    assert "did you mean" in refused(*words(folder, "--methods", "pure_cd"))
    assert "--target xray" in refused(*words(folder, "--target", "xray"))
    assert "--sources spect: spect is no source folder" in refused(*words(folder, "--sources", "spect"))
    assert "--slurm gpus: give KEY=VALUE" in refused(*words(folder, "--slurm", "gpus"))
    assert "6 labelled scans are too few: split 0 has" in refused(*words(folder, "--test_fraction", 0.75))
    assert "--epoch best: nothing is validated" in refused(*words(folder, "--epoch", "best", "--val_fraction", 0))
    assert "--published nowhere.toml cannot be read" in refused(*words(folder, "--published", "nowhere.toml"))
    assert "--fid_weights nowhere.pth: no such file" in refused(*words(folder, "--fid_weights", "nowhere.pth"))
    assert "--jobs 0: all at once is for a cluster" in refused(*words(folder, "--jobs", 0))
    assert "is in --dataroot" in refused(*words(phantom / "results"))
    (tmp_path / "file").touch()
    assert "is a file" in refused(*words(tmp_path / "file"))
    assert "--epoch=best" in refused(*words(finished, *TWO, "--epoch", "best"))
    assert "was begun there with other settings" in refused(*words(finished, *TWO, "--crop_size", 28))
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[predictor]\nbatch_sise = 4\n")
    assert "unknown option batch_sise (did you mean batch_size?)" in refused(*words(folder), "--preset", wrong)
    wrong.write_text('[predictor]\nnetP = "resnet11"\n')
    assert "method pure_ct: --netP: 'resnet11' is not one of" in refused(*words(folder), "--preset", wrong)
    assert not folder.exists()


def test_a_method_without_its_source_is_left_out_and_the_rest_goes_on(tmp_path, capsys, duiit, refused, words):
    call = words(tmp_path / "E", "--sources", "mri", "--dry_run", "--splits", 1)
    assert duiit(*call, "--methods", "pure_ct,raw_pet") == 0
    assert "--methods raw_pet: needs the source pet" in capsys.readouterr().err
    assert "needs the source pet" in refused(*call, "--methods", "raw_pet")
