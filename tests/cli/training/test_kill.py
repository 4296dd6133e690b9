"""A run that is killed, at any moment and however often, ends with the same bytes as one that nobody disturbed.

The undisturbed run is made in this process. The others are its children by fork, which find everything imported: a
start costs milliseconds instead of seconds.
"""
import io
import os
import random
import resource
import shutil
import signal
import sys
import time

import pytest
import torch

from duiit.util import checkpoint, files, states
from duiit_cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]

KILLS = 20
STEPS = 24
KINDS = {"duiit": ["--sources", "mri", "--pool_size", 3],
         "cycle_gan": ["--model", "cycle_gan", "--dataset_mode", "cross_modality", "--sources", "mri", "--input_nc", 1,
                       "--output_nc", 1, "--pool_size", 3],
         "predictor": ["--model", "predictor"]}


def words(kind, phantom, tiny, folder, name, *more):
    """A run of STEPS steps that logs each, in epochs of a few, and saves often."""
    preset = tiny if kind != "cycle_gan" else tiny.with_name("tiny_cycle_gan.toml")
    if not preset.is_file():
        preset.write_text("".join(line for line in tiny.read_text().splitlines(True) if "netP" not in line))
    return [str(w) for w in ("train", *KINDS[kind], "--dataroot", phantom, "--preset", preset, "--max_steps", STEPS,
                             "--n_epochs", 5, "--n_epochs_decay", 60, "--save_latest_freq", 4, "--save_epoch_freq", 3,
                             "--val_freq", 2,
                             "--checkpoints_dir", folder, "--name", name, *more)]


def fork(command, prepare=lambda: None, heard=False):
    """Runs the command line in a child; its process id. prepare: called in the child before."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        if not heard:
            sys.stderr = io.StringIO()
        prepare()
        main(command)
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        os._exit(code)


def ended(child):
    """The exit status of a child; minus the signal where one killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(command, prepare=lambda: None):
    return ended(fork(command, prepare))


def go_on(folder, name, *more):
    return [str(w) for w in ("train", "--name", name, "--checkpoints_dir", folder, "--continue_train", *more)]


def outcome(folder):
    """What a run leaves that must not depend on how it went: networks, latest and best state, the table of losses."""
    names = [p.name for p in folder.glob("*_net_*.pth")] + [states.LATEST, "loss_log.csv", "split.csv"]
    names += [states.BEST] if (folder / states.BEST).is_file() else []
    return {name: (folder / name).read_bytes() for name in names}


def assert_same(folder, whole):
    one, other = outcome(folder), outcome(whole)
    assert sorted(one) == sorted(other)
    assert [name for name in one if one[name] != other[name]] == []
    entries = [line.split(")", 1)[0].split(", time")[0] + line.split(")", 1)[1]
               for text in (folder, whole) for line in (text / "loss_log.txt").read_text().splitlines()
               if line.startswith("(epoch")]
    assert entries[:len(entries) // 2] == entries[len(entries) // 2:]


def assert_clean(folder):
    """Nothing unfinished, nothing that cannot be read."""
    left = [p.name for p in folder.rglob("*") if ".duiit-tmp-" in p.name or p.name in (".lock", f"{states.LATEST}.new")]
    assert left == []
    for path in folder.glob("*.pth*"):
        assert checkpoint.sealed(path), path.name
        checkpoint.load(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, duiit, phantom, tiny):
    """whole(kind) -> folder of the run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")

    def undisturbed(kind):
        if not (folder / kind).is_dir():
            assert duiit(*words(kind, phantom, tiny, folder, kind)) == 0
        return folder / kind
    return undisturbed


@pytest.mark.parametrize(("kind", "kills"), [("cycle_gan", 5), ("duiit", KILLS), ("predictor", 5)])
def test_killed_at_random_moments(tmp_path, phantom, tiny, whole, kind, kills):
    undisturbed = whole(kind)
    began = time.monotonic()
    assert run(words(kind, phantom, tiny, tmp_path, "timed")) == 0
    seconds = time.monotonic() - began
    assert_same(tmp_path / "timed", undisturbed)
    moments, killed = random.Random(7), 0
    command = words(kind, phantom, tiny, tmp_path, "run")
    while killed < kills:
        child = fork(command)
        time.sleep(moments.uniform(0.05, 0.4) * seconds)
        os.kill(child, signal.SIGKILL)
        code = ended(child)
        assert code in (0, -signal.SIGKILL)
        killed += code != 0
        begun = (tmp_path / "run" / "train_opt.json").is_file()
        command = go_on(tmp_path, "run") if begun else command
        if code == 0:                                   # the run was done before its time: what is left is a new one
            assert_same(tmp_path / "run", undisturbed)
            shutil.rmtree(tmp_path / "run")
            command = words(kind, phantom, tiny, tmp_path, "run")
    assert run(command) == 0
    assert_same(tmp_path / "run", undisturbed)
    assert_clean(tmp_path / "run")


def kill_in_the_middle(monkeypatch_target, name, call):
    """In a child: the process dies in call number `call` of a function, after half of what it writes."""
    real, calls = getattr(monkeypatch_target, name), [0]

    def dying(*args, **kwargs):
        calls[0] += 1
        if calls[0] != call:
            return real(*args, **kwargs)
        if name == "save":                              # torch.save(value, file)
            args[1].write(b"PK" + bytes(5000))
        os.kill(os.getpid(), signal.SIGKILL)
        return None
    setattr(monkeypatch_target, name, dying)


@pytest.mark.parametrize(("kind", "target", "name", "call"), [
    ("cycle_gan", torch, "save", 1),                    # the very first state, before any step
    ("cycle_gan", torch, "save", 4),                    # a network
    ("cycle_gan", torch, "save", 11),                   # the state that goes with the networks
    ("cycle_gan", files, "_flush_to_disk", 19),         # written, and not yet renamed
    ("cycle_gan", states.StateFiles, "_move_up", 3),    # complete, and not yet the latest
    ("predictor", states, "_link_or_copy", 1)])         # while it is kept as the best
def test_killed_while_writing(tmp_path, phantom, tiny, whole, kind, target, name, call):
    command = words(kind, phantom, tiny, tmp_path, "run")
    assert run(command, lambda: kill_in_the_middle(target, name, call)) == -signal.SIGKILL
    assert run(go_on(tmp_path, "run")) == 0
    assert_same(tmp_path / "run", whole(kind))
    assert_clean(tmp_path / "run")


def test_a_damaged_state_is_named_and_the_one_before_used(tmp_path, capfd, phantom, tiny, whole):
    assert run(words("cycle_gan", phantom, tiny, tmp_path, "run", "--max_steps", 9)) == 0
    latest = tmp_path / "run" / states.LATEST
    content = bytearray(latest.read_bytes())
    content[len(content) // 2] ^= 1                     # one bit
    latest.write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        main(go_on(tmp_path, "run", "--max_steps", STEPS))
    assert stop.value.code == 0
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning")]
    assert warnings == [f"warning: {latest} is damaged; going on from the state before it ({states.LATEST}.1)"]
    assert_same(tmp_path / "run", whole("cycle_gan"))


def test_a_full_disk_keeps_the_last_state(tmp_path, capfd, phantom, tiny, whole):
    """A limit on the size of files stands for the full disk: networks fit under it, the training state does not."""
    assert run(words("cycle_gan", phantom, tiny, tmp_path, "run", "--max_steps", 7)) == 0
    run_folder = tmp_path / "run"
    before = outcome(run_folder)
    size = (run_folder / states.LATEST).stat().st_size - 10_000
    capfd.readouterr()
    child = fork(go_on(tmp_path, "run", "--max_steps", STEPS),
                 lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)), heard=True)
    assert ended(child) == 2
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith(("error", "Traceback"))]
    assert len(told) == 1
    assert "no space left on its disk" in told[0]
    assert f"duiit train --name run --checkpoints_dir {tmp_path} --continue_train" in told[0]
    assert (run_folder / states.LATEST).read_bytes() == before[states.LATEST]
    assert_clean(run_folder)
    assert run(go_on(tmp_path, "run", "--max_steps", STEPS)) == 0
    assert_same(run_folder, whole("cycle_gan"))


def test_five_seconds_of_grace_are_enough(tmp_path, phantom, tiny, whole):
    """As a scheduler ends a job: SIGTERM, and SIGKILL five seconds later."""
    child = fork(words("duiit", phantom, tiny, tmp_path, "run", "--save_latest_freq", 5000))
    log, end = tmp_path / "run" / "loss_log.txt", time.monotonic() + 30
    while time.monotonic() < end and not (log.is_file() and log.read_text().count("(epoch") > 5):
        time.sleep(0.01)
    asked = time.monotonic()
    os.kill(child, signal.SIGTERM)
    assert ended(child) == 128 + signal.SIGTERM
    assert time.monotonic() - asked < 5
    assert_clean(tmp_path / "run")
    assert run(go_on(tmp_path, "run", "--save_latest_freq", 4)) == 0
    assert_same(tmp_path / "run", whole("duiit"))


def test_a_second_process_is_refused_while_the_first_lives(tmp_path, capfd, phantom, tiny):
    child = fork(words("cycle_gan", phantom, tiny, tmp_path, "run", "--max_steps", 100_000))
    options, end = tmp_path / "run" / "train_opt.json", time.monotonic() + 30
    while time.monotonic() < end and not options.is_file():
        time.sleep(0.01)
    for command in (go_on(tmp_path, "run"), words("cycle_gan", phantom, tiny, tmp_path, "run")):
        capfd.readouterr()
        assert ended(fork(command, heard=True)) == 2
        told, = capfd.readouterr().err.splitlines()
        assert told.startswith("error: ")
        assert f"process {child} on " in told
    os.kill(child, 0)
    assert options.is_file()
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL
    assert run(go_on(tmp_path, "run", "--max_steps", 3)) == 0
