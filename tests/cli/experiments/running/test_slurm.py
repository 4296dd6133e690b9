"""An experiment on a real Slurm: one node, on the loopback address, that a fixture starts and stops."""
import getpass
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from duiit_cli.experiments.planning import plan
from duiit_cli.experiments.running import cluster

HOME = Path(__file__).resolve().parents[4]
PATH = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"))      # where daemons are
MISSING = [p for p in ("munged", "slurmctld", "slurmd", "sbatch", "squeue") if not shutil.which(p, path=PATH)]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    bool(MISSING) or not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason=f"needs root, and Debian's slurm-wlm and munge (missing: {', '.join(MISSING) or 'root'})")]

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1024 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
SCALE = """
load_size = 32
crop_size = 32
num_threads = 0
val_fraction = 0.2
test_fraction = 0.2
[predictor]
netP = "resnet10"
batch_size = 4
steps_per_epoch = 4
n_epochs = 1
n_epochs_decay = 0
"""
# Its steps last until the file GATE is there, or a signal comes.
GATED = """
import os
import select
import signal
from pathlib import Path

from models.predictor_model import PredictorModel

READING, WRITING = os.pipe()
os.set_blocking(WRITING, False)


class GatedModel(PredictorModel):
    def optimize_parameters(self):
        super().optimize_parameters()
        signal.set_wakeup_fd(WRITING)
        with open(os.environ["GATE"] + ".waiting", "a") as file:
            file.write("x")
        while not Path(os.environ["GATE"]).exists() and not select.select([READING], [], [], 0.1)[0]:
            pass
"""
METHOD = '[method]\ntitle = "Gated"\ntable = "CT"\n[predictor]\nmodel = "gated"\n'


def until(happened, process=None, seconds=300):
    """Waits until `happened()` gives something, and returns it. process: must not end before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = happened()
        if found:
            return found
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("it never came")


def free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Slurm's environment: a controller and a node of two cores, which the variables lead to."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(CONFIG.format(
        folder=folder, host=socket.gethostname().partition(".")[0], user=getpass.getuser(), ports=free_ports(2)))
    version = re.findall(rb"\d+", asked({"PATH": PATH}, "slurmd", "-V"))
    if [int(n) for n in version[:2]] >= [23, 11]:       # look for a control group; those before do not know the word
        (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    env = {**os.environ, "PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf"), "GATE": str(folder / "gate")}
    munged = ["munged", "--foreground", "--force", "--num-threads=2", *(f"--{k}={folder}/munge.{v}" for k, v in {
        "key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}.items())]
    with ExitStack() as stack:
        for words in (munged, ["slurmctld", "-D"], ["slurmd", "-D"]):
            log = stack.enter_context((folder / f"{words[0]}.out").open("wb"))
            daemon = subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            stack.callback(stop, daemon)
            if words is munged:
                until((folder / "munge.socket").exists, daemon)
        until(lambda: b"idle" in asked(env, "sinfo", "--noheader"), seconds=60)
        yield env
        asked(env, "scancel", "--full", "--signal=KILL", "--user", getpass.getuser())   # those of a test that failed
        until(lambda: not jobs(env))


def stop(daemon):
    daemon.terminate()
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def asked(env, *words):
    return subprocess.run(words, env=env, capture_output=True).stdout


def jobs(env, state=None):
    """{id: name} of the jobs that Slurm lists."""
    wanted = ["--states", state] if state else []
    lines = asked(env, "squeue", "--noheader", "--format=%i %j", *wanted).decode().splitlines()
    return dict(line.split() for line in lines)


@pytest.fixture
def experiment(tmp_path, phantom, slurm):
    """experiment() -> the command, begun or gone on with: PURE-CT, and a method that waits at the gate."""
    (tmp_path / "plugins" / "models").mkdir(parents=True)
    (tmp_path / "plugins" / "models" / "gated_model.py").write_text(GATED)
    (tmp_path / "gated.toml").write_text(METHOD)
    (tmp_path / "scale.toml").write_text(SCALE)
    words = ["--dataroot", phantom, "--preset", tmp_path / "scale.toml", "--device", "cpu", "--splits", 1, "--methods",
             f"pure_ct,{tmp_path / 'gated.toml'}", "--plugins", tmp_path / "plugins", "--output", tmp_path / "E",
             "--executor", "slurm", "--jobs", 0, "--slurm", "time=10"]
    with ExitStack() as stack:
        def begin():
            file = stack.enter_context((tmp_path / "said.txt").open("w"))
            process = subprocess.Popen([sys.executable, "-m", "duiit_cli", "experiment", *map(str, words)], cwd=HOME,
                                       env=slurm, stdout=file, stderr=file)
            stack.callback(process.kill)
            return process
        yield begin


def test_jobs_are_cancelled_with_the_command_and_outlive_its_murder(tmp_path, slurm, experiment):
    cell, waited = tmp_path / "E" / "cells" / "gated" / "split_00", Path(slurm["GATE"] + ".waiting")

    def said():
        return (tmp_path / "said.txt").read_text()

    def waiting():
        """How many steps have come to the gate."""
        return waited.stat().st_size if waited.exists() else 0

    first = experiment()
    until(waiting, first)
    first.send_signal(signal.SIGINT)
    try:
        first.wait(150)
    except subprocess.TimeoutExpired:           # Python drops an interrupt that comes while it cleans up after objects
        first.send_signal(signal.SIGINT)
    assert first.wait(150) == 130
    assert not jobs(slurm), "cancelled, and waited for"
    assert "everything is saved" in said()
    came = waiting()
    assert (cell / "latest_state.pth").is_file() and not (cell / "cell.json").exists()

    second = experiment()
    until(lambda: waiting() > came, second)
    second.kill()
    second.wait()
    gated = next(i for i, name in jobs(slurm, "running").items() if name.startswith("duiit-gated-0-"))
    handed_over = {p.name for p in (tmp_path / "E" / "logs" / "jobs").iterdir()}

    third = experiment()
    until(lambda: f"it is waited for as job {gated}" in said(), third)
    Path(slurm["GATE"]).touch()
    assert third.wait(300) == 0, said()
    assert {p.name for p in (tmp_path / "E" / "logs" / "jobs").iterdir()} == handed_over, "nothing ran twice"
    assert (cell / "cell.json").is_file() and (tmp_path / "E" / "report.html").is_file()
    until(lambda: not jobs(slurm))              # a part is done a moment before its job has ended


@pytest.fixture
def closed(slurm):
    """The node takes no new job."""
    node = asked(slurm, "sinfo", "--noheader", "--format=%n").decode().strip()
    asked(slurm, "scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    yield
    asked(slurm, "scontrol", "update", f"nodename={node}", "state=resume")


def test_a_queued_job_is_found_by_its_name_and_what_ended_it_is_told(tmp_path, slurm, closed, monkeypatch):
    """Cancelled by somebody else, of which no file of its own tells."""
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm[name])
    monkeypatch.setattr(cluster, "ASK_SECONDS", 0)
    task, other = (plan.Task(f"cells/{n}/split_00", plan.CELL, n, 0, [], [], {}) for n in ("mine", "other"))
    job = cluster.ClusterJobs(tmp_path, "slurm", ["time=0-00:20:00", "mem=1G"]).start(tmp_path, task)
    found = cluster.ClusterJobs(tmp_path).running(tmp_path, [task, other])
    assert list(found) == [task.id] and not found[task.id].is_over()
    assert not cluster.ClusterJobs(tmp_path / "another").running(tmp_path / "another", [task]), "of another experiment"
    asked(slurm, "scancel", job.job.job_id)
    until(found[task.id].is_over)
    assert f"job {job.job.job_id}, CANCELLED; see " in found[task.id].how_it_ended()
