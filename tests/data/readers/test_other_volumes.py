"""Volumes other than NIfTI: values, and where each voxel lies in mm, as independent readers have them; and what is left
out is told."""
import gzip
import logging
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from duiit.data.readers import find_scans, read_scan
from duiit.data.readers.slice import HU
from duiit.util.errors import UserError

RNG = np.random.default_rng(11)
TURN = np.deg2rad(20)
OBLIQUE = np.array([[np.cos(TURN), -np.sin(TURN), 0], [np.sin(TURN), np.cos(TURN), 0], [0, 0, 1]])


def placed(values, direction, spacing=(0.7, 0.9, 2.5), origin=(-12.0, 30.0, -7.5)):
    image = sitk.GetImageFromArray(values)
    image.SetDirection(np.asarray(direction, float).ravel())
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    return image


def lies_as(slices, value_at, shape):
    """value_at: RAS millimetres -> the value there. Every served voxel is looked up."""
    volume, geometry = np.stack([s.image for s in slices]), slices[0].geometry
    assert volume.size == np.prod(shape) and nib.aff2axcodes(geometry.affine) == ("L", "P", "S")
    for (k, j, i), value in np.ndenumerate(volume):
        assert value == value_at((geometry.affine @ [i, j, k, 1])[:3])


def by_itk(image):
    def value_at(ras):
        return image.GetPixel(*image.TransformPhysicalPointToIndex([-ras[0], -ras[1], ras[2]]))
    return value_at


def by_nibabel(image):
    values, inverse = np.asanyarray(image.dataobj), np.linalg.inv(image.affine)

    def value_at(ras):
        return np.float32(values[tuple(np.rint(nib.affines.apply_affine(inverse, ras)).astype(int))])
    return value_at


DIRECTIONS = {"axial": np.eye(3), "coronal": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
              "sagittal": [[0, 0, -1], [1, 0, 0], [0, -1, 0]], "oblique": OBLIQUE}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_metaimage_and_nrrd(tmp_path, read, name, direction, dtype):
    values = RNG.integers(0, 250, (4, 5, 6)).astype(dtype) - (100 if dtype == np.int16 else 0)
    source = placed(values.astype(dtype), DIRECTIONS[direction])
    sitk.WriteImage(source, str(tmp_path / name), useCompression=dtype == np.uint8)
    slices = read(tmp_path)
    lies_as(slices, by_itk(source), values.shape)
    [scan] = find_scans(tmp_path)
    assert len(scan.files) == (2 if name in ("a.mhd", "a.nhdr") else 1) and scan.name == "a"


@pytest.mark.parametrize("space, flip", [("right-anterior-superior", 1), ("left-posterior-superior", -1)])
def test_nrrd_as_its_definition_says(tmp_path, read, space, flip):
    """A header by hand: the space tells what the vectors' numbers mean."""
    values = RNG.integers(-1000, 2000, (4, 5, 6)).astype("<i2")
    header = (f"NRRD0004\ntype: short\ndimension: 3\nspace: {space}\nsizes: 6 5 4\n"
              "space directions: (2,0,0) (0,3,0) (0,0,4)\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
              "space origin: (10,20,30)\n\n")
    (tmp_path / "a.nrrd").write_bytes(header.encode() + values.tobytes())
    slices = read(tmp_path)
    lies_as(slices, lambda ras: values[round((ras[2] - 30) / 4), round((flip * ras[1] - 20) / 3),
                                       round((flip * ras[0] - 10) / 2)], values.shape)


def test_metaimage_as_its_definition_says(tmp_path, read):
    values = RNG.integers(-1000, 2000, (4, 5, 6)).astype(">i2")
    values[0, 0, :2] = 0x0800, 0x0900           # starts as a DICOM file without preamble might
    (tmp_path / "a.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = True\nCompressedData = False\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 10 20 30\nElementSpacing = 2 3 4\nDimSize = 6 5 4\n"
        "ElementType = MET_SHORT\nElementDataFile = values.raw\n")
    (tmp_path / "values.raw").write_bytes(values.tobytes())
    lies_as(read(tmp_path), lambda ras: values[round((ras[2] - 30) / 4), round((-ras[1] - 20) / 3),
                                               round((-ras[0] - 10) / 2)], values.shape)


@pytest.mark.parametrize("make, name", [(nib.MGHImage, "a.mgz"), (nib.MGHImage, "a.mgh"), (nib.Nifti1Pair, "a.img"),
                                        (nib.Nifti1Pair, "a.hdr")])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_freesurfer_and_nifti_in_two_files(tmp_path, read, make, name, direction, caplog):
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(DIRECTIONS[direction]) * (0.7, 0.9, 2.5)
    affine[:3, 3] = -12, 30, -7
    source = make(RNG.integers(-1000, 2000, (6, 5, 4)).astype(np.int16), affine)
    nib.save(source, tmp_path / name)
    lies_as(read(tmp_path), by_nibabel(nib.load(tmp_path / name)), (6, 5, 4))
    assert "left" not in caplog.text
    if name != "a.mgh" and name != "a.mgz":
        lies_as(read(tmp_path), by_itk(sitk.ReadImage(str(tmp_path / "a.hdr"))), (6, 5, 4))
        [scan] = find_scans(tmp_path)
        assert [path.name for path in scan.files] == ["a.img", "a.hdr"]
        for single in ("a.img", "a.hdr"):
            lies_as(read(tmp_path / single), by_nibabel(nib.load(tmp_path / name)), (6, 5, 4))


def test_analyze_says_that_its_sides_are_taken(tmp_path, read, caplog):
    for n in (1, 2):
        nib.save(nib.Spm2AnalyzeImage(RNG.integers(0, 99, (6, 5, 4)).astype(np.int16), np.diag([-1.0, 2, 3, 1])),
                 tmp_path / f"{n}.img")
    [first, second] = find_scans(tmp_path)
    lies_as(read_scan(first), by_nibabel(nib.load(tmp_path / "1.img")), (6, 5, 4))
    assert "the headers of 2 volumes do not say which side is left" in caplog.text
    assert caplog.text.count("which side") == 1


def test_units_and_frames(tmp_path, read):
    from dataclasses import replace
    sitk.WriteImage(placed(np.full((4, 5, 6), -900, np.int16), np.eye(3)), str(tmp_path / "a.mha"))
    [scan] = find_scans(tmp_path)
    assert read_scan(replace(scan, unit=HU))[0].unit == HU
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.float32), isVector=True), str(tmp_path / "a.mha"))
    with pytest.raises(UserError, match="several frames or components"):
        read(tmp_path)
    sitk.WriteImage(sitk.JoinSeries([placed(np.zeros((4, 5, 6)), np.eye(3))] * 2), str(tmp_path / "a.mha"))
    with pytest.raises(UserError, match="several frames or components"):
        read(tmp_path)


def test_flat_metaimage(tmp_path, read):
    values = RNG.integers(0, 99, (5, 6)).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.5, 0.25))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    [s] = read(tmp_path)
    np.testing.assert_array_equal(s.image, values)
    assert s.geometry.spacing == pytest.approx((0.25, 0.5, 1))


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.mgz", "a.img"])
def test_cut_files_are_named(tmp_path, read, name):
    if name in ("a.mgz", "a.img"):
        make = nib.MGHImage if name == "a.mgz" else nib.Nifti1Pair
        nib.save(make(RNG.normal(size=(20, 20, 20)).astype(np.float32), np.eye(4)), tmp_path / name)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(RNG.normal(size=(20, 20, 20))), str(tmp_path / name))
    whole = (tmp_path / name).read_bytes()
    for keep in (0, 100, len(whole) // 2, len(whole) - 100):
        (tmp_path / name).write_bytes(whole[:keep])
        with pytest.raises(UserError) as caught:
            read(tmp_path)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_without_simpleitk_the_extra_is_named(tmp_path, read, monkeypatch):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6))), str(tmp_path / "a.mha"))
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(UserError, match=r"duiit\[itk\]"):
        read(tmp_path)


def test_images_in_formats_that_are_not_read_are_counted_once(tmp_path, caplog, write_slice):
    Image.new("L", (9, 9), 7).save(tmp_path / "a.png")
    for name in ("p/1.gif", "p/2.gif", "p/3.webp"):
        (tmp_path / "p").mkdir(exist_ok=True)
        Image.new("L", (9, 9), 7).save(tmp_path / name)
    write_slice(tmp_path / "q" / "1.ima")
    write_slice(tmp_path / "q" / "2.img", z=1)          # DICOM may have any ending
    (tmp_path / "q" / "3.dcm.gz").write_bytes(gzip.compress((tmp_path / "q" / "1.ima").read_bytes()))
    (tmp_path / "alone.hdr").write_bytes(b"#?RADIANCE")
    write_slice(tmp_path / "r" / "1.raw", series="1.9")
    (tmp_path / "readme.txt").write_text("hello")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert sorted(len(scan.files) for scan in find_scans(tmp_path)) == [1, 1, 2]
    assert caplog.text.count("not read") == 1
    assert "(2 .gif, 1 .hdr, 1 .webp, 1 .dcm.gz, such as alone.hdr)" in caplog.text
