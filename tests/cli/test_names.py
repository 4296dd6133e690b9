"""DUIIT's packages have common names: a folder with others of the same names must not get in their way."""
import os
import shutil
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


@pytest.mark.slow
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


# -- as a library in somebody's project ------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[2]
# A project with modules of the toolkit's names, of which half are imported before DUIIT and half after.
PROJECT = """
import sys
import data, models
import duiit
from duiit.util import plugins
from duiit.models import find_model_using_name
import util, options
plugins.use(sys.argv[1])
model = find_model_using_name("mine")
assert (data.whose, models.whose, util.whose, options.whose) == ("theirs",) * 4
assert all(sys.modules[name].whose == "theirs" for name in ("data", "models", "util", "options"))
assert model.pool().pool_size == 3, model.pool()
assert model.layers() is sys.modules["duiit.models.networks"]
import data as again
assert again is data and sys.modules["duiit.data"] is not data
print(duiit.__file__)
"""
MINE = """
import util.util as util
import models
from data.base_dataset import get_params
from util.image_pool import ImagePool
from models.base_model import BaseModel
from .parts_of_mine import layers


class MineModel(BaseModel):
    layers = staticmethod(layers)
    tensor2im = staticmethod(util.tensor2im)
    same = models.networks is __import__("models.networks", fromlist=["define_G"])

    @staticmethod
    def pool():
        from util.image_pool import ImagePool as late

        assert late is ImagePool
        return late(3)

    def set_input(self, input): pass
    def forward(self): pass
    def optimize_parameters(self): pass
"""
PARTS = """
def layers():
    import models.networks as networks
    return networks
"""


@pytest.fixture
def project(tmp_path):
    """A folder with main.py, packages and modules of its own, and plug-ins."""
    for file in ("data.py", "models/__init__.py", "util/__init__.py", "options.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("whose = 'theirs'\n")
    (tmp_path / "main.py").write_text(PROJECT)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "mine_model.py").write_text(MINE)
    (tmp_path / "plugins" / "parts_of_mine.py").write_text(PARTS)
    return tmp_path


def run_project(folder, **env):
    done = subprocess.run([sys.executable, "main.py", "plugins"], cwd=folder, capture_output=True, text=True,
                          timeout=120, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.mark.slow
def test_beside_a_projects_own_modules_of_the_same_names(project):
    assert run_project(project) == ROOT / "duiit" / "__init__.py"


@pytest.mark.slow
def test_the_wheel_brings_two_names_and_works_beside_others(project, tmp_path):
    """What stands in site-packages is `duiit` and `duiit_cli`, and nothing that they need is missing."""
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "demo", "build", "*.egg-info", "tests", "docs"))
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                    "--target", str(site), str(source)], check=True, timeout=300)
    assert {p.name for p in site.iterdir() if not p.name.endswith(".dist-info")} - {"bin"} == {"duiit", "duiit_cli"}
    for place in ("options/presets", "."):
        wanted = {p.name for p in (ROOT / place).glob("*.toml")} - {"pyproject.toml"}
        assert wanted <= {p.name for p in (site / "duiit" / place).glob("*.toml")}
    assert (site / "duiit_cli" / "experiments" / "reporting" / "published.toml").is_file()
    wanted = {p.relative_to(ROOT / "data") for p in (ROOT / "data").rglob("*.py")}
    assert wanted == {p.relative_to(site / "duiit" / "data") for p in (site / "duiit" / "data").rglob("*.py")}
    assert run_project(project, PYTHONPATH=str(site)) == site / "duiit" / "__init__.py"
