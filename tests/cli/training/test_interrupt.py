"""A run that is stopped saves what it has, says how to go on, and ends as if it had not been stopped."""
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from duiit.models.cycle_gan_model import CycleGANModel
from duiit_cli.training import stopping

DUIIT = Path(sys.executable).with_name("duiit")
STEPS = 24


def words(phantom, tiny, folder, name):
    return [str(w) for w in ("train", "--dataroot", phantom, "--preset", tiny, "--sources", "mri", "--max_steps", STEPS,
                             "--n_epochs", 4, "--n_epochs_decay", 60, "--save_epoch_freq", 1000, "--val_freq", 3,
                             "--pool_size", 3, "--checkpoints_dir", folder, "--name", name)]


def stop_midway(command, log, ask):
    """Starts `command`, sends it the signal `ask` once it has made some steps; (exit status, stderr)."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=os.environ)
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if log.is_file() and log.read_text().count("(epoch:") >= 3:
            process.send_signal(ask)
            break
        time.sleep(0.01)
    return process.communicate(timeout=60)[1], process.returncode


@pytest.fixture(scope="module")
def whole(tmp_path_factory, duiit, phantom, tiny):
    """The run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert duiit(*words(phantom, tiny, folder, "whole")) == 0
    return folder / "whole"


@pytest.mark.slow
@pytest.mark.parametrize("ask", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_continued_is_as_if_undisturbed(tmp_path, duiit, phantom, tiny, whole, ask):
    command = words(phantom, tiny, tmp_path, "stopped")
    told, code = stop_midway([DUIIT, *command], tmp_path / "stopped" / "loss_log.txt", ask)
    assert code == 128 + ask
    assert f"Go on with: duiit train --name stopped --checkpoints_dir {tmp_path} --continue_train" in told
    assert "Traceback" not in told
    state = torch.load(tmp_path / "stopped" / "latest_state.pth", weights_only=True)
    assert 0 < state["steps"] < STEPS
    assert duiit("train", "--name", "stopped", "--checkpoints_dir", tmp_path, "--continue_train") == 0
    networks = sorted(p.name for p in whole.glob("*_net_*.pth"))
    assert len(networks) >= 5
    for name in networks:
        undisturbed, continued = (torch.load(run / name, weights_only=True) for run in (whole, tmp_path / "stopped"))
        for key, value in undisturbed.items():
            assert torch.equal(value, continued[key]), f"{name}: {key}"


@pytest.mark.parametrize("ask", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_reading_the_data(tmp_path, monkeypatch, capsys, duiit, phantom, tiny, ask):
    def read(opt):
        os.kill(os.getpid(), ask)
        pytest.fail("it read on")
    monkeypatch.setattr("duiit_cli.training.loop.create_dataset", read)
    assert duiit("train", "--dataroot", phantom, "--preset", tiny, "--checkpoints_dir", tmp_path / "runs") == 128 + ask
    assert capsys.readouterr().err.splitlines()[-1] == "warning: stopped before the first step"
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_step_whose_start_is_saved_is_given_up_and_made_again(tmp_path, monkeypatch, capsys, duiit, phantom, tiny,
                                                                whole):
    """Stopped between the step of the generators and that of the discriminators: the step leaves no trace."""
    step = CycleGANModel.backward_D_A
    with monkeypatch.context() as patch:
        patch.setattr(CycleGANModel, "backward_D_A", lambda model: (os.kill(os.getpid(), signal.SIGTERM), step(model)))
        assert duiit(*words(phantom, tiny, tmp_path, "given_up")) == 128 + signal.SIGTERM
    assert "stopped at epoch 1, step 0; everything is saved" in capsys.readouterr().err
    assert torch.load(tmp_path / "given_up" / "latest_state.pth", weights_only=True)["steps"] == 0
    assert duiit("train", "--name", "given_up", "--checkpoints_dir", tmp_path, "--continue_train") == 0
    for path in whole.glob("latest_net_*.pth"):
        assert path.read_bytes() == (tmp_path / "given_up" / path.name).read_bytes()


def test_listening_between_layers_changes_no_gradient(monkeypatch):
    heard = []
    monkeypatch.setattr(stopping, "_nothing", heard.append)
    torch.manual_seed(0)
    net = torch.nn.Sequential(*[m for _ in range(3) for m in (torch.nn.Conv2d(2, 2, 3), torch.nn.ReLU(True))])
    gradients = []
    for listening in (nullcontext(), stopping.interruptible()):
        net.zero_grad()
        with listening:
            net(torch.ones(1, 2, 16, 16)).sum().backward()
        gradients.append([p.grad.clone() for p in net.parameters()])
    assert len(heard) >= 6, "Python runs, and hears signals, at every layer"
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    count = len(heard)
    net(torch.ones(1, 2, 16, 16)).sum().backward()
    assert len(heard) == count, "and only there"
