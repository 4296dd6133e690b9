"""What other libraries say of a file: nothing, or one line that names it."""
import logging
import subprocess
import sys
import warnings

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

PREAMBLE = """
import logging, sys, warnings
from pathlib import Path
from duiit.util import logs
from duiit.data.readers import find_scans, read_scan
from duiit.util.errors import UserError
logs.setup_logging(verbose="--verbose" in sys.argv)
try:
    for scan in find_scans(Path(sys.argv[1])):
        read_scan(scan)
except UserError as error:
    print(error)
"""


def spoken(path, *words, code=PREAMBLE):
    """(standard error, standard output) of reading `path` as the command line does, line by line."""
    done = subprocess.run([sys.executable, "-c", code, str(path), *words], capture_output=True, text=True, timeout=100,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines(), done.stdout.splitlines()


@pytest.fixture
def odd_series(tmp_path):
    """Twenty files with UIDs and values that DICOM does not allow."""
    ds = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.SeriesInstanceUID, ds.FrameOfReferenceUID, ds.StudyInstanceUID = "1.02.3", "1.2.x", "1..2"
        for n in range(20):
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.02.{n}"
            ds.ImagePositionPatient = [0, 0, 5 * n]
            ds.save_as(tmp_path / f"{n}.dcm")
    return tmp_path


@pytest.mark.slow
def test_odd_headers_are_read_without_a_word(odd_series):
    assert spoken(odd_series) == ([], [])
    said, _ = spoken(odd_series / "3.dcm", "--verbose")
    assert any("3.dcm" in line and "remarks of libraries" in line for line in said)


@pytest.mark.slow
def test_a_damaged_jpeg_in_dicom_is_one_line(tmp_path):
    ds = pydicom.dcmread(get_testdata_file("SC_rgb_jpeg_dcmtk.dcm", download=False))
    start = ds.PixelData.index(b"\xff\xd8")                      # of the JPEG; a third of it is as if never written
    ds.PixelData = ds.PixelData[:start] + b"\xff\xd8" + bytes(len(ds.PixelData) - start - 2)
    ds.save_as(tmp_path / "1.dcm")
    said, answer = spoken(tmp_path / "1.dcm")
    assert said == [] and len(answer) == 1 and answer[0].startswith(f"{tmp_path / '1.dcm'}: ")


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["tif", "png", "jpg"])
def test_damaged_images_are_one_line(tmp_path, ending):
    path = tmp_path / f"1.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    said, answer = spoken(path)
    assert len(said) + len(answer) == 1 and str(path) in (said + answer)[0]


@pytest.mark.slow
def test_every_library_goes_through_one_place(tmp_path):
    code = """
import logging, sys, warnings
import matplotlib, nibabel, PIL.Image, pydicom, tifffile
from duiit.util import logs
from duiit.data.readers.common import reading
from pathlib import Path
logs.setup_logging()
path = Path(sys.argv[1])
for _ in range(2):
    with reading(path, "a file"):
        for name in ("pydicom", "PIL.TiffImagePlugin", "tifffile", "nibabel.global", "matplotlib.font_manager"):
            logging.getLogger(name).warning("odd")
        warnings.warn("odd")
with reading(path, "a file"):
    logging.getLogger("nibabel.global").error("half of it is gone")
    logging.getLogger("tifffile").error("the other half too")
for name in ("pydicom", "PIL.TiffImagePlugin", "tifffile", "nibabel.global", "matplotlib.font_manager"):
    logging.getLogger(name).warning("odd")
"""
    (tmp_path / "1").write_text("x")
    said, _ = spoken(tmp_path / "1", code=code)
    assert len(said) == 1
    assert said[0].startswith(f"warning: {tmp_path / '1'}: could be read, but not without 2 errors")
    assert "half of it" in said[0]


def test_a_program_that_imports_us_hears_its_own_libraries(caplog):
    import duiit.data.readers.common  # noqa: F401

    with caplog.at_level(logging.WARNING):
        logging.getLogger("pydicom").warning("of another program's file")
    assert "of another program's file" in caplog.text
