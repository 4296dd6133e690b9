"""Training in two processes on the CPU: by --nproc and by torchrun; their ends, and going on with another number."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from duiit.util import states

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def begin(phantom, tiny):
    def words(folder, *more):
        return ["train", "--dataroot", phantom, "--preset", tiny, "--sources", "mri", "--checkpoints_dir", folder,
                "--name", "run", "--n_epochs", 1000, "--pool_size", 3, *more]
    return words


def go_on(folder, *more):
    return ["train", "--name", "run", "--checkpoints_dir", folder, "--continue_train", *more]


def start(words, module=("-m", "duiit_cli")):
    return subprocess.Popen([sys.executable, *module, *map(str, words)], stderr=subprocess.PIPE,
                            stdout=subprocess.DEVNULL, text=True, cwd=ROOT, env=os.environ)


def run(words, **how):
    process = start(words, **how)
    told = process.communicate(timeout=120)[1]
    return process.returncode, told


def wait_for_steps(folder):
    log, end = folder / "run" / "loss_log.txt", time.monotonic() + 300
    while time.monotonic() < end and not (log.is_file() and "(epoch" in log.read_text()):
        time.sleep(0.05)


def state(folder):
    return torch.load(folder / "run" / states.LATEST, weights_only=True)


def same_weights(one, other):
    return all(torch.equal(v, other["weights"][n][k]) for n, net in one["weights"].items() for k, v in net.items())


def test_two_processes_stop_and_go_on_exactly_and_one_goes_on_alone(tmp_path, duiit, begin):
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "duiit_cli")
    code, told = run(begin(tmp_path / "whole", "--max_steps", 6), module=torchrun)
    assert code == 0, told
    assert told.count("trained 6 steps") == 1
    whole = state(tmp_path / "whole")
    assert len(whole["ranks"]) == 2
    assert not torch.equal(whole["ranks"][0]["random"]["torch"], whole["ranks"][1]["random"]["torch"])
    table = (tmp_path / "whole" / "run" / "loss_log.csv").read_text().splitlines()
    assert len(table) == 8, "a header, a line a step, and one for the validation: one process writes"
    assert run(begin(tmp_path / "stopped", "--max_steps", 4, "--nproc", 2))[0] == 0
    code, told = run(go_on(tmp_path / "stopped", "--max_steps", 6))
    assert code == 0, told
    assert "going on at epoch 1, step 4" in told
    assert same_weights(whole, state(tmp_path / "stopped"))
    assert duiit(*go_on(tmp_path / "stopped", "--max_steps", 8, "--nproc", 1)) == 0
    assert (state(tmp_path / "stopped")["steps"], len(state(tmp_path / "stopped")["ranks"])) == (8, 1)


def children(process):
    listed = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True).stdout.split()
    return [int(n) for n in listed]


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_a_process_that_dies_ends_the_run_with_its_reason(tmp_path, begin):
    process = start(begin(tmp_path, "--max_steps", 100_000, "--nproc", 2))
    wait_for_steps(tmp_path)
    workers = [c for c in children(process.pid) if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
    os.kill(workers[-1], signal.SIGKILL)
    told = process.communicate(timeout=300)[1]          # the others would wait for it for hours
    assert process.returncode == 128 + signal.SIGKILL
    assert "was ended by signal 9 (SIGKILL), and the others with it" in told
    assert "Traceback" not in told
    assert state(tmp_path)["steps"] == 0


BOOM = """
import json
import os

from models.predictor_model import PredictorModel

class BoomModel(PredictorModel):
    def optimize_parameters(self):
        super().optimize_parameters()
        if os.environ["RANK"] == "1":
            raise ValueError("the coil is on fire")
"""


def test_a_bug_in_one_process_is_shown_and_the_other_names_it(tmp_path, begin):
    (tmp_path / "plugins" / "models").mkdir(parents=True)
    (tmp_path / "plugins" / "models" / "boom_model.py").write_text(BOOM)
    code, told = run(begin(tmp_path, "--nproc", 2, "--plugins", tmp_path / "plugins", "--model", "boom",
                           "--dataset_mode", "cross_modality"))
    assert code in (1, 2)                   # that of the process which ended first
    assert told.count("Traceback") == told.count("\nValueError: the coil is on fire") == 1
    assert "error: process 1 of the run failed" in told


def test_terminated_with_grace(tmp_path, begin):
    process = start(begin(tmp_path, "--max_steps", 100_000, "--nproc", 2))
    wait_for_steps(tmp_path)
    process.terminate()
    told = process.communicate(timeout=300)[1]
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "stopped"         # of its own accord, not killed as the launcher's patience ended
    assert process.returncode == 128 + signal.SIGTERM
    assert told.count("everything is saved. Go on with: duiit train --name run") == 1
    assert "Traceback" not in told
    assert state(tmp_path)["steps"] > 0


def test_a_mistake_is_told_once(tmp_path, begin):
    code, told = run(begin(tmp_path, "--batch_size", 3, "--nproc", 2))
    assert code == 2
    errors = [line for line in told.splitlines() if line.startswith("error: ")]
    assert errors == ["error: --batch_size 3 cannot be divided among 2 processes: give a multiple of 2"]
    assert not (tmp_path / "run").exists()
