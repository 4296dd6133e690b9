"""`duiit data check` as a command: what it prints, writes and exits with."""
import json
import shutil

import pytest


@pytest.fixture
def folder(phantom, tmp_path):
    """The phantom's CTs and PETs, in which nothing is wrong."""
    for modality in ("ct", "pet"):
        shutil.copytree(phantom / modality, tmp_path / "D" / modality)
    return tmp_path / "D"


def spoil(folder):
    path = sorted((folder / "ct" / "ct_scans").iterdir())[0]
    path.write_bytes(b"no volume")
    return path


def test_sound_data(folder, duiit, capsys):
    assert duiit("data", "check", folder, "--strict") == 0
    seen = capsys.readouterr()
    assert "0 errors, 0 warnings\n" in seen.out
    rows = {line.split("│")[1].strip() for line in seen.out.splitlines() if line.startswith("│")}
    assert {"patients", "sizes", "spacing (mm)", "unit", "labels", "histogram", "train/val/test patients"} <= rows
    assert "in others too" not in rows


def test_a_problem_is_a_line_with_file_reason_and_remedy(folder, duiit, capsys):
    path = spoil(folder)
    assert duiit("data", "check", folder) == 2
    seen = capsys.readouterr()
    (line,) = [line for line in seen.out.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {path}: cannot be read") and line.endswith("; restore the file or remove it")
    assert "1 error, 0 warnings\n" in seen.out and "Traceback" not in seen.err


def test_the_fingerprint_lies_with_the_data_and_is_no_data(folder, duiit, capsys):
    assert duiit("data", "check", folder) == 0
    first, kept = capsys.readouterr().out, (folder / "dataset_fingerprint.json").read_bytes()
    assert set(json.loads(kept)["modalities"]) == {"ct", "pet"}
    assert duiit("data", "check", folder) == 0
    assert capsys.readouterr().out == first
    assert (folder / "dataset_fingerprint.json").read_bytes() == kept
    assert {p.name for p in folder.iterdir()} == {"ct", "pet", "dataset_fingerprint.json"}


def test_the_fingerprint_elsewhere(folder, duiit, tmp_path):
    assert duiit("data", "check", folder, "--fingerprint", tmp_path / "f.json") == 0
    assert (tmp_path / "f.json").is_file() and not (folder / "dataset_fingerprint.json").exists()


def test_where_the_fingerprint_cannot_be_written(folder, duiit, refused, capsys):
    """Into a closed data folder it need not be; where it was asked for, it must."""
    (folder / "ct" / "dataset_fingerprint.json").mkdir()
    assert "dataset_fingerprint.json is a folder" in refused(
        "data", "check", folder, "--fingerprint", folder / "ct" / "dataset_fingerprint.json")
    (folder / "ct" / "dataset_fingerprint.json").rename(folder / "dataset_fingerprint.json")
    assert duiit("data", "check", folder, "--sources", "pet") == 0
    assert "no fingerprint is kept: " in capsys.readouterr().err


def test_json(folder, duiit, tmp_path):
    path = spoil(folder)
    assert duiit("data", "check", folder, "--json", tmp_path / "found.json") == 2
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["errors"], found["warnings"]) == (1, 0)
    assert found["problems"][0]["where"] == str(path)
    assert sum(len(m["patients_by_part"]["train"]) for m in found["modalities"]) == 3 + 3
