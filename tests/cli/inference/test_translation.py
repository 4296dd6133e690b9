"""What `duiit translate` says of what it writes."""
import pydicom
import pytest

CLIPPED = "Values are limited to -20 to 100 HU"


@pytest.fixture
def series(tmp_path, capsys, duiit, trained, phantom):
    """series(*words) -> (the first data set that translate --format dicom wrote, what it said)."""
    def make(*words):
        output = tmp_path / f"out{len(words)}"
        run = "translate", "--name", "demo", "--checkpoints_dir", trained, "--device", "cpu"
        assert duiit(*run, "--input", phantom / "mri", "--output", output, "--format", "dicom", *words) == 0
        return pydicom.dcmread(min(output.rglob("*.dcm"))), capsys.readouterr().err
    return make


def test_a_series_of_the_brain_window_says_where_its_hu_end(series):
    written, said = series()
    assert CLIPPED in written.DerivationDescription
    assert "from MR images" in written.DerivationDescription        # the source is TIFF, which has no header to say it
    lines = [line for line in said.splitlines() if "bone and air are written as these ends" in line]
    assert len(lines) == 1 and lines[0].startswith("warning: --format dicom: this run knows only -20 to 100 HU")


def test_a_series_of_the_full_window_has_nothing_to_say(series):
    written, said = series("--ct_window", "full")
    assert CLIPPED not in written.DerivationDescription
    assert "bone and air" not in said
