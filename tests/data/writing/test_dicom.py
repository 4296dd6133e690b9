"""Synthetic CT series in DICOM: conformance, geometry, values, names. dciodvfy and SimpleITK are the judges."""
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import UID, EnhancedCTImageStorage

from duiit.data.preparing.transforms import resize
from duiit.data.readers import find_scans, read_scan
from duiit.data.readers.common import notice
from duiit.data.readers.slice import HU
from duiit.data.writing.dicom import SeriesIdentity, pseudonym, write_dicom
from duiit.util.errors import UserError

IDENTITY = SeriesIdentity(run="brain", model="duiit 1.0, epoch 200", digest="weights and options")
# Values that must not be found in an output; PatientName and PatientID come back where identities are kept.
PERSON = {"PatientName": "Zebrafink^Quintessa", "PatientID": "HOSP-7734521", "PatientBirthDate": "19310714",
          "PatientAddress": "Quokka Lane 5", "InstitutionName": "Saint Xylophone", "OperatorsName": "Wombat^Ursula",
          "ReferringPhysicianName": "Narwhal^Doctor", "AccessionNumber": "ACC98761", "StudyID": "STID8842",
          "ImageComments": "patient of Mrs Yak", "StudyDescription": "Okapi study", "StudyDate": "20190317",
          "StudyTime": "101112", "SeriesDescription": "Ibex series", "StationName": "TAPIR7", "PatientAge": "088Y",
          "OtherPatientIDs": "OTHER55221", "PerformingPhysicianName": "Lemur^Leo", "DeviceSerialNumber": "SER44719"}
SOURCE_UIDS = {"StudyInstanceUID": "1.2.826.77.1", "FrameOfReferenceUID": "1.2.826.77.2",
               "SeriesInstanceUID": "1.2.826.77.3"}


def make_source(path, z=0.0, number=1, pixels=None, **tags):
    """A CT slice on disk: CT_small.dcm with other values, recognisable names, and private tags."""
    ds = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    for name, value in {**PERSON, **SOURCE_UIDS, **tags}.items():
        setattr(ds, name, value)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.77.4.{number}"
    ds.ImagePositionPatient, ds.InstanceNumber = [-158.135803, -179.035797, z], number
    block = ds.private_block(0x0099, "SECRETS", create=True)
    block.add_new(1, "LO", "private Zebrafink")
    if pixels is not None:
        ds.PixelData = pixels.astype("<i2").tobytes()
        ds.Rows, ds.Columns = pixels.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path)
    return path


def slices_of(folder):
    [scan] = find_scans(folder)
    return scan, read_scan(scan)


def synthetic(slices, size=None):
    """Made-up HU for each slice, (N, H, W), not whole numbers: a ramp with a mark in one corner."""
    height, width = size or slices[0].image.shape[-2:]
    rows, columns = np.mgrid[:height, :width]
    volume = np.stack([(rows * 7.3 + columns * 3.1 + 11.0 * s.index) % 3000 - 1000 for s in slices])
    volume[:, 0, 0] = 3000
    return volume.astype(np.float32)


def export(source, out, keep_identity=False, identity=IDENTITY, size=None):
    """Writes made-up CTs for the one scan in `source`; (rows, volume, the slices translated)."""
    scan, slices = slices_of(source)
    volume = synthetic(slices, size)
    return write_dicom(out, scan, slices, volume, identity=identity, keep_identity=keep_identity), volume, slices


def conforms(folder):
    """Every file passes the independent validator without an error."""
    program = shutil.which("dciodvfy")
    if not program:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    files = sorted(folder.rglob("*.dcm"))
    assert files
    for file in files:
        done = subprocess.run([program, "-new", str(file)], capture_output=True, text=True, errors="replace")
        said = done.stdout + done.stderr
        assert done.returncode == 0 and "Error" not in said, f"{file.name}: {said}"


def itk_volume(folder):
    """The series in `folder` as another toolkit sees it."""
    sitk = pytest.importorskip("SimpleITK")
    reader = sitk.ImageSeriesReader()
    [series] = reader.GetGDCMSeriesIDs(str(folder))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series))
    image = reader.Execute()
    return image, sitk.GetArrayFromImage(image)


def itk_affine(image):
    """(4, 4) from (column, row, slice, 1) to RAS+ mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


@pytest.fixture(autouse=True)
def _notices_anew():
    notice.cache_clear()


@pytest.fixture
def dicom_source(tmp_path):
    for n in range(3):
        make_source(tmp_path / "source" / "A" / f"slice{n}.ima", z=5.0 * n, number=n + 1)
    return tmp_path / "source"


@pytest.fixture
def oblique_nifti(tmp_path):
    """A volume that is turned, flipped along two axes, and of unequal spacing."""
    turn = np.array([[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.9, -1.1, -3.0])
    affine[:3, 3] = (-30, 25.25, 40)
    data = np.random.default_rng(0).integers(0, 900, (20, 16, 5)).astype(np.int16)
    folder = tmp_path / "nifti"
    folder.mkdir()
    nibabel.save(nibabel.Nifti1Image(data, affine), folder / "T1 scan.nii.gz")
    return folder


@pytest.fixture
def png_source(tmp_path):
    for n in (1, 2, 10):
        path = tmp_path / "png" / "pätient" / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(n).integers(0, 255, (12, 10), np.uint8)).save(path)
    return tmp_path / "png"


# ---- conformance -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["MR_small.dcm", "CT_small.dcm"])
@pytest.mark.parametrize("keep", [False, True])
def test_bundled_sources_conform(tmp_path, name, keep):
    export(Path(get_testdata_file(name, download=False)), tmp_path, keep_identity=keep)
    conforms(tmp_path)


@pytest.mark.parametrize("source", ["dicom_source", "oblique_nifti", "png_source"])
@pytest.mark.parametrize("keep", [False, True])
def test_every_kind_of_source_conforms(tmp_path, request, source, keep):
    export(request.getfixturevalue(source), tmp_path / "out", keep_identity=keep)
    conforms(tmp_path / "out")


@pytest.mark.parametrize("tags", [{"BodyPartExamined": "BREAST"}, {"BodyPartExamined": "EYE", "Laterality": "L"},
                                  {"PatientPosition": "", "SliceThickness": None, "FrameOfReferenceUID": ""}])
def test_what_is_paired_or_missing_in_the_source_conforms(tmp_path, tags):
    make_source(tmp_path / "source" / "1.dcm", **tags)
    export(tmp_path / "source", tmp_path / "out")
    assert pydicom.dcmread(tmp_path / "out" / "1.dcm").BodyPartExamined == tags.get("BodyPartExamined", "HEAD")
    conforms(tmp_path / "out")


def test_real_head_ct_conforms_and_keeps_its_uneven_tilted_geometry(tmp_path):
    home = os.environ.get("DUIIT_REAL_DATA")
    if not home:
        pytest.skip("DUIIT_REAL_DATA does not name the folder of real scans")
    rows, volume, slices = export(Path(home, "ct_head_ge_dicom"), tmp_path)
    assert len(rows) == 20
    for (file, _, _), s, values in zip(rows, slices, volume, strict=True):
        old, new = pydicom.dcmread(s.path), pydicom.dcmread(tmp_path / file)
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
            np.testing.assert_array_equal(np.asarray(new[tag].value, float), np.asarray(old[tag].value, float), tag)
        assert new.GantryDetectorTilt == old.GantryDetectorTilt
        np.testing.assert_array_equal(new.pixel_array - 1024.0, np.rint(values))
    conforms(tmp_path)


# ---- values and geometry ---------------------------------------------------------------------------------------------

def test_header_says_synthetic_and_by_which_model(tmp_path, dicom_source):
    rows, _, _ = export(dicom_source, tmp_path / "out")
    ds = pydicom.dcmread(tmp_path / "out" / rows[0][0])
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2" and ds.Modality == "CT"
    assert list(ds.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert "Synthetic CT" in ds.DerivationDescription and "duiit 1.0, epoch 200" in ds.DerivationDescription
    assert "ynthetic" in ds.SeriesDescription and ds.SoftwareVersions == "duiit 1.0, epoch 200"
    [source] = ds.SourceImageSequence
    assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert (ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType, ds.KVP) == (-1024, 1, "HU", None)
    assert (ds.BitsAllocated, ds.BitsStored, ds.PixelRepresentation) == (16, 12, 0)
    assert ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def test_another_toolkit_reads_a_dicom_series_where_it_lay(tmp_path, dicom_source):
    rows, volume, slices = export(dicom_source, tmp_path / "out")
    assert [file for file, _, _ in rows] == ["A/slice0.dcm", "A/slice1.dcm", "A/slice2.dcm"]
    image, values = itk_volume(tmp_path / "out" / "A")
    np.testing.assert_array_equal(values, np.rint(volume))
    np.testing.assert_allclose(itk_affine(image), slices[0].geometry.affine, atol=1e-6)


def test_another_toolkit_reads_an_oblique_volume_where_it_lay(tmp_path, oblique_nifti):
    rows, volume, slices = export(oblique_nifti, tmp_path / "out")
    assert [file for file, _, _ in rows][:2] == ["T1 scan/001.dcm", "T1 scan/002.dcm"]
    image, values = itk_volume(tmp_path / "out" / "T1 scan")
    np.testing.assert_array_equal(values, np.rint(volume))
    np.testing.assert_allclose(itk_affine(image), slices[0].geometry.affine, atol=1e-6)


def test_own_reader_gives_the_same_values_and_places(tmp_path, oblique_nifti):
    _, volume, slices = export(oblique_nifti, tmp_path / "out")
    _, again = slices_of(tmp_path / "out")
    assert {s.unit for s in again} == {HU}
    np.testing.assert_array_equal([s.image for s in again], np.rint(volume))
    np.testing.assert_allclose(again[0].geometry.affine, slices[0].geometry.affine, atol=1e-6)


def test_images_without_geometry_get_pixels_of_1_mm_and_a_notice(tmp_path, png_source, caplog):
    rows, volume, _ = export(png_source, tmp_path / "out")
    assert [file for file, _, _ in rows] == [f"pätient/{n}.dcm" for n in (1, 2, 10)]
    image, values = itk_volume(tmp_path / "out" / "pätient")
    np.testing.assert_array_equal(values, np.rint(volume))
    np.testing.assert_allclose(itk_affine(image), np.diag([-1, -1, 1, 1]), atol=1e-6)
    assert "not known" in caplog.text
    ds = pydicom.dcmread(tmp_path / "out" / rows[0][0])
    assert "not known" in ds.DerivationDescription and "SourceImageSequence" not in ds


@pytest.mark.parametrize("size", [(64, 32), (256, 200)])
@pytest.mark.parametrize("source", ["dicom_source", "oblique_nifti"])
def test_another_matrix_size_covers_the_same_field(tmp_path, request, source, size):
    _, _, slices = export(request.getfixturevalue(source), tmp_path / "out", size=size)
    _, again = slices_of(tmp_path / "out")
    before, after = slices[0].geometry.affine, again[0].geometry.affine
    for corner in ((0, 0), (0, 1), (1, 0), (0.5, 0.5)):             # edges and centre of the field, as fractions
        places = [affine @ [corner[0] * s.image.shape[-1] - 0.5, corner[1] * s.image.shape[-2] - 0.5, 1, 1]
                  for affine, s in ((before, slices[0]), (after, again[0]))]
        np.testing.assert_allclose(places[0], places[1], atol=1e-6)


def test_another_matrix_size_agrees_with_how_images_are_resized(tmp_path):
    """An image whose values are the coordinates of its pixels still tells them after resizing."""
    columns = np.tile(np.arange(64, dtype=np.int16) * 10, (48, 1))
    make_source(tmp_path / "source" / "1.dcm", pixels=columns, PixelSpacing=[0.5, 2.0], RescaleIntercept=0)
    scan, slices = slices_of(tmp_path / "source")
    small = resize(slices[0].image[None], 24, 16)
    [(file, _, _)] = write_dicom(tmp_path / "out", scan, slices, small, identity=IDENTITY)
    ds = pydicom.dcmread(tmp_path / "out" / file)
    assert ds.PixelSpacing == [1.0, 8.0] and (ds.Rows, ds.Columns) == (24, 16)
    x = ds.ImagePositionPatient[0] + np.arange(16) * ds.PixelSpacing[1]
    expected = (x - slices[0].geometry.affine[0, 3] * -1) / 2.0 * 10
    np.testing.assert_allclose((ds.pixel_array - 1024.0)[5, 1:-1], expected[1:-1], atol=0.51)


def test_uneven_spacing_and_thickness_are_kept(tmp_path):
    for n, (z, thickness) in enumerate([(0, 4), (4, 4), (9.5, 7), (16.5, 7)]):
        make_source(tmp_path / "source" / f"{n}.dcm", z=z, number=n + 1, SliceThickness=thickness)
    rows, _, _ = export(tmp_path / "source", tmp_path / "out")
    written = [pydicom.dcmread(tmp_path / "out" / file) for file, _, _ in rows]
    assert [(ds.ImagePositionPatient[2], ds.SliceThickness) for ds in written] == [(0, 4), (4, 4), (9.5, 7), (16.5, 7)]


def test_slices_can_be_left_out(tmp_path, dicom_source):
    scan, slices = slices_of(dicom_source)
    whole = write_dicom(tmp_path / "whole", scan, slices, synthetic(slices), identity=IDENTITY)
    part = write_dicom(tmp_path / "part", scan, slices[1:], synthetic(slices[1:]), identity=IDENTITY)
    assert part == whole[1:]
    for file, _, _ in part:
        assert (tmp_path / "part" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert write_dicom(tmp_path / "none", scan, [], np.zeros((0, 4, 4)), identity=IDENTITY) == []


def test_frames_of_one_file_become_one_file_each(tmp_path):
    source = make_source(tmp_path / "source" / "enhanced.dcm")
    ds = pydicom.dcmread(source)
    ds.NumberOfFrames, ds.PixelData = 3, ds.PixelData * 3
    ds.SOPClassUID = EnhancedCTImageStorage
    del ds.ImagePositionPatient
    ds.PerFrameFunctionalGroupsSequence = []
    for z in (10.0, 0.0, 5.0):                                     # not in the order of their places
        place, group = pydicom.Dataset(), pydicom.Dataset()
        place.ImagePositionPatient = [1.0, 2.0, z]
        group.PlanePositionSequence = [place]
        ds.PerFrameFunctionalGroupsSequence.append(group)
    ds.save_as(source)
    rows, _, slices = export(tmp_path / "source", tmp_path / "out")
    assert [file for file, _, _ in rows] == ["enhanced/001.dcm", "enhanced/002.dcm", "enhanced/003.dcm"]
    written = [pydicom.dcmread(tmp_path / "out" / file) for file, _, _ in rows]
    assert [ds.ImagePositionPatient[2] for ds in written] == [0, 5, 10]
    assert [ds.SourceImageSequence[0].ReferencedFrameNumber for ds in written] == [2, 3, 1]
    assert len({ds.SOPInstanceUID for ds in written}) == 3
    scan, _ = slices_of(tmp_path / "source")
    assert write_dicom(tmp_path / "one", scan, slices[1:2], synthetic(slices[1:2]), identity=IDENTITY) == rows[1:2]
    conforms(tmp_path / "out")


def test_values_that_12_bits_cannot_hold_are_clipped_and_counted(tmp_path, dicom_source, caplog):
    scan, slices = slices_of(dicom_source)
    volume = np.zeros((3, 128, 128), np.float32)
    volume[0, 0, :3], volume[1, 5, 5], volume[2, 0, 0] = (-1024.4, -1025, 3071.4), 9999, -3000
    rows = write_dicom(tmp_path / "out", scan, slices, volume, identity=IDENTITY)
    first, second, third = (pydicom.dcmread(tmp_path / "out" / file).pixel_array - 1024.0 for file, _, _ in rows)
    assert list(first[0, :3]) == [-1024, -1024, 3071] and second[5, 5] == 3071 and third[0, 0] == -1024
    assert "3 of 49152 values" in caplog.text


def test_a_sheared_volume_is_squared_with_a_notice(tmp_path, caplog):
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    affine[0, 1] = 0.1
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 6, 3), np.float32), affine), tmp_path / "sheared.nii.gz")
    export(tmp_path / "sheared.nii.gz", tmp_path / "out")
    assert "right angles" in caplog.text
    conforms(tmp_path / "out")


@pytest.mark.parametrize("volume, words", [(np.zeros((3, 3, 128, 128)), "channels"),
                                           (np.full((3, 128, 128), np.nan), "finite")])
def test_what_a_ct_cannot_hold_is_refused(tmp_path, dicom_source, volume, words):
    scan, slices = slices_of(dicom_source)
    with pytest.raises(UserError, match=words):
        write_dicom(tmp_path / "out", scan, slices, volume, identity=IDENTITY)


def test_names_that_would_meet_keep_their_endings(tmp_path):
    for n, name in enumerate(("1.2.840.1", "1.2.840.2", "a.ima", "a.dcm")):
        make_source(tmp_path / "source" / name, z=n, number=n + 1)
    rows, _, _ = export(tmp_path / "source", tmp_path / "out")
    assert [file for file, _, _ in rows] == ["1.2.840.1.dcm", "1.2.840.2.dcm", "a.ima.dcm", "a.dcm.dcm"]


# ---- identifiers -----------------------------------------------------------------------------------------------------

def everything_in(folder):
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*.dcm")))


@pytest.mark.parametrize("keep", [False, True])
def test_a_second_run_writes_the_same_bytes(tmp_path, dicom_source, keep):
    moved = tmp_path / "elsewhere"
    shutil.copytree(dicom_source, moved)
    first, _, _ = export(dicom_source, tmp_path / "first", keep)
    second, _, _ = export(moved, tmp_path / "second", keep)
    assert first == second
    assert everything_in(tmp_path / "first") == everything_in(tmp_path / "second")


def test_another_run_writes_another_series(tmp_path, dicom_source):
    for name in ("one", "two"):
        export(dicom_source, tmp_path / name, keep_identity=True, identity=replace(IDENTITY, digest=name))
    one, two = (pydicom.dcmread(tmp_path / name / "A" / "slice0.dcm") for name in ("one", "two"))
    assert one.SeriesInstanceUID != two.SeriesInstanceUID and one.SOPInstanceUID != two.SOPInstanceUID
    assert one.StudyInstanceUID == two.StudyInstanceUID


def test_a_file_is_one_instance_whatever_folder_it_is_read_from(tmp_path, dicom_source):
    export(dicom_source, tmp_path / "above")
    export(dicom_source / "A", tmp_path / "inside")
    above, inside = (pydicom.dcmread(f) for f in (tmp_path / "above/A/slice1.dcm", tmp_path / "inside/slice1.dcm"))
    assert above.SOPInstanceUID == inside.SOPInstanceUID and above.SeriesInstanceUID == inside.SeriesInstanceUID


def test_images_of_one_name_in_two_cohorts_are_two_instances(tmp_path):
    uids = set()
    for n in range(2):
        folder = tmp_path / str(n) / "p"
        folder.mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 50 + n, np.uint8)).save(folder / "1.png")
        export(folder.parent, tmp_path / "out" / str(n))
        uids.add(pydicom.dcmread(tmp_path / "out" / str(n) / "p" / "1.dcm").SOPInstanceUID)
    assert len(uids) == 2


def test_nothing_that_names_a_person_gets_out(tmp_path, dicom_source):
    rows, _, _ = export(dicom_source, tmp_path / "out")
    written = everything_in(tmp_path / "out")
    words = [part for value in PERSON.values() for part in (value, *value.split("^"))]
    words += ["Quokka", "Xylophone", "Yak", "Okapi", "Ibex", "JFK", "SECRETS", "1.2.826.77", "HOSP", "7734521"]
    assert [word for word in words if word.encode().lower() in written.lower()] == []
    ds = pydicom.dcmread(tmp_path / "out" / rows[0][0])
    assert ds.PatientID == rows[0][1] == pseudonym("HOSP-7734521", IDENTITY)
    assert ds.PatientIdentityRemoved == "YES" and ds.DeidentificationMethod
    assert ds.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert not any(element.tag.is_private for element in ds.iterall())
    assert pseudonym("HOSP-7734521", replace(IDENTITY, digest="another run")) != ds.PatientID


def test_replaced_study_and_frame_hold_the_scans_of_a_run_together(tmp_path):
    for n, series in enumerate(("1.2.826.77.3", "1.2.826.77.9")):
        make_source(tmp_path / "source" / "P" / str(n) / "1.dcm", number=n, SeriesInstanceUID=series)
    one, two = both_exported(tmp_path)
    for tag in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert one[tag].value == two[tag].value
    assert one.SeriesInstanceUID != two.SeriesInstanceUID


def test_two_patients_under_one_number_do_not_share_a_study(tmp_path):
    for n in range(2):                      # as archives leave them: every PatientID and study UID the same
        make_source(tmp_path / "source" / f"P{n}" / "1.dcm", number=n, SeriesInstanceUID=f"1.2.826.77.{n}")
    one, two = both_exported(tmp_path)
    for tag in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert one[tag].value != two[tag].value


def both_exported(folder):
    for scan in find_scans(folder / "source"):
        slices = read_scan(scan)
        write_dicom(folder / "out", scan, slices, synthetic(slices), identity=IDENTITY)
    return [pydicom.dcmread(file) for file in sorted((folder / "out").rglob("*.dcm"))]


def test_kept_identity_puts_the_series_into_its_study(tmp_path, dicom_source):
    rows, _, slices = export(dicom_source, tmp_path / "out", keep_identity=True)
    ds, source = pydicom.dcmread(tmp_path / "out" / rows[0][0]), pydicom.dcmread(slices[0].path)
    for tag in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate",
                "AccessionNumber", "ReferringPhysicianName", "PatientAge"):
        assert ds[tag].value == source[tag].value
    assert ds.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert ds.SeriesInstanceUID != source.SeriesInstanceUID and ds.SOPInstanceUID != source.SOPInstanceUID
    assert ds.PatientIdentityRemoved == "NO" and rows[0][1] == "HOSP-7734521"
    assert "InstitutionName" not in ds and "ImageComments" not in ds


def test_kept_names_in_other_letters_survive(tmp_path):
    make_source(tmp_path / "source" / "1.dcm", SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen")
    export(tmp_path / "source", tmp_path / "out", keep_identity=True)
    assert str(pydicom.dcmread(tmp_path / "out" / "1.dcm").PatientName) == "Müller^Jürgen"
    conforms(tmp_path / "out")


def test_damaged_values_of_the_source_are_left_out(tmp_path, caplog):
    path = make_source(tmp_path / "source" / "1.dcm")
    ds = pydicom.dcmread(path)
    for tag, vr, value in ((0x00100030, "DA", b"14.07.31"), (0x00181120, "DS", b"tilted"), (0x0020000D, "UI", b"1.02")):
        ds[tag] = pydicom.dataelem.RawDataElement(pydicom.tag.Tag(tag), vr, len(value), value, 0, False, True)
    ds.save_as(path)
    export(tmp_path / "source", tmp_path / "out", keep_identity=True)
    ds = pydicom.dcmread(tmp_path / "out" / "1.dcm")
    assert ds.PatientBirthDate == "" and "GantryDetectorTilt" not in ds and UID(ds.StudyInstanceUID).is_valid
    assert all(word in caplog.text for word in ("PatientBirthDate", "GantryDetectorTilt", "study UID"))
    conforms(tmp_path / "out")
