"""Fixtures for the tests of the readers: functions that write small DICOM files, and the reading of a whole path."""
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from duiit.data.readers import find_scans, read_scan

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


def _write_slice(path, pixels=None, z=0.0, series="1.2.3", orientation=(1, 0, 0, 0, 1, 0), origin=None, **tags):
    """One uncompressed file; `tags` are added by keyword, and None takes a tag away."""
    pixels = np.zeros((8, 10), np.int16) if pixels is None else pixels
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CT_STORAGE, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CT_STORAGE, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.PatientID = "CT", series, "1.2", "P1"
    ds.ImageOrientationPatient, ds.PixelSpacing = list(orientation), [0.5, 0.4]
    ds.ImagePositionPatient = list(origin) if origin is not None else [0, 0, z]
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.dtype.itemsize
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(pixels.dtype.kind == "i")
    ds.RescaleIntercept, ds.RescaleSlope = 0, 1
    ds.PixelData = pixels.tobytes()
    if pixels.ndim == 3:
        ds.NumberOfFrames = len(pixels)
    for name, value in tags.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def _pet_tags(**changes):
    """Header of a PET slice in Bq/ml: 100 MBq of a tracer with 6000 s half-life, given 6000 s before, 50 kg."""
    tracer = pydicom.Dataset()
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = 1e8, 6000
    tracer.RadiopharmaceuticalStartTime = "100000"
    tags = {"Modality": "PT", "Units": "BQML", "DecayCorrection": "START", "CorrectedImage": ["DECY", "ATTN"],
            "PatientWeight": 50, "SeriesDate": "20200101", "SeriesTime": "114000", "AcquisitionDate": "20200101",
            "AcquisitionTime": "114500", "RadiopharmaceuticalInformationSequence": [tracer]}
    for name, value in changes.items():
        if name in ("RadionuclideTotalDose", "RadiopharmaceuticalStartTime", "RadionuclideHalfLife",
                    "RadiopharmaceuticalStartDateTime"):
            setattr(tracer, name, value)
        else:
            tags[name] = value
    return tags


@pytest.fixture
def write_slice():
    return _write_slice


@pytest.fixture
def pet_tags():
    return _pet_tags


@pytest.fixture
def read():
    """All slices of all scans at a path, in order."""
    return lambda path, **options: [s for scan in find_scans(path, **options) for s in read_scan(scan)]
