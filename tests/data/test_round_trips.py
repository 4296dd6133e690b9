"""What is written in any format and read back, by other programs' readers and by our own: values within the format's
step, places within 1e-4 mm; for any shape, type on disk, unit and geometry of the source."""
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from duiit.data import readers
from duiit.data.preparing.intensity import Intensity
from duiit.data.readers.slice import DISPLAY, GREY, HU, SUV
from duiit.data.writing.dicom import SeriesIdentity, write_dicom
from duiit.data.writing.images import write_scan

QUICK = settings(derandomize=True, database=None, deadline=None, max_examples=20,
                 phases=[Phase.generate])       # looking for the smallest case takes minutes
MM = 1e-4
DTYPES = [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]
UNITS = {"mm": 1.0, "micron": 1000.0, "meter": 1e-3, "unknown": 1.0}
CODES = ["RAS", "LPS", "LAS", "SPL", "AIR", "PSR", "IRA"]
BY_SLICE = {"png": 0.5, "png16": 0.5, "tiff": 0, "tiff16": 0.5, "npy": 0}       # of a step
STEPS = {"png": 255, "png16": 65535, "tiff16": 65535}

spacings = st.tuples(*[st.floats(0.2, 8.0)] * 3)
angles = st.tuples(*[st.floats(-0.6, 0.6)] * 3)
origins = st.tuples(*[st.floats(-500, 500)] * 3)
shapes = st.tuples(st.integers(2, 7), st.integers(2, 6), st.integers(2, 5))
ranges = st.sampled_from([Intensity(-20, 100, HU), Intensity(-1024, 3071, HU), Intensity(0, 2.5, SUV),
                          Intensity(-3.5, 1234.5, GREY)])


@st.composite
def volumes(draw):
    """(array, affine in mm, unit of length, intensity of the target, random generator)."""
    rng, code, shape = np.random.default_rng(draw(st.integers(0, 999))), draw(st.sampled_from(CODES)), draw(shapes)
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    array = rng.uniform(0 if dtype.kind == "u" else -120, 200, shape).astype(dtype)
    affine = np.eye(4)
    axes = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(code), (0, 0, 0))[:3, :3]
    affine[:3, :3] = Rotation.from_euler("xyz", draw(angles)).as_matrix() @ axes * draw(spacings)
    affine[:3, 3] = draw(origins)
    return array, affine, draw(st.sampled_from(list(UNITS))), draw(ranges), rng


def stored(folder, array, affine, unit):
    """The volume as nibabel writes it, as our scan and slices."""
    Path(folder).mkdir()
    affine = affine.copy()
    affine[:3] *= UNITS[unit]
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_xyzt_units(unit)
    nib.save(image, Path(folder, "v.nii.gz"))
    scan = readers.find_scans(Path(folder))[0]
    return scan, readers.read_scan(scan)


def in_lps(affine, index):
    return np.diag([-1, -1, 1]) @ (affine @ [*index, 1])[:3]


def corners(shape):
    return list(product(*[(0, n - 1) for n in shape]))


def itk_places(image, indices):
    return np.array([image.TransformContinuousIndexToPhysicalPoint([float(n) for n in index]) for index in indices])


@QUICK
@given(volumes())
def test_a_volume_is_read_value_by_value_and_place_by_place(made):
    array, affine, unit, _, _ = made
    with TemporaryDirectory() as folder:
        _, slices = stored(f"{folder}/in", array, affine, unit)
        image = sitk.ReadImage(f"{folder}/in/v.nii.gz")
        back = np.linalg.inv(affine)
        for s in slices:
            for row, column in product(*map(range, s.image.shape)):
                place = slices[0].geometry.affine @ [column, row, s.index, 1]
                i, j, k = (int(n) for n in np.rint(back @ place)[:3])
                assert s.image[row, column] == np.float32(image[i, j, k]) == np.float32(array[i, j, k])
                np.testing.assert_allclose(itk_places(image, [(i, j, k)])[0], np.diag([-1, -1, 1]) @ place[:3], atol=MM)


@QUICK
@given(volumes(), st.sampled_from([1, 1, 2, 9]))
def test_nifti(made, step):
    array, affine, unit, intensity, rng = made
    with TemporaryDirectory() as folder:
        scan, slices = stored(f"{folder}/in", array, affine, unit)
        slices = slices[::step]                                         # of 9: one slice alone
        images = [rng.uniform(-1, 1, (1, *s.image.shape)).astype(np.float32) for s in slices]
        [(name, _, _)] = write_scan(f"{folder}/out", scan, slices, images, intensity, "nifti")
        [again] = readers.find_scans(Path(folder, "out"))
        series, other = readers.read_scan(replace(again, unit=intensity.unit)), sitk.ReadImage(f"{folder}/out/{name}")
        atol = 0.5 + 1e-3 if intensity.unit == HU else 1e-6 * (intensity.high - intensity.low)
        for s, image, source in zip(series, images, slices, strict=True):
            wanted = intensity.restore(image[0])
            np.testing.assert_allclose(s.image, wanted, atol=atol)
            assert s.unit == intensity.unit
            for column, row in product(range(wanted.shape[1]), range(wanted.shape[0])):
                place = in_lps(source.geometry.affine, (column, row, source.index))
                np.testing.assert_allclose(in_lps(s.geometry.affine, (column, row, s.index)), place, atol=MM)
                index = other.TransformPhysicalPointToIndex(place)
                assert abs(other[index] - wanted[row, column]) <= atol
                np.testing.assert_allclose(itk_places(other, [index])[0], place, atol=MM)
        if step == 1:
            assert other.GetSize() == array.shape
            np.testing.assert_allclose(itk_places(other, corners(array.shape)),
                                       [in_lps(affine, index) for index in corners(array.shape)], atol=MM)


@QUICK
@given(volumes())
def test_dicom(made):
    array, affine, unit, _, rng = made
    with TemporaryDirectory() as folder:
        scan, slices = stored(f"{folder}/in", array, affine, unit)
        hounsfield = rng.uniform(-1024, 3071, (len(slices), *slices[0].image.shape)).astype(np.float32)
        written = write_dicom(Path(folder, "out"), scan, slices, hounsfield,
                              identity=SeriesIdentity("run", "model", "digest"))
        [again] = readers.find_scans(Path(folder, "out"))
        series = readers.read_scan(again)
        assert len(written) == len(series) == len(slices) and {s.unit for s in series} == {HU}
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(again.files[0].parent))
        for s, values, source in zip(series, hounsfield, slices, strict=True):
            np.testing.assert_allclose(s.image, values, atol=0.5 + 1e-3)
            other = sitk.ReadImage(str(s.path))
            assert str(s.path) in {str(Path(file)) for file in files}
            np.testing.assert_array_equal(sitk.GetArrayFromImage(other)[0], s.image)
            for column, row in product((0, values.shape[1] - 1), (0, values.shape[0] - 1)):
                place = in_lps(source.geometry.affine, (column, row, source.index))
                np.testing.assert_allclose(itk_places(other, [(column, row, 0)])[0], place, atol=MM)
                np.testing.assert_allclose(in_lps(s.geometry.affine, (column, row, s.index)), place, atol=MM)


def independent(path, kind, intensity):
    """(C, H, W) float64 in the target's unit; for png in grey levels."""
    if kind in ("tiff", "tiff16"):
        image = tifffile.imread(path)
    else:
        image = np.load(path) if kind == "npy" else np.asarray(Image.open(path))
    image = image.astype(np.float64)
    if kind in ("png16", "tiff16"):
        image = image / 65535 * (intensity.high - intensity.low) + intensity.low
    return image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)


@pytest.mark.parametrize("kind", BY_SLICE)
@QUICK
@given(volumes(), st.sampled_from([1, 3]))
def test_images(kind, made, channels):
    array, affine, unit, intensity, rng = made
    channels = 1 if kind == "png16" else channels
    span = 255.0 if kind == "png" else intensity.high - intensity.low
    with TemporaryDirectory() as folder:
        scan, slices = stored(f"{folder}/in", array, affine, unit)
        images = [rng.uniform(-1, 1, (channels, *s.image.shape)).astype(np.float32) for s in slices]
        written = write_scan(f"{folder}/out", scan, slices, images, intensity, kind)
        [again] = readers.find_scans(Path(folder, "out"))
        series = readers.read_scan(replace(again, unit=intensity.unit))
        atol = BY_SLICE[kind] * span / STEPS.get(kind, 1) + 1e-6 * span + 1e-4
        for image, s, (name, _, _) in zip(images, series, written, strict=True):
            wanted = (image + 1) * 127.5 if kind == "png" else intensity.restore(image)
            np.testing.assert_allclose(independent(f"{folder}/out/{name}", kind, intensity), wanted, atol=atol)
            np.testing.assert_allclose(s.image, wanted[0] if channels == 1 else wanted, atol=atol)
            assert s.unit == intensity.unit or (kind == "png" and s.unit == DISPLAY)
