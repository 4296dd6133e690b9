"""DICOM folders that are listed and prepared again: files that are as they were are not opened."""
from pathlib import Path

import numpy as np
import pydicom
import pytest

from duiit.data.ct_dataset import CtDataset
from duiit.data.readers.dicom_series import known_header, read_header
from duiit.util.file_index import FileIndex

pytestmark = pytest.mark.usefixtures("settled")


@pytest.fixture
def folder(tmp_path, write_slice):
    """Two patients with the age in their headers, and what lies among their files in such folders."""
    rng = np.random.default_rng(0)
    root = tmp_path / "data" / "ct"
    for patient in "AB":
        for n in range(4):
            pixels = rng.integers(-100, 300, (24, 24)).astype(np.int16)
            # Without an ending, as archives have them: told by their content.
            write_slice(root / patient / f"IM{n}", pixels, z=n, series=f"1.2.{ord(patient)}", PatientID=patient,
                        PatientAge="063Y")
    write_slice(root / "A" / "dose", Modality="RTDOSE", series="1.9")
    (root / "A" / "notes").write_text("not an image")
    return root


def changed(path):
    """Other pixels, in as many bytes."""
    ds = pydicom.dcmread(path)
    ds.PixelData = ds.PixelData[::-1]
    ds.save_as(path)


def test_the_second_process_opens_no_file(folder, options, opened):
    first = CtDataset(options(), folder, 1)
    with opened(folder) as names:
        scans = CtDataset.find_scans(folder, options())
        again = CtDataset(options(), folder, 1)
    assert names == []
    assert scans == again.scans == first.scans and again.rows == first.rows
    assert [(s.patient, s.label, len(s.files)) for s in scans] == [("A", 63, 4), ("B", 63, 4)]


def test_only_what_changed_or_came_is_opened(folder, options, opened, write_slice):
    before = CtDataset(options(), folder, 1)
    changed(folder / "A" / "IM0")
    write_slice(folder / "B" / "IM4", np.zeros((24, 24), np.int16) + 50, z=4, series="1.2.66", PatientID="B")
    (folder / "B" / "IM0").unlink()
    with opened(folder) as names:
        scans = CtDataset.find_scans(folder, options())
    assert {Path(name).name for name in names} == {"IM0", "IM4", "IM1"}, "IM1 is the first of B by now: for the age"
    assert [[f.name for f in s.files] for s in scans] == [["IM0", "IM1", "IM2", "IM3"], ["IM1", "IM2", "IM3", "IM4"]]
    after = CtDataset(options(), folder, 1)
    assert not np.array_equal(after.cohort.image(after.rows[0]), before.cohort.image(before.rows[0]))


def test_scans_that_lie_elsewhere_leave_no_trace(folder, options, tmp_path):
    """Those of a patient that `duiit predict` is asked of, say."""
    folder.rename(tmp_path / "elsewhere")
    CtDataset.find_scans(tmp_path / "elsewhere", options())
    assert not (tmp_path / "cache").exists()


def test_a_header_from_the_index_is_the_one_in_the_file(tmp_path, write_slice):
    telling = {"EchoTime": 4.5, "ImageType": ["ORIGINAL", "PRIMARY", "M"], "SliceLocation": 7.25,
               "PatientName": "Ärzte^Ø", "SpecificCharacterSet": "ISO_IR 192", "PatientID": "Ä/1"}
    paths = [write_slice(tmp_path / "one", z=1 / 3, **telling), write_slice(tmp_path / "dose", Modality="RTDOSE"),
             write_slice(tmp_path / "several", np.zeros((3, 8, 10), np.int16)),
             write_slice(tmp_path / "nowhere", ImagePositionPatient=None, PixelSpacing=None)]
    for _ in range(2):
        with FileIndex(tmp_path, tmp_path / "cache") as index:
            assert [known_header(path, index) for path in paths] == [read_header(path) for path in paths]
