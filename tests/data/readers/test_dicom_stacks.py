"""Which images of a series make a volume: one direction, one pixel size, each position once."""
import logging

import numpy as np
import pydicom
import pytest

from duiit.data.preparing.intensity import ct_window
from duiit.data.readers import find_scans, read_scan
from duiit.data.writing.dicom import SeriesIdentity, write_dicom
from duiit.data.writing.images import write_scan
from duiit.util.errors import UserError

RNG = np.random.default_rng(0)
STEP = 3.0              # mm between slices


def noise(shape=(8, 10)):
    return RNG.integers(0, 4000, shape).astype(np.uint16)


@pytest.fixture
def stack(tmp_path, write_slice):
    """stack(name, **tags) -> 12 slices of MR, 3 mm apart, of one series; tags: values, or functions of the number."""
    def write(name, count=12, **tags):
        return [write_slice(tmp_path / "p" / f"{name}{n:02}.dcm", noise(), z=STEP * n, Modality="MR",
                            **{tag: value(n) if callable(value) else value for tag, value in tags.items()})
                for n in range(count)]
    return write


def simpleitk_volume(paths):
    sitk = pytest.importorskip("SimpleITK")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    image = reader.Execute()
    return sitk.GetArrayFromImage(image), image.GetSpacing()[::-1], image


def as_simpleitk(scan, paths):
    """Asserts that a scan is what SimpleITK makes of `paths` alone: values, spacing, and where its corners lie."""
    assert list(scan.files) == list(paths)
    slices = read_scan(scan)
    values, (apart, down, right), image = simpleitk_volume(paths)
    np.testing.assert_array_equal(np.stack([s.image for s in slices]), values)
    geometry = slices[0].geometry
    assert geometry.spacing == pytest.approx((down, right, apart), abs=1e-4) and apart == pytest.approx(STEP, abs=1e-4)
    lps = np.diag([-1, -1, 1, 1]) @ geometry.affine
    for corner in ((0, 0, 0), (9, 7, len(paths) - 1)):
        assert (lps @ [*corner, 1])[:3] == pytest.approx(image.TransformIndexToPhysicalPoint(corner), abs=1e-3)


@pytest.mark.parametrize("one, other", [
    ({"ImageType": ["ORIGINAL", "PRIMARY", "M"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}),
    ({"ComplexImageComponent": "MAGNITUDE"}, {"ComplexImageComponent": "PHASE"}),
    ({"EchoNumbers": 1, "EchoTime": 4.6}, {"EchoNumbers": 2, "EchoTime": 7.1}),
    ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}),
    ({"TriggerTime": 0}, {"TriggerTime": 31.5}),
    ({"TriggerTime": lambda n: 9 + n % 3}, {"TriggerTime": lambda n: 100 + n % 4}),     # jitters from slice to slice
    ({"ContentTime": lambda n: f"{100000 + n}.25"}, {"ContentTime": lambda n: f"{100000 + n}.5"}),
    ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}),
])
def test_two_images_at_each_position_are_two_scans(tmp_path, stack, caplog, one, other):
    paths = stack("a", **one), stack("b", **other)
    with caplog.at_level(logging.WARNING):
        scans = find_scans(tmp_path)
    assert len(scans) == 2 and len({scan.name for scan in scans}) == 2
    for scan, files in zip(sorted(scans, key=lambda s: s.files[0]), paths, strict=True):
        as_simpleitk(scan, files)
    assert "several images at each position" in caplog.text and len(caplog.records) == 1


def test_two_tags_together(tmp_path, stack):
    paths = [stack(f"{kind}{echo}", ImageType=["ORIGINAL", "PRIMARY", kind], EchoNumbers=echo)
             for kind in "MP" for echo in (1, 2)]
    scans = sorted(find_scans(tmp_path), key=lambda scan: scan.files[0])
    assert [scan.name for scan in scans] == ["p_EchoNumbers_1_ImageType_M", "p_EchoNumbers_2_ImageType_M",
                                             "p_EchoNumbers_1_ImageType_P", "p_EchoNumbers_2_ImageType_P"]
    for scan, files in zip(scans, paths, strict=True):
        as_simpleitk(scan, files)


def test_acquisitions_that_overlap_are_scans_of_their_own(tmp_path, stack):
    for number in range(3):
        stack(f"{number}", count=5, AcquisitionNumber=number,
              ImagePositionPatient=lambda n, number=number: [0, 0, STEP * (4 * number + n)])
    assert [[path.stem[0] for path in scan.files] for scan in find_scans(tmp_path)] == [[c] * 5 for c in "012"]


def test_cine_of_one_slice_and_of_two_kinds_with_a_jitter(tmp_path, stack):
    paths = [stack(f"{kind}{phase}", ImageType=["ORIGINAL", "PRIMARY", kind],
                   TriggerTime=lambda n, phase=phase: 40.5 * phase + n / 7) for kind in "MP" for phase in range(3)]
    scans = find_scans(tmp_path)
    assert sorted(scan.files for scan in scans) == sorted(map(tuple, paths))
    as_simpleitk(scans[0], scans[0].files)


def test_a_series_exported_twice_is_one_scan(tmp_path, stack, caplog):
    paths = stack("a")
    for path in paths[3:]:              # the second time under new UIDs, and incomplete
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        ds.ContentTime = "120000"
        ds.save_as(path.with_name(f"z{path.name}"))
    with caplog.at_level(logging.WARNING):
        [scan] = find_scans(tmp_path)
    as_simpleitk(scan, paths)
    assert "9 DICOM images are the same as another" in caplog.text


def test_what_nothing_tells_apart_is_refused(tmp_path, stack):
    stack("a")
    stack("b", count=5)
    [scan] = find_scans(tmp_path)
    with pytest.raises(UserError, match="5 of 17 images lie at the position of another") as raised:
        read_scan(scan)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("jitter", [1e-6, 4e-4])
def test_a_direction_that_jitters_is_one(tmp_path, write_slice, caplog, jitter):
    turn = 0.0125
    paths = []
    for n in range(12):
        angle = turn + jitter * (n % 2)          # 0.0125 is where three decimals change
        paths.append(write_slice(tmp_path / f"{n:02}.dcm", noise(), origin=(-90, -110, STEP * n), Modality="MR",
                                 orientation=(np.cos(angle), np.sin(angle), 0, -np.sin(angle), np.cos(angle), 0)))
    with caplog.at_level(logging.WARNING):
        [scan] = find_scans(tmp_path)
    as_simpleitk(scan, paths)
    assert not caplog.records


def test_a_series_of_two_directions_or_pixel_sizes_falls_apart_with_one_line(tmp_path, stack, caplog):
    stack("a")
    stack("b", count=4, ImageOrientationPatient=[1, 0, 0, 0, 0, -1], ImagePositionPatient=lambda n: [0, STEP * n, 0])
    stack("c", count=3, PixelSpacing=[0.25, 0.2])
    with caplog.at_level(logging.WARNING):
        scans = find_scans(tmp_path)
    assert sorted(len(scan.files) for scan in scans) == [3, 4, 12]
    assert {read_scan(scan)[0].geometry.spacing for scan in scans if len(scan.files) == 3} == {(0.25, 0.2, STEP)}
    assert len(caplog.records) == 1 and "1 series fall apart" in caplog.text and "12 + 4 + 3" in caplog.text


def test_slices_without_a_position_are_told(tmp_path, stack, caplog):
    stack("a")
    stack("b", count=2, ImagePositionPatient=None)
    with caplog.at_level(logging.WARNING):
        assert sorted(len(scan.files) for scan in find_scans(tmp_path)) == [2, 12]
    assert "lack a position" in caplog.text and "12 + 2" in caplog.text


# -- frames --------------------------------------------------------------------------------------------------------

def enhanced(path, write_slice, frames, dimensions=("EchoTime",), **tags):
    """frames: (z, dimension values, tags of the frame's group) each."""
    write_slice(path, noise((len(frames), 8, 10)), Modality="MR", ImagePositionPatient=None, **tags)
    ds = pydicom.dcmread(path)
    ds.DimensionIndexSequence = [pydicom.Dataset() for _ in dimensions]
    for item, name in zip(ds.DimensionIndexSequence, dimensions, strict=True):
        item.DimensionIndexPointer = pydicom.datadict.tag_for_keyword(name)
    ds.PerFrameFunctionalGroupsSequence = []
    for z, values, own in frames:
        group, position, content, kind = (pydicom.Dataset() for _ in range(4))
        position.ImagePositionPatient, content.DimensionIndexValues = [0, 0, z], list(values)
        for name, value in own.items():
            setattr(kind, name, value)
        group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
        group.MRImageFrameTypeSequence = [kind]
        ds.PerFrameFunctionalGroupsSequence.append(group)
    ds.save_as(path)
    return path


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("told", ["dimension", "type"])
def test_frames_at_one_position_are_several_scans(tmp_path, write_slice, single, told):
    # As Philips writes a map beside its magnitude: both kinds alternate, positions run from head to foot.
    frames = [(4.0 * (31 - n // 2), [n // 2 + 1, n % 2 + 1] if told == "dimension" else [],
               {"FrameType": ["DERIVED", "PRIMARY", "B0" if n % 2 else "MAG"]} if told == "type" else {})
              for n in range(64)]
    path = enhanced(tmp_path / "1.dcm", write_slice, frames, ("InStackPositionNumber", "EffectiveEchoTime"))
    scans = find_scans(path if single else tmp_path)
    pixels = pydicom.dcmread(path).pixel_array
    assert len(scans) == 2 and len({scan.name for scan in scans}) == 2
    for scan in scans:
        slices = read_scan(scan)
        kind = scan.frames[0] % 2
        np.testing.assert_array_equal([s.image for s in slices], pixels[kind::2][::-1])
        assert [s.index for s in slices] == list(range(32)) and slices[0].geometry.spacing[2] == pytest.approx(4.0)


def test_a_file_of_frames_in_two_directions_is_two_scans(tmp_path, write_slice):
    path = enhanced(tmp_path / "1.dcm", write_slice, [(n % 3, [n], {}) for n in range(6)], ("StackID",))
    ds = pydicom.dcmread(path)
    for n, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        plane = pydicom.Dataset()
        plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0] if n < 3 else [1, 0, 0, 0, 0, -1]
        group.PlaneOrientationSequence = [plane]
        group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, n] if n < 3 else [0, n, 0]
    ds.save_as(path)
    assert sorted(scan.frames for scan in find_scans(tmp_path)) == [(0, 1, 2), (3, 4, 5)]


def test_frames_that_nothing_tells_apart_are_refused_and_true_repeats_left_out(tmp_path, write_slice):
    path = enhanced(tmp_path / "1.dcm", write_slice, [(n // 2, [], {}) for n in range(6)], ())
    with pytest.raises(UserError, match=r"1\.dcm: 3 of 6 images"):
        read_scan(find_scans(path)[0])
    ds = pydicom.dcmread(path)
    ds.PixelData = np.repeat(ds.pixel_array[::2], 2, axis=0).tobytes()
    ds.save_as(path)
    [scan] = find_scans(path)
    assert scan.frames == (0, 2, 4)
    np.testing.assert_array_equal([s.image for s in read_scan(scan)], ds.pixel_array[::2])


def test_frames_without_positions_stay_in_their_order(tmp_path, write_slice):
    stored = noise((5, 8, 10))
    path = write_slice(tmp_path / "1.dcm", stored, Modality="US")         # one position cannot be that of all frames
    slices = read_scan(find_scans(path)[0])
    np.testing.assert_array_equal([s.image for s in slices], stored)
    assert slices[0].geometry is None


@pytest.mark.parametrize("kind", ["png", "nifti", "dicom"])
def test_a_cine_of_one_slice_in_one_file_is_written_whole(tmp_path, write_slice, kind):
    enhanced(tmp_path / "in" / "1.dcm", write_slice, [(0.0, [n + 1], {}) for n in range(5)],
             ("NominalCardiacTriggerDelayTime",))
    scans, files = find_scans(tmp_path / "in"), []
    assert [scan.frames for scan in scans] == [(n,) for n in range(5)]
    for scan in scans:
        slices, images = read_scan(scan), [np.zeros((1, 8, 10), np.float32)]
        if kind == "dicom":
            rows = write_dicom(tmp_path / "out", scan, slices, images[0], identity=SeriesIdentity("r", "m", "d"))
        else:
            rows = write_scan(tmp_path / "out", scan, slices, images, ct_window("brain"), kind)
        files += [file for file, *_ in rows]
    assert len(set(files)) == 5 and all((tmp_path / "out" / file).is_file() for file in files)


def test_what_is_made_of_two_scans_in_one_file_lies_where_each_lay(tmp_path, write_slice):
    frames = [(4.0 * (3 - n // 2), [n % 2 + 1], {}) for n in range(8)]
    enhanced(tmp_path / "in" / "1.dcm", write_slice, frames)
    found = []
    for scan in find_scans(tmp_path / "in"):
        slices = read_scan(scan)
        rows = write_dicom(tmp_path / "out", scan, slices, np.zeros((4, 8, 10)), keep_identity=True,
                           identity=SeriesIdentity("run", "model", "digest"))
        found.append([pydicom.dcmread(tmp_path / "out" / file) for file, *_ in rows])
    assert [[ds.ImagePositionPatient[2] for ds in stack] for stack in found] == [[0, 4, 8, 12]] * 2
    assert len({ds.SeriesInstanceUID for stack in found for ds in stack}) == 2
    assert len({ds.SOPInstanceUID for stack in found for ds in stack}) == 8
