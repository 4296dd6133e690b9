"""What is no picture of the patient is left out of a cohort, and counted."""
import logging

import numpy as np
import pytest

from duiit.data.readers import find_scans, read_scan
from duiit.data.readers.slice import DISPLAY, GREY, HU
from duiit.util.errors import UserError

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
NOWHERE = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
EIGHT = np.arange(80, dtype=np.uint8).reshape(8, 10)


@pytest.mark.parametrize("tags, said", [
    ({"SOPClassUID": CAPTURE, **NOWHERE}, "screenshots"),
    ({"SOPClassUID": CAPTURE, "Modality": "OT", **NOWHERE}, "screenshots"),
    ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "screenshots"),
    ({"ImageType": ["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"], **NOWHERE}, "screenshots"),
    ({"ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"], **NOWHERE}, "screenshots"),
    ({"BurnedInAnnotation": "YES"}, "screenshots"),
    (NOWHERE, "screenshots"),                                                   # 8 bits that lie nowhere
    ({"ConversionType": "SD", **NOWHERE}, "screenshots"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], "Modality": "MR"}, "mosaics"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "scout views"),
])
def test_they_are_left_out_and_counted(tmp_path, write_slice, caplog, tags, said):
    for n in range(3):
        write_slice(tmp_path / "p" / f"{n}.dcm", z=n, series="1.1")
        write_slice(tmp_path / "p" / f"s{n}.dcm", EIGHT, z=n, series="1.2", **tags)
    with caplog.at_level(logging.INFO):
        [scan] = find_scans(tmp_path)
    assert [path.stem for path in scan.files] == ["0", "1", "2"]
    assert f"3 DICOM files are {said}" in caplog.text and len(caplog.records) == 1


def test_colour_maps_of_grey_modalities_are_left_out(tmp_path, write_slice, caplog):
    path = write_slice(tmp_path / "1.dcm", np.zeros((8, 30), np.uint8), PhotometricInterpretation="RGB",
                       SamplesPerPixel=3, PlanarConfiguration=0, Columns=10)
    assert find_scans(tmp_path) == [] and "1 DICOM files are in colour" in caplog.text      # told, as nothing is left
    assert read_scan(find_scans(path)[0])[0].image.shape == (3, 8, 10)                      # asked for by its name


def test_a_mosaic_is_refused_even_by_its_name(tmp_path, write_slice):
    path = write_slice(tmp_path / "1.dcm", Modality="MR", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    with pytest.raises(UserError, match=r"1\.dcm: is a Siemens mosaic.*dcm2niix"):
        read_scan(find_scans(path)[0])


@pytest.mark.parametrize("tags", [
    {"SOPClassUID": CAPTURE},                                   # it lies in the patient: a converted volume
    {"SOPClassUID": CAPTURE, "Modality": "CR", **NOWHERE},      # a digitised film
    {"Modality": "US", "BurnedInAnnotation": "YES", **NOWHERE},
    {"ImageType": ["DERIVED", "SECONDARY", "MPR"]},
])
def test_what_may_be_the_image_itself_stays(tmp_path, write_slice, tags):
    write_slice(tmp_path / "1.dcm", EIGHT, **tags)
    assert len(find_scans(tmp_path)) == 1


@pytest.mark.parametrize("stored, tags, unit", [
    (EIGHT, {}, DISPLAY), (EIGHT, {"RescaleSlope": None, "RescaleIntercept": None}, DISPLAY),
    (EIGHT, {"RescaleIntercept": -1024, "RescaleSlope": 16}, HU), (EIGHT.astype(np.uint16), {}, HU),
    (EIGHT, {"Modality": "MR"}, GREY)])
def test_eight_bits_without_a_rescale_are_never_hounsfield_units(tmp_path, write_slice, read, stored, tags, unit):
    write_slice(tmp_path / "1.dcm", stored, **tags)
    [s] = read(tmp_path)
    assert s.unit == unit
    if unit == DISPLAY:
        np.testing.assert_array_equal(s.image, stored)
