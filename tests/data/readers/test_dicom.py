"""Pixels of DICOM series: units, padding, geometry, frames, compression."""
import math
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import JPEGLSLossless

from duiit.data.readers import find_scans, header_age, parse_age, read_scan
from duiit.data.readers.slice import GREY, HU, SUV
from duiit.util.errors import UserError


def test_hounsfield_units_are_slope_and_intercept(tmp_path, write_slice, read):
    stored = np.arange(80, dtype=np.uint16).reshape(8, 10)
    write_slice(tmp_path / "1.dcm", stored, RescaleSlope=2, RescaleIntercept=-100)
    [s] = read(tmp_path)
    assert s.unit == HU and s.image.dtype == np.float32
    np.testing.assert_array_equal(s.image, stored * 2.0 - 100)


def test_signed_values_without_slope_are_taken_as_stored(tmp_path, write_slice, read):
    stored = np.full((8, 10), -1000, np.int16)
    write_slice(tmp_path / "1.dcm", stored, RescaleSlope=None, RescaleIntercept=None)
    [s] = read(tmp_path)
    assert s.unit == HU and (s.image == -1000).all()


def test_unsigned_ct_without_intercept_is_not_called_hounsfield(tmp_path, write_slice, read, caplog):
    write_slice(tmp_path / "1.dcm", np.full((8, 10), 1100, np.uint16), RescaleSlope=None, RescaleIntercept=None)
    assert read(tmp_path)[0].unit == GREY
    assert "Rescale Intercept" in caplog.text


@pytest.mark.parametrize("value, stated", [(-2000, -2000), (-1500, None)])
def test_what_the_scanner_has_not_seen_is_air(tmp_path, write_slice, read, value, stated):
    stored = np.full((8, 10), 40, np.int16)
    stored[0, 0] = value
    write_slice(tmp_path / "1.dcm", stored, **({"PixelPaddingValue": stated} if stated else {}))
    image = read(tmp_path)[0].image
    assert image[0, 0] == -1024 and image[1, 1] == 40


def test_padding_of_other_modalities_is_the_lowest_value(tmp_path, write_slice, read):
    stored = np.full((8, 10), 300, np.uint16)
    stored[0, :2], stored[4, 4] = 65535, 20
    write_slice(tmp_path / "1.dcm", stored, Modality="MR", PixelPaddingValue=65000, PixelPaddingRangeLimit=65535)
    image = read(tmp_path)[0].image
    assert image.max() == 300 and image[0, 0] == 20


def test_a_tissue_value_called_padding_is_believed_only_in_a_corner(tmp_path, write_slice, read):
    stored = np.full((8, 10), -1000, np.int16)
    stored[4, 4] = 0
    write_slice(tmp_path / "1.dcm", stored, PixelPaddingValue=0)
    assert read(tmp_path)[0].image[4, 4] == 0


def test_geometry_of_a_tilted_gantry(tmp_path, write_slice, read):
    tilt = math.radians(20)
    orientation = (1, 0, 0, 0, math.cos(tilt), -math.sin(tilt))
    for n in range(3):
        write_slice(tmp_path / f"{n}.dcm", orientation=orientation, origin=(-10, -20, 5 * n))
    geometry = read(tmp_path)[0].geometry
    assert geometry.orientation is None
    assert geometry.spacing == pytest.approx((0.5, 0.4, 5.0))
    lps = np.diag([-1, -1, 1, 1]) @ geometry.affine
    np.testing.assert_allclose(lps @ [2, 3, 1, 1], [-10 + 0.8, -20 + 1.5 * math.cos(tilt), 5 - 1.5 * math.sin(tilt), 1])


def test_uneven_slices_are_told_with_the_largest_error(tmp_path, write_slice, read, caplog):
    nib = pytest.importorskip("nibabel")
    places = np.concatenate([np.arange(10) * 4.22, 9 * 4.22 + np.arange(1, 10) * 7.38]).round(2)
    for n, z in enumerate(places):
        write_slice(tmp_path / f"{n:02}.dcm", np.full((8, 10), n, np.int16), z=z)
    slices = read(tmp_path)
    # Where a NIfTI of this affine would put each slice, by nibabel, against where its header says it lies.
    image = nib.Nifti1Image(np.zeros((10, 8, len(places))), slices[0].geometry.affine)
    off = max(abs(nib.affines.apply_affine(image.affine, [0, 0, n])[2] - z) for n, z in enumerate(places))
    assert off > 10 and f"up to {off:.1f} mm off" in caplog.text and "--format dicom" in caplog.text
    assert len(caplog.records) == 1 and "4.22 to 7.38 mm apart" in caplog.text


def test_even_slices_are_not_remarked_on_for_the_rounding_of_their_places(tmp_path, write_slice, read, caplog):
    for n in range(40):
        write_slice(tmp_path / f"{n:02}.dcm", z=round(n * 2.33, 1))
    read(tmp_path)
    assert not caplog.records


def test_simpleitk_agrees_on_values_and_geometry(tmp_path, write_slice, read):
    sitk = pytest.importorskip("SimpleITK")
    rng = np.random.default_rng(0)
    for n in range(4):
        write_slice(tmp_path / f"{9 - n}.dcm", rng.integers(-1000, 2000, (8, 10), np.int16), origin=(-7, -3, 2.5 * n),
                    RescaleIntercept=-24)
    slices = read(tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(s.path) for s in slices])
    other = reader.Execute()
    np.testing.assert_array_equal(np.stack([s.image for s in slices]), np.maximum(sitk.GetArrayFromImage(other), -1024))
    lps = np.diag([-1, -1, 1, 1]) @ slices[0].geometry.affine
    assert (lps @ [3, 5, 2, 1])[:3] == pytest.approx(other.TransformIndexToPhysicalPoint((3, 5, 2)))


def test_frames_of_one_file_are_slices_in_order_of_position(tmp_path, write_slice, read):
    stored = np.stack([np.full((8, 10), n, np.int16) for n in range(3)])
    path = write_slice(tmp_path / "1.dcm", stored, ImagePositionPatient=None, RescaleSlope=None, RescaleIntercept=None)
    ds = pydicom.dcmread(path)
    ds.PerFrameFunctionalGroupsSequence = [_frame(z, intercept) for z, intercept in ((2, 10), (0, 20), (1, 30))]
    ds.save_as(path)
    slices = read(tmp_path)
    assert [s.image[0, 0] for s in slices] == [21, 32, 10]
    assert [s.index for s in slices] == [0, 1, 2]
    assert slices[0].geometry.spacing[2] == pytest.approx(1)


def _frame(z, intercept):
    position, values, group = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    position.ImagePositionPatient = [0, 0, z]
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, intercept, "HU"
    group.PlanePositionSequence, group.PixelValueTransformationSequence = [position], [values]
    return group


def test_suv_by_weight_is_decay_corrected(tmp_path, write_slice, pet_tags, read):
    write_slice(tmp_path / "1.dcm", np.full((8, 10), 2000, np.uint16), **pet_tags())
    [s] = read(tmp_path)
    # One half-life after the injection 50 MBq are left in 50 kg: 1000 Bq/g, so that 2000 Bq/ml are SUV 2.
    assert s.unit == SUV and s.image[0, 0] == pytest.approx(2.0)


@pytest.mark.parametrize("changes, suv", [
    ({"DecayCorrection": "ADMIN"}, 1.0),
    ({"Units": "GML"}, 2000.0),
    # Past midnight:
    ({"RadiopharmaceuticalStartTime": "230000.00", "SeriesTime": "004000", "AcquisitionTime": "004000"}, 2.0),
    ({"RadiopharmaceuticalStartTime": "", "RadiopharmaceuticalStartDateTime": "20200101100000.000000-0500"}, 2.0),
    ({"SeriesTime": "150000", "FrameReferenceTime": 0.5, "ActualFrameDuration": 1, "AcquisitionTime": "114000"}, 2.0),
])
def test_suv_of_other_headers(tmp_path, write_slice, pet_tags, read, changes, suv):
    write_slice(tmp_path / "1.dcm", np.full((8, 10), 2000, np.uint16), **pet_tags(**changes))
    assert read(tmp_path)[0].image[0, 0] == pytest.approx(suv, rel=1e-3)


def test_parts_of_a_second_count(tmp_path, write_slice, pet_tags, read):
    tags = pet_tags(RadiopharmaceuticalStartTime="113800.75", RadionuclideHalfLife=122.24, SeriesTime="114000.250")
    write_slice(tmp_path / "1.dcm", np.full((8, 10), 2000, np.uint16), **tags)
    left = 1e8 * 2 ** (-119.5 / 122.24)                             # oxygen-15
    assert read(tmp_path)[0].image[0, 0] == pytest.approx(2000 * 50 * 1000 / left, rel=1e-6)


@pytest.mark.parametrize("changes, reason", [
    ({"Units": "CNTS"}, "CNTS"), ({"PatientWeight": None}, "Weight"), ({"RadionuclideTotalDose": 100}, "Dose"),
    ({"DecayCorrection": "NONE"}, "Decay"), ({"CorrectedImage": ["DECY"]}, "ATTN"),
    ({"RadiopharmaceuticalStartTime": ""}, "Start Time"), ({"RadionuclideHalfLife": 0}, "Half Life"),
])
def test_without_what_suv_needs_values_stay_grey_and_the_reason_is_told(tmp_path, write_slice, pet_tags, read, caplog,
                                                                        changes, reason):
    tags = pet_tags(**changes)
    tags = {name: value for name, value in tags.items() if value is not None}
    write_slice(tmp_path / "1.dcm", np.full((8, 10), 2000, np.uint16), **tags)
    [s] = read(tmp_path)
    assert s.unit == GREY and s.image[0, 0] == 2000
    assert reason in caplog.text


@pytest.mark.parametrize("tags, slope, intercept", [
    ({"RescaleIntercept": None, "RescaleSlope": 2.5}, 2.5, 0), ({"RescaleSlope": None, "RescaleIntercept": -7}, 1, -7),
    ({"RescaleIntercept": "", "RescaleSlope": 2.5}, 2.5, 0), ({"RescaleSlope": "", "RescaleIntercept": -7}, 1, -7)])
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_slope_and_intercept_stand_alone(tmp_path, write_slice, read, tags, slope, intercept, modality):
    stored = np.arange(-40, 40, dtype=np.int16).reshape(8, 10)
    path = write_slice(tmp_path / "1.dcm", stored, Modality=modality, **tags)
    np.testing.assert_array_equal(read(tmp_path)[0].image, stored * slope + intercept)
    if intercept == 0:
        np.testing.assert_array_equal(read(tmp_path)[0].image, _simpleitk(path)[0])


def _simpleitk(*paths):
    sitk = pytest.importorskip("SimpleITK")
    return np.concatenate([sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in paths])


def test_every_pet_slice_has_its_own_slope(tmp_path, write_slice, pet_tags, read):
    stored = np.arange(80, dtype=np.uint16).reshape(8, 10)
    for z, slope in enumerate((0.5, 2.0, 3.25)):
        write_slice(tmp_path / f"{z}.dcm", stored, z=z, RescaleSlope=slope, RescaleIntercept=None, **pet_tags())
    for s, slope in zip(read(tmp_path), (0.5, 2.0, 3.25), strict=True):
        np.testing.assert_allclose(s.image, stored * slope / 1000, rtol=1e-6)


def test_a_slope_of_zero_is_told(tmp_path, write_slice, read):
    write_slice(tmp_path / "1.dcm", np.arange(80, dtype=np.uint16).reshape(8, 10), RescaleSlope=0)
    with pytest.raises(UserError, match=r"1\.dcm.*Rescale Slope"):
        read(tmp_path)


@pytest.mark.parametrize("dtype, bits, ends", [(np.uint8, 8, 255), (np.uint16, 12, 4095), (np.uint16, 16, 65535),
                                               (np.int16, 12, -1), (np.int16, 16, -1)])
def test_lowest_is_white_is_turned_within_the_range_of_its_bits(tmp_path, write_slice, read, dtype, bits, ends):
    stored = np.arange(80, dtype=dtype).reshape(8, 10) - (40 if np.dtype(dtype).kind == "i" else 0)
    for z in range(2):       # the second one is darker: each turned by its own maximum would make them alike
        write_slice(tmp_path / f"{z}.dcm", (stored // (z + 1)).astype(dtype), z=z, Modality="CR", BitsStored=bits,
                    HighBit=bits - 1, PhotometricInterpretation="MONOCHROME1", RescaleSlope=2, RescaleIntercept=5)
    for z, s in enumerate(read(tmp_path)):
        np.testing.assert_array_equal(s.image, (ends - (stored // (z + 1)).astype(float)) * 2 + 5)


def test_padding_of_a_lowest_is_white_image_becomes_black(tmp_path, write_slice, read):
    stored = np.full((8, 10), 300, np.uint16)
    stored[0, 0], stored[4, 4] = 0, 900
    write_slice(tmp_path / "1.dcm", stored, Modality="CR", PhotometricInterpretation="MONOCHROME1", BitsStored=12,
                HighBit=11, PixelPaddingValue=0)
    image = read(tmp_path)[0].image
    assert image[1, 1] == 3795 and image[0, 0] == image[4, 4] == image.min() == 3195


def test_hounsfield_units_stay_whatever_is_shown_as_white(tmp_path, write_slice, read):
    path = write_slice(tmp_path / "1.dcm", np.arange(-40, 40, dtype=np.int16).reshape(8, 10),
                       PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read(path)[0].image, pydicom.dcmread(path).pixel_array)


@pytest.mark.parametrize("text, years", [
    ("063Y", 63), ("006M", 0.5), ("038W", 38 * 7 / 365.25), ("012D", 12 / 365.25), ("42", 42), (" 060y ", 60),
    ("999Y", None), ("", None), (None, None), ("old", None), ("000Y", None), ("000", None), ("000D", 0), ("000M", 0)])
def test_ages(text, years):
    assert parse_age(text) == (None if years is None else pytest.approx(years))


def test_the_headers_age(tmp_path, write_slice):
    write_slice(tmp_path / "1.dcm", PatientAge="018M")
    assert header_age(find_scans(tmp_path)[0]) == "018M"


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_bigendian.dcm",
                                  "MR_small_implicit.dcm"])
def test_every_encoding_gives_the_same_image(name, read):
    plain, other = (read(get_testdata_file(file, download=False))[0] for file in ("MR_small.dcm", name))
    np.testing.assert_array_equal(plain.image, other.image)


def test_a_missing_decoder_is_named_with_its_extra(monkeypatch, read):
    decoder = type("Decoder", (), {"is_available": False})
    monkeypatch.setattr("duiit.data.readers.dicom.get_decoder", lambda syntax: decoder)
    with pytest.raises(UserError, match=r"JPEG-LS.*duiit\[dicom\]"):
        read(get_testdata_file("MR_small_jpeg_ls_lossless.dcm", download=False))
    assert JPEGLSLossless.is_compressed


def test_a_compressed_image_that_ends_early_is_told(tmp_path, read):
    ds = pydicom.dcmread(get_testdata_file("SC_rgb_jpeg_dcmtk.dcm", download=False))
    assert read(ds.filename)[0].image.shape == (3, 100, 100)
    ds.PixelData = ds.PixelData[:len(ds.PixelData) // 2] + bytes(len(ds.PixelData) // 2)    # a download that broke off
    ds.save_as(tmp_path / "1.dcm")
    with pytest.raises(UserError, match=r"1\.dcm: its compressed image 1 of 1 is cut off"):
        read(tmp_path / "1.dcm")


def test_unlike_sizes_of_one_series_are_stacks_of_their_own(tmp_path, write_slice):
    write_slice(tmp_path / "1.dcm")
    write_slice(tmp_path / "2.dcm", np.zeros((12, 12), np.int16), z=1)
    assert sorted(read_scan(scan)[0].image.shape for scan in find_scans(tmp_path)) == [(8, 10), (12, 12)]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bundled_files_give_an_image_or_one_line(read):
    read_well = 0
    for path in sorted(Path(get_testdata_file("MR_small.dcm", download=False)).parent.rglob("*")):
        if path.is_file() and "TINY_ALPHA" not in path.parts:
            try:
                slices = read(path)
                assert all(np.isfinite(s.image).all() for s in slices)
                read_well += 1
            except UserError as error:
                assert path.name in str(error) and "\n" not in str(error)
    assert read_well > 60
