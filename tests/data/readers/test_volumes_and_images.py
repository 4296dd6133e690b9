"""NIfTI, NumPy, TIFF, PNG and JPEG files: values exactly as stored, in the served view, and back."""
import itertools

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from duiit.data.readers import find_scans, read_scan
from duiit.data.readers.nifti import to_source_affine, to_source_orientation
from duiit.data.readers.slice import DISPLAY, GREY, HU
from duiit.util.errors import UserError


def nifti(path, array, affine=None):
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


CODES = ["".join(code) for axes in itertools.permutations(("LR", "AP", "IS")) for code in itertools.product(*axes)]


def oriented(code, spacing=(1.0, 2.0, 3.0)):
    affine = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(code), (0, 0, 0))
    affine[:3, :3] *= spacing
    affine[:3, 3] = (-11, 7, 30)
    return affine


@pytest.mark.parametrize("code", CODES)
def test_any_orientation_is_served_the_same_way_and_goes_back(tmp_path, read, code):
    rng = np.random.default_rng(1)
    affine = oriented(code)
    code = "".join(nib.aff2axcodes(affine))
    source = rng.integers(-1000, 2000, (4, 5, 6)).astype(np.int16)
    slices = read(nifti(tmp_path / "a.nii.gz", source, affine))
    volume, geometry = np.stack([s.image for s in slices]), slices[0].geometry
    assert nib.aff2axcodes(geometry.affine) == ("L", "P", "S") and geometry.orientation == code
    # The served value at (slice, row, column) lies at the same millimetres as in the source.
    world = geometry.affine @ [1, 2, 3, 1]
    i, j, k = np.rint(np.linalg.inv(affine) @ world)[:3].astype(int)
    assert volume[3, 2, 1] == source[i, j, k]
    np.testing.assert_array_equal(to_source_orientation(volume, geometry), source)
    np.testing.assert_allclose(to_source_affine(geometry, volume.shape), affine, atol=1e-6)


def test_oblique_volumes_are_not_resampled(tmp_path, read):
    turn = np.deg2rad(25)
    affine = np.diag([1.0, 1, 3, 1])
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    source = np.random.default_rng(2).normal(size=(4, 5, 6)).astype(np.float32)
    slices = read(nifti(tmp_path / "a.nii", source, affine))
    volume = np.stack([s.image for s in slices])
    np.testing.assert_array_equal(to_source_orientation(volume, slices[0].geometry), source)
    np.testing.assert_allclose(to_source_affine(slices[0].geometry, volume.shape), affine, atol=1e-6)
    assert slices[0].geometry.spacing == pytest.approx((1, 1, 3))


def test_nose_up_and_left_on_the_right_hand_side(tmp_path, read):
    source = np.zeros((4, 5, 6), np.int16)  # RAS: first axis grows to the patient's right
    source[0, -1, -1] = 9                   # left, anterior, head
    slices = read(nifti(tmp_path / "a.nii", source))
    assert slices[-1].image.shape == (5, 4) and slices[-1].image[0, -1] == 9


def test_one_frame_colour_and_flat_nifti(tmp_path, read):
    assert read(nifti(tmp_path / "a.nii", np.ones((4, 5, 6, 1), np.int16)))[0].image.shape == (5, 4)
    assert len(read(nifti(tmp_path / "b.nii", np.ones((4, 5), np.int16)))) == 1
    colour = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour["G"] = 7
    [first, *_] = read(nifti(tmp_path / "c.nii", colour))
    assert first.image.shape == (3, 5, 4) and (first.image[1] == 7).all()


def test_scaled_nifti_gives_the_scaled_values(tmp_path, read):
    image = nib.Nifti1Image(np.full((4, 5, 6), 3, np.int16), np.eye(4))
    image.header.set_slope_inter(2, -1024)
    nib.save(image, tmp_path / "a.nii")
    stored = nib.load(tmp_path / "a.nii").get_fdata()[0, 0, 0]
    assert read(tmp_path / "a.nii")[0].image[0, 0] == stored


@pytest.mark.parametrize("array, shape, count", [
    (np.zeros((4, 5), np.uint16), (4, 5), 1), (np.zeros((7, 4, 5), np.int16), (4, 5), 7),
    (np.zeros((4, 5, 3), np.uint8), (3, 4, 5), 1), (np.zeros((4, 5), bool), (4, 5), 1),
])
def test_numpy_arrays(tmp_path, read, array, shape, count):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", array)
    for name in ("a.npy", "b.npz"):
        slices = read(tmp_path / name)
        assert len(slices) == count and slices[0].image.shape == shape and slices[0].image.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_tiff_values_are_exact(tmp_path, read, dtype):
    array = (np.random.default_rng(3).random((6, 7)) * 200 - (100 if np.dtype(dtype).kind != "u" else 0)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array)
    [s] = read(tmp_path)
    np.testing.assert_array_equal(s.image, array.astype(np.float32))
    assert s.unit == (DISPLAY if dtype == np.uint8 else GREY)


def test_tiff_colour_pages_and_compressions(tmp_path, read):
    colour = np.random.default_rng(4).integers(0, 255, (6, 7, 3), np.uint8)
    tifffile.imwrite(tmp_path / "c.tif", colour, photometric="rgb")
    np.testing.assert_array_equal(read(tmp_path / "c.tif")[0].image, colour.transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "p.tif", colour.transpose(2, 0, 1), photometric="minisblack")
    assert [s.image.shape for s in read(tmp_path / "p.tif")] == [(6, 7)] * 3
    for compression in ("tiff_lzw", "tiff_deflate", "packbits"):
        Image.fromarray(colour[..., 0]).save(tmp_path / "z.tif", compression=compression)
        np.testing.assert_array_equal(read(tmp_path / "z.tif")[0].image, colour[..., 0])


def test_png_values_are_exact(tmp_path, read):
    deep = np.random.default_rng(5).integers(0, 65535, (6, 7), np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0].image, deep)


def test_png_may_say_what_its_values_mean(tmp_path, read):
    text = PngImagePlugin.PngInfo()
    for key, value in (("RescaleSlope", "1"), ("RescaleIntercept", "-1024"), ("Unit", "HU")):
        text.add_text(key, value)
    Image.fromarray(np.full((6, 7), 1064, np.uint16)).save(tmp_path / "a.png", pnginfo=text)
    [s] = read(tmp_path)
    assert s.unit == HU and (s.image == 40).all()


def test_palette_alpha_and_one_bit(tmp_path, read):
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    grey.convert("P").save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read(tmp_path / "palette.png")[0].image, np.asarray(grey))
    colour = Image.new("RGBA", (8, 8), (200, 100, 50, 255))
    colour.putpixel((0, 0), (200, 100, 50, 0))
    colour.save(tmp_path / "alpha.png")
    image = read(tmp_path / "alpha.png")[0].image
    assert image.shape == (3, 8, 8) and list(image[:, 0, 0]) == [0, 0, 0] and list(image[:, 1, 1]) == [200, 100, 50]
    Image.new("1", (8, 8), 1).save(tmp_path / "bit.png")
    assert (read(tmp_path / "bit.png")[0].image == 255).all()


def test_units_follow_the_cohort_where_the_type_allows(tmp_path, caplog):
    from dataclasses import replace
    arrays = {"u8": np.uint8, "u16": np.uint16, "i16": np.int16, "f32": np.float32}
    for name, dtype in arrays.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", np.full((6, 7), 100, dtype))
    units = {scan.name: read_scan(replace(scan, unit=HU))[0].unit for scan in find_scans(tmp_path)}
    assert units == {"u8": DISPLAY, "u16": GREY, "i16": HU, "f32": HU}
    assert "cannot be Hounsfield" in caplog.text


@pytest.mark.parametrize("channels", [2, 4])
def test_a_channel_of_an_array_is_not_taken_for_alpha(tmp_path, read, channels):
    np.save(tmp_path / "a.npy", np.ones((4, 5, channels), np.uint8))
    with pytest.raises(UserError, match=f"{channels} channels"):
        read(tmp_path)
