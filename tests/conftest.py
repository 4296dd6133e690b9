"""Shared fixtures, and the limit on a test process's memory."""
import gc
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from duiit.util import file_index
from duiit_cli.main import main

torch.set_num_threads(1)                # as the subprocesses of the tests do: the same weights, and no fight for cores

MEMORY_LIMIT = 2048                     # MB that a test process may reach, so that two fit beside other work
_peaks = {}                             # {process: [its peak in MB, the tests that raised it most]}, for the summary
_rises = []                             # (MB, test) of this process
GROWTH = 32                             # MB more than after the last look for garbage, and it is looked for again
_tidied = [0]                           # MB after that look

# Small enough that a step takes milliseconds, with every part of the real thing.
TINY = {"load_size": 32, "crop_size": 32, "netG": "resnet_1blocks", "ngf": 4, "ndf": 4, "netP": "resnet10",
        "batch_size": 2, "num_threads": 0, "n_epochs": 3, "n_epochs_decay": 0, "max_steps": 3, "val_fraction": 0.2,
        "test_fraction": 0.2, "print_freq": 1, "no_html": True, "display_id": 0, "device": "cpu"}


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Decoded images and the list of trusted plug-ins go to folders of this session, also from subprocesses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session")
def duiit():
    """duiit(*words) -> exit status: the command line, in this process."""
    def call(*words):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        return stop.value.code
    return call


@pytest.fixture(scope="session")
def draw_phantom(tmp_path_factory, duiit):
    """draw_phantom(ct, mri, pet, size) -> a new data folder of so many patients, of two slices each."""
    def draw(ct, mri, pet, size=32):
        folder = tmp_path_factory.mktemp("phantom") / "phantom"
        assert duiit("data", "phantom", "--output", folder, "--size", size, "--slices", 2, "--ct_patients", ct,
                     "--mri_patients", mri, "--pet_patients", pet) == 0
        return folder
    return draw


@pytest.fixture(scope="session")
def phantom(draw_phantom):
    """A data folder with a few 32x32 patients in mri, ct and pet. Tests must not change it."""
    return draw_phantom(ct=6, mri=6, pet=4)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A preset file with TINY."""
    path = tmp_path_factory.mktemp("presets") / "tiny.toml"
    values = {True: "true", False: "false"}
    path.write_text("".join(f"{k} = {values[v] if isinstance(v, bool) else repr(v)}\n" for k, v in TINY.items()))
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory, duiit, phantom, tiny):
    """A --checkpoints_dir with the run `demo` (duiit, MRI -> CT). Tests must not change it."""
    folder = tmp_path_factory.mktemp("trained") / "checkpoints"
    assert duiit("train", "--dataroot", phantom, "--preset", tiny, "--sources", "mri", "--name", "demo",
                 "--checkpoints_dir", folder) == 0
    return folder


_openings = None                        # names of the files that are opened, while somebody listens


def _hear(event, args):
    if _openings is not None and event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
        _openings.append(os.fsdecode(args[0]))


sys.addaudithook(_hear)                 # sees every opening, by whatever library; never to be taken away again


@pytest.fixture
def opened():
    """with opened(folder) as names: …: the files under the folder that were opened in the block, each time."""
    @contextmanager
    def listen(folder):
        global _openings
        names, _openings = [], []
        try:
            yield names
        finally:
            heard, _openings = _openings, None
            # What is not there may be tried, and a folder that is listed is opened too.
            names += [n for n in heard if n.startswith(f"{folder}{os.sep}") and Path(n).is_file()]
    return listen


@pytest.fixture
def settled(monkeypatch):
    """Files that were written just now count as files that have been there for long."""
    monkeypatch.setattr(file_index, "SETTLED", -60.0)


@pytest.fixture
def refused(duiit, capsys):
    """refused(*words) -> the one line of complaint, after checking that the command ended as a mistake should."""
    def call(*words):
        capsys.readouterr()
        assert duiit(*words) == 2
        lines = capsys.readouterr().err.splitlines()
        complaints = [line for line in lines if line.startswith("error: ")]
        assert len(complaints) == 1
        assert lines[-1] == complaints[0]
        assert "Traceback" not in "".join(lines)
        return complaints[0].removeprefix("error: ")
    return call


# ---- memory --------------------------------------------------------------------------------------------------------

def _memory(key):
    """This process's memory in MB: "VmRSS" now, "VmHWM" the most so far; 0 where the system does not tell it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith(key + ":")), 0)


def pytest_collection_finish():
    # What is imported by now lives as long as the process. Left out of the collector's rounds, these take little,
    # and they come by often enough to find the tests' own garbage, networks and images, which Python counts as little.
    gc.collect()
    gc.freeze()
    _tidied[0] = _memory("VmRSS")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    before = _memory("VmHWM")
    done = yield
    if _memory("VmRSS") > _tidied[0] + GROWTH:      # not after every test: a round takes as long as many a test
        gc.collect()
        _tidied[0] = _memory("VmRSS")
    _rises.append((_memory("VmHWM") - before, item.nodeid))
    return done


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """The session fails where a test process has passed the limit: memory that grows with the tests is kept by
    somebody, and a run of the program may keep it too."""
    gc.unfreeze()                           # else libraries complain, as the process ends, of what they find alive
    mine = [_memory("VmHWM"), sorted(_rises, reverse=True)[:5]]
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["memory"] = mine
        return
    if _rises:                              # with workers this process runs no tests
        _peaks["this process"] = mine
    if any(peak > MEMORY_LIMIT for peak, _ in _peaks.values()) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    if "memory" in getattr(node, "workeroutput", {}):        # a worker that crashed left none
        _peaks[node.gateway.id] = node.workeroutput["memory"]


def pytest_terminal_summary(terminalreporter):
    for name, (peak, rises) in sorted(_peaks.items()):
        terminalreporter.write_line(f"memory: {name} had {peak} MB at most")
        if peak > MEMORY_LIMIT:
            terminalreporter.write_line(f"FAILED: that is more than {MEMORY_LIMIT} MB. What raised it most:", red=True)
            for rise, test in rises:
                terminalreporter.write_line(f"  {rise} MB  {test}")
