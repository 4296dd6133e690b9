"""Units of length in NIfTI headers: millimetres here, whatever the file has, and millimetres in what is written."""
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from duiit.data import readers
from duiit.data.preparing.intensity import ct_window
from duiit.data.readers.slice import HU
from duiit.data.writing.images import save_nifti, write_scan

PER_MM = {"mm": 1, "micron": 1000, "meter": 1e-3, "unknown": 1}


def stored(folder, unit, angle=0.3):
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ np.diag([20, 5, 30, 1.0])
    affine[:3, 3] = -10, 20, -30
    affine[:3] *= PER_MM[unit]
    image = nib.Nifti1Image(np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6), affine)
    image.header.set_xyzt_units(unit)
    folder.mkdir()
    nib.save(image, folder / "v.nii.gz")
    scan = readers.find_scans(folder)[0]
    return scan, readers.read_scan(scan)


def places(path, indices):
    """Millimetres in LPS of voxels (i, j, k), as ITK has them."""
    image = sitk.ReadImage(path)
    return np.array([image.TransformContinuousIndexToPhysicalPoint([float(n) for n in index]) for index in indices])


@pytest.mark.parametrize("unit", PER_MM)
def test_the_headers_unit_is_honoured_and_mm_written(tmp_path, caplog, unit):
    scan, slices = stored(tmp_path / "in", unit)
    assert sorted(slices[0].geometry.spacing) == pytest.approx([5, 20, 30], rel=1e-6)
    window = ct_window("full")
    write_scan(tmp_path / "out", scan, slices, [window.normalise(s.image)[None] for s in slices], window, "nifti")
    back = nib.load(tmp_path / "out" / "v.nii.gz")
    assert back.header.get_xyzt_units()[0] == "mm" and sitk.ReadImage(tmp_path / "out" / "v.nii.gz").GetPixelID() == 2
    np.testing.assert_array_equal(back.get_fdata(), nib.load(tmp_path / "in" / "v.nii.gz").get_fdata())
    corners = [(0, 0, 0), (3, 4, 5), (1, 2, 3), (3, 0, 5)]
    np.testing.assert_allclose(places(tmp_path / "out" / "v.nii.gz", corners),
                               places(tmp_path / "in" / "v.nii.gz", corners), atol=1e-4)
    assert not caplog.text


def test_a_unit_that_nobody_knows_is_mm(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4)), tmp_path / "v.nii")
    with (tmp_path / "v.nii").open("r+b") as file:
        file.seek(123)                                                  # xyzt_units
        file.write(bytes([5 + 8]))
    assert readers.read_scan(readers.find_scans(tmp_path)[0])[0].geometry.spacing == (1, 1, 1)
    assert sitk.ReadImage(tmp_path / "v.nii").GetSpacing() == (1, 1, 1)


@pytest.mark.parametrize("unit, scale", [("meter", 1.0), ("micron", 1.0)])
def test_a_unit_that_cannot_be_is_told(tmp_path, caplog, unit, scale):
    image = nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4) * scale)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "v.nii")
    readers.read_scan(readers.find_scans(tmp_path)[0])
    assert "mm wide; correct its affine or its unit" in caplog.text


def test_hounsfield_units_beyond_16_bits_do_not_wrap(tmp_path):
    values = np.array([[[-40000.0, 70000.5], [0, 1]]] * 2, np.float32)
    save_nifti(tmp_path / "v.nii", values, np.eye(4), HU)
    np.testing.assert_array_equal(nib.load(tmp_path / "v.nii").get_fdata(), values)


@pytest.mark.parametrize("code", ["SPL", "RAS", "ASR", "RSA", "IRA"])
def test_one_axial_slice_in_any_axes_is_an_image(tmp_path, code):
    affine = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(code), (0, 0, 0))
    shape = [1 if axis in "SI" else n for axis, n in zip(nib.aff2axcodes(affine), (5, 6, 30), strict=True)]
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "v.nii")
    [s] = readers.read_scan(readers.find_scans(tmp_path)[0])
    np.testing.assert_array_equal(np.sort(s.image.ravel()), array.ravel())
    other = sitk.DICOMOrient(sitk.ReadImage(tmp_path / "v.nii"), "LPS")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(other)[0], s.image)
