"""What is imported before it is needed: nothing that a program takes long for. Each in a process of its own."""
import subprocess
import sys

import pytest

from duiit.data import create_dataset
from duiit.options import TrainOptions

HEAVY = ("visdom", "matplotlib", "pandas", "pydicom", "scipy.stats", "skimage")
TORCHVISION = ("torchvision", "torch._dynamo")          # the second comes with the first, and takes as long as torch


def imported(code, names, *words):
    """Which of the modules `names` a fresh process has imported where `code` calls told()."""
    start = ("import sys\n"
             f"def told(): print('IMPORTED', *(n for n in {names!r} if n in sys.modules)); sys.stdout.flush()\n")
    done = subprocess.run([sys.executable, "-c", start + code, *map(str, words)], capture_output=True, text=True,
                          timeout=300)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("IMPORTED")] or [done.stderr]
    return line.split()[1:] if line.startswith("IMPORTED") else line


CALLED = """
from duiit_cli.main import main
try: main(sys.argv[1:])
except SystemExit: told()
"""


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["data", "--help"]])
def test_the_groups_answer_without_anything(words):
    assert imported(CALLED, ("torch", "numpy", "rich", "PIL", *HEAVY, *TORCHVISION), *words) == []


@pytest.mark.parametrize("command", ["train", "translate", "experiment"])
def test_a_commands_options_are_shown_without_torchvision_or_a_readers_library(command):
    assert imported(CALLED, (*HEAVY, *TORCHVISION, "PIL", "nibabel", "tifffile"), command, "--help") == []


def test_options_of_a_training_are_understood_without_torchvision_or_a_readers_library(tmp_path, phantom):
    code = "from duiit.options import TrainOptions\nTrainOptions().parse(sys.argv[1:])\ntold()"
    names = (*HEAVY, *TORCHVISION, "PIL", "nibabel", "tifffile")
    assert imported(code, names, "--dataroot", phantom, "--checkpoints_dir", tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--model", "duiit", "--sources", "mri"],
                                   ["--model", "predictor", "--augment", "simple"]])
def test_the_first_step_is_reached_without_what_it_does_not_need(tmp_path, phantom, tiny, words):
    """Images that were prepared before: those who read medical files may need more, nibabel imports pydicom."""
    create_dataset(TrainOptions().parse(["--dataroot", str(phantom), "--preset", str(tiny), *words, "--checkpoints_dir",
                                         str(tmp_path)]))
    code = """
from duiit.models import find_model_using_name
model = find_model_using_name(sys.argv[1 + sys.argv.index('--model')])
def first_step(self):
    told()
    sys.exit(0)
model.optimize_parameters = first_step
""" + CALLED.replace("told()", "pass")
    found = imported(code, (*HEAVY, "nibabel", "tifffile"), "train", "--dataroot", phantom, "--preset", tiny, *words,
                     "--checkpoints_dir", tmp_path)
    assert found == []
