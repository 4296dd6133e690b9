"""A small sound data folder, and what `duiit data check` says of a folder."""
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from duiit.data.checking.check import check_folder
from duiit.options import CheckOptions


@pytest.fixture
def root(tmp_path, cohort_on_disk):
    cohort_on_disk(tmp_path / "d" / "ct", [f"c{i}" for i in range(10)], range(30, 40), seed=1)
    cohort_on_disk(tmp_path / "d" / "mri", [f"m{i}" for i in range(5)], [50, 60, 70, 80, 90], seed=2)
    return tmp_path / "d"


@pytest.fixture
def check():
    """check(root, "--option …") -> (modalities, problems)."""
    return lambda root, words="": check_folder(CheckOptions().parse(["--dataroot", str(root), *words.split()]))


@pytest.fixture
def problems(check):
    """problems(root, "--option …") -> {reason: level} of all but the standing remark on 8-bit CT."""
    return lambda root, words="": {f"{p.where}: {p.reason}": p.level for p in check(root, words)[1]
                                   if "Hounsfield" not in p.reason}


@pytest.fixture
def one_problem(problems):
    """one_problem(root, "--option …", far=True) -> the only one there is; far=False: besides labels far from the
    others."""
    def find(root, words="", far=True):
        found = {where: level for where, level in problems(root, words).items() if far or "far from" not in where}
        assert len(found) == 1, found
        return next(iter(found.items()))
    return find


@pytest.fixture
def paint():
    return lambda path, pixels: Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


@pytest.fixture
def write_series():
    def write(folder, patient_id, seed):
        """A CT series of two slices, of pydicom's own small CT, with other pixels."""
        folder.mkdir(parents=True)
        for n in range(2):
            ds = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
            ds.PatientID, ds.SeriesInstanceUID, ds.SOPInstanceUID = patient_id, f"1.2.{seed}", f"1.2.{seed}.{n}"
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            ds.InstanceNumber, ds.ImagePositionPatient, ds.PatientAge = n + 1, [0, 0, 5 * n], "045Y"
            noise = np.random.default_rng(100 * seed + n).integers(0, 50, ds.pixel_array.shape)
            ds.PixelData = (ds.pixel_array + noise).astype(ds.pixel_array.dtype).tobytes()
            ds.save_as(folder / f"{n}.dcm")
    return write
