"""DUIIT's packages have common names: a folder with others of the same names must not get in their way."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

SPAWN = """
import multiprocessing, sys
from duiit_cli.main import main
if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main(sys.argv[1:])
"""
HERE = Path(sys.executable).parent


@pytest.fixture
def trap(tmp_path):
    """A working directory with packages and modules of DUIIT's names that must never be imported."""
    (tmp_path / "data").mkdir()                                     # a namespace package, or just somebody's data
    for file in ("data/ct_dataset.py", "models/__init__.py", "options.py", "util/__init__.py", "util/errors.py"):
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"raise RuntimeError('imported {file} of the working directory')\n")
    (tmp_path / "spawn.py").write_text(SPAWN)
    return tmp_path


def test_started_among_packages_of_the_same_names(trap, phantom, tiny):
    """The console script, the module, torchrun, and loader processes that import everything anew."""
    launchers = {
        "script": [HERE / "duiit"],
        "module": [sys.executable, "-m", "duiit_cli"],
        "torchrun": [HERE / "torchrun", "--standalone", "--nproc_per_node", "1", "-m", "duiit_cli"],
        "spawn": [sys.executable, "spawn.py"],
    }
    words = ["train", "--dataroot", phantom, "--preset", tiny, "--sources", "mri", "--max_steps", "1"]
    words += ["--num_threads", "1"]
    running = {}
    for name, launcher in launchers.items():
        command = [str(word) for word in [*launcher, *words, "--name", name]]
        running[name] = subprocess.Popen(command, cwd=trap, env=os.environ, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, text=True)
    outputs = {name: process.communicate(timeout=120)[0] for name, process in running.items()}
    for name, process in running.items():
        assert process.returncode == 0, f"{name}: {outputs[name]}"
        assert (trap / "checkpoints" / name / "latest_net_G_A.pth").is_file()
