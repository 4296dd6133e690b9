"""Every JSON file that the program writes is JSON, for readers that know no Infinity or NaN: jq, JavaScript, R."""
import json
import math

import pytest

from duiit.options import TrainOptions, run_file


def strict(path):
    def refuse(constant):
        raise AssertionError(f"{path}: {constant}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture(scope="module")
def written(tmp_path_factory, duiit, trained, phantom):
    """A folder with what test, predict, evaluate and data check write of the trained run."""
    folder = tmp_path_factory.mktemp("written")
    run = ["--name", "demo", "--checkpoints_dir", trained, "--device", "cpu"]
    assert duiit("test", *run, "--results_dir", folder / "results") == 0
    assert duiit("predict", *run, "--input", phantom / "ct", "--output", folder / "ages.json") == 0
    assert duiit("data", "check", phantom, "--json", folder / "check.json", "--fingerprint", folder / "seen.json") == 0
    assert duiit("evaluate", "--real", phantom / "ct", "--fake", phantom / "truth" / "mri", "--output",
                 folder / "quality.json", "--metrics", "fd_predictor", *run) == 0
    return folder


@pytest.mark.slow
def test_all_of_them(written, trained, phantom):
    found = [path for folder in (written, trained, phantom) for path in folder.rglob("*.json")]
    assert {p.name for p in found} >= {"train_opt.json", "facts.json", "metrics.json", "ages.json", "check.json",
                                       "seen.json", "quality.json", "phantom.json"}
    for path in found:
        strict(path)


def test_no_limit_comes_back_as_it_was(tmp_path):
    opt = TrainOptions().parse(["--dataroot", "somewhere", "--device", "cpu"])
    assert opt.max_dataset_size == math.inf
    run_file.write(tmp_path / "mine", opt, "0")
    assert strict(tmp_path / "mine" / "train_opt.json")["options"]["max_dataset_size"] == "inf"
    assert run_file.read(tmp_path, "mine")["max_dataset_size"] == math.inf
