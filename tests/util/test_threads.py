"""How many threads torch computes with, and how they wait."""
import subprocess
import sys

import pytest
import torch

from duiit.util import threads


@pytest.fixture(autouse=True)
def _as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("limit", "there", "found"), [
    ("max 100000", 8, 8), ("250000 100000", 8, 2), ("50000 100000", 8, 1), ("800000 100000", 2, 2), ("rubbish", 4, 4)])
def test_cores_are_those_of_the_affinity_within_the_containers_quota(tmp_path, monkeypatch, limit, there, found):
    (tmp_path / "cpu.max").write_text(limit + "\n")
    monkeypatch.setattr(threads, "CGROUP", tmp_path)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: set(range(there)), raising=False)
    assert threads.cores() == found


def test_an_older_kind_of_quota(tmp_path, monkeypatch):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("200000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    monkeypatch.setattr(threads, "CGROUP", tmp_path)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    assert threads.cores() == 2


def test_who_says_how_threads_wait_is_left_alone():
    mine, yours = {}, {"GOMP_SPINCOUNT": "7"}
    threads.wait_asleep(mine)
    threads.wait_asleep(yours)
    assert mine == {"OMP_WAIT_POLICY": "PASSIVE"}
    assert yours == {"GOMP_SPINCOUNT": "7"}


def test_the_command_says_how_threads_wait_before_torch_is_there():
    code = ("import os, sys, duiit_cli.main as m\n"
            "try: m.main(['--version'])\n"
            "except SystemExit: pass\n"
            "sys.exit('torch' in sys.modules or os.environ.get('OMP_WAIT_POLICY') != 'PASSIVE')")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


def test_what_is_asked_for_comes_first_then_the_environment_then_the_cores(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 4)
    torch.set_num_threads(6)
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert threads.use(0) == 6, "the user's word, whatever the cores"
    assert (threads.use(3), torch.get_num_threads()) == (3, 3)
    torch.set_num_threads(6)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert (threads.use(0, processes=2), torch.get_num_threads()) == (2, 2)
