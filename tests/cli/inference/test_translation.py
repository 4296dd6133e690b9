"""What `duiit translate` says of what it writes."""
import pydicom
import pytest

CLIPPED = "Values are limited to -20 to 100 HU"


@pytest.fixture
def series(tmp_path, capsys, duiit, phantom):
    """series(checkpoints, name) -> (the first data set that translate --format dicom wrote, what it said)."""
    def make(checkpoints, name):
        run = "translate", "--name", name, "--checkpoints_dir", checkpoints, "--device", "cpu"
        assert duiit(*run, "--input", phantom / "mri", "--output", tmp_path / "out", "--format", "dicom") == 0
        return pydicom.dcmread(min((tmp_path / "out").rglob("*.dcm"))), capsys.readouterr().err
    return make


def test_a_series_of_the_brain_window_says_where_its_hu_end(series, trained):
    written, said = series(trained, "demo")
    assert CLIPPED in written.DerivationDescription
    assert "from MR images" in written.DerivationDescription        # the source is TIFF, which has no header to say it
    lines = [line for line in said.splitlines() if "bone and air are written as these ends" in line]
    assert len(lines) == 1 and lines[0].startswith("warning: --format dicom: this run knows only -20 to 100 HU")


@pytest.mark.slow
def test_a_series_of_the_full_window_has_nothing_to_say(series, duiit, phantom, tiny, tmp_path):
    assert duiit("train", "--dataroot", phantom, "--preset", tiny, "--sources", "mri", "--max_steps", 1, "--name",
                 "full", "--ct_window", "full", "--checkpoints_dir", tmp_path) == 0
    written, said = series(tmp_path, "full")
    assert CLIPPED not in written.DerivationDescription
    assert "bone and air" not in said
    assert written.pixel_array.max() > 1024 + 100           # HU beyond the brain window


@pytest.mark.parametrize("words", [["translate", "--output", "out"], ["predict"]])
def test_another_window_than_the_trained_one_is_refused(refused, trained, phantom, words):
    """It would give wrong Hounsfield units without a word."""
    message = refused(*words, "--name", "demo", "--checkpoints_dir", trained, "--input", phantom / "mri", "--device",
                      "cpu", "--ct_window", "full")
    assert message.startswith("--ct_window full: the run demo was trained with --ct_window brain")
