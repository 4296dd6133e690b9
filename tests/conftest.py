"""Shared fixtures."""
import pytest
import torch

from duiit_cli.main import main

torch.set_num_threads(1)                # as the subprocesses of the tests do: the same weights, and no fight for cores

# Small enough that a step takes milliseconds, with every part of the real thing.
TINY = {"load_size": 32, "crop_size": 32, "netG": "resnet_1blocks", "ngf": 4, "ndf": 4, "netP": "resnet10",
        "batch_size": 2, "num_threads": 0, "n_epochs": 3, "n_epochs_decay": 0, "max_steps": 3, "val_fraction": 0.2,
        "test_fraction": 0.2, "print_freq": 1, "no_html": True, "display_id": 0, "device": "cpu"}


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Decoded images go to a folder of this session, also from subprocesses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
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
def phantom(tmp_path_factory, duiit):
    """A data folder with a few 32x32 patients in mri, ct and pet. Tests must not change it."""
    folder = tmp_path_factory.mktemp("phantom") / "phantom"
    assert duiit("data", "phantom", "--output", folder, "--size", 32, "--slices", 2, "--ct_patients", 6,
                 "--mri_patients", 6, "--pet_patients", 4) == 0
    return folder


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
