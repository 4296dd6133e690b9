"""What was translated, read back by other libraries and by our own loaders."""
import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from duiit.data import readers
from duiit.data.preparing.intensity import Intensity, ct_window
from duiit.data.readers.slice import GREY, HU, Geometry, Scan, Slice
from duiit.data.writing.images import _write_tiff, write_scan
from duiit.util.errors import UserError

BRAIN = ct_window("brain")


def image_scan(root, *names, kind="images", patient="p"):
    """A scan of single files and its slices, each (4, 6)."""
    paths = tuple(root / name for name in names)
    scan = Scan("p", patient, paths, kind, root, label=61.5)
    return scan, [Slice(np.zeros((4, 6), np.float32), patient, "p", path, i, HU, 61.5) for i, path in enumerate(paths)]


def pictures(count, height=4, width=6, channels=1):
    return list(np.random.default_rng(0).uniform(-1, 1, (count, channels, height, width)).astype(np.float32))


# ---- formats --------------------------------------------------------------------------------------------------------

def test_png_holds_the_window_in_8_bits(tmp_path):
    scan, slices = image_scan(tmp_path / "in", "p/1.png")
    image = np.array([[[-1, 0, 1, -2, 2, 0.5]] * 4], np.float32)
    written = write_scan(tmp_path / "out", scan, slices, [image], BRAIN, "png")
    assert written == [("p/1.png", "p", 61.5)]
    with Image.open(tmp_path / "out" / "p" / "1.png") as stored:
        assert stored.mode == "L" and np.asarray(stored)[0].tolist() == [0, 128, 255, 0, 255, 191]


def test_png_of_colours(tmp_path):
    scan, slices = image_scan(tmp_path / "in", "1.png")
    image = pictures(1, channels=3)[0]
    write_scan(tmp_path / "out", scan, slices, [image], BRAIN, "png")
    stored = np.asarray(Image.open(tmp_path / "out" / "1.png"))
    np.testing.assert_allclose(stored, np.moveaxis((image + 1) * 127.5, 0, -1), atol=0.5)
    with pytest.raises(UserError, match="--format png.*not 2"):
        write_scan(tmp_path / "two", scan, slices, pictures(1, channels=2), BRAIN, "png")


def test_png16_holds_hounsfield_units_to_their_step_and_is_read_back_as_such(tmp_path):
    scan, slices = image_scan(tmp_path / "in", "p/1.png")
    full = ct_window("full")
    image = pictures(1)[0]
    write_scan(tmp_path / "out", scan, slices, [image], full, "png16")
    back = readers.read_scan(readers.find_scans(tmp_path / "out")[0])[0]
    assert back.unit == HU
    np.testing.assert_allclose(back.image, full.restore(image[0]), atol=4095 / 65535)
    with pytest.raises(UserError, match="png16.*not 3"):
        write_scan(tmp_path / "colour", scan, slices, pictures(1, channels=3), full, "png16")


@pytest.mark.parametrize("kind, ending, load", [("tiff", "tif", tifffile.imread), ("npy", "npy", np.load)])
def test_tiff_and_numpy_hold_the_unit_itself(tmp_path, kind, ending, load):
    scan, slices = image_scan(tmp_path / "in", "deep/er/1.png", "deep/er/2.png")
    images = pictures(2)
    written = write_scan(tmp_path / "out", scan, slices, images, BRAIN, kind)
    assert [w[0] for w in written] == [f"deep/er/1.{ending}", f"deep/er/2.{ending}"]
    for (name, _, _), image in zip(written, images, strict=True):
        stored = load(tmp_path / "out" / name)
        assert stored.dtype == np.float32
        np.testing.assert_allclose(stored, image[0] * 60 + 40, atol=1e-4)


@pytest.mark.parametrize("kind", ["png", "tiff", "npy", "nifti"])
def test_our_own_readers_take_it_back(tmp_path, kind):
    scan, slices = image_scan(tmp_path / "in", "1.png", "2.png")
    images = pictures(2)
    write_scan(tmp_path / "out", scan, slices, images, BRAIN, kind)
    found = [s for one in readers.find_scans(tmp_path / "out") for s in readers.read_scan(one)]
    step = 0.5 / 127.5 if kind == "png" else 0.5 / 60 if kind == "nifti" else 1e-5
    for s, image in zip(found, images, strict=True):
        back = s.image / 127.5 - 1 if kind == "png" else BRAIN.normalise(s.image)
        np.testing.assert_allclose(back, image[0], atol=step + 1e-6)


# ---- names ----------------------------------------------------------------------------------------------------------

def names_of(scan, slices, folder, kind="npy"):
    return [name for name, _, _ in write_scan(folder, scan, slices, pictures(len(slices)), BRAIN, kind)]


def test_files_of_one_stem_stay_apart(tmp_path):
    assert names_of(*image_scan(tmp_path, "a/1.png", "a/1.tif", "a/2.png"), tmp_path / "out") == [
        "a/1.png.npy", "a/1.tif.npy", "a/2.npy"]
    assert names_of(*image_scan(tmp_path, "a/2.npy", kind="numpy"), tmp_path / "out") == ["a/2.npy.npy"]
    assert len(list((tmp_path / "out" / "a").iterdir())) == 4


def test_slices_of_a_volume_are_numbered(tmp_path):
    scan = Scan("p/scan", "p", (tmp_path / "p" / "scan.nii.gz",), "nifti", tmp_path)
    slices = [Slice(np.zeros((4, 6), np.float32), "p", scan.name, scan.files[0], i) for i in (0, 8, 99, 1000)]
    assert names_of(scan, slices, tmp_path / "out") == [f"p/scan/{n}.npy" for n in ("0001", "0009", "0100", "1001")]


def test_volumes_of_one_stem_stay_apart(tmp_path):
    found = []
    for ending in (".nii.gz", ".npy"):
        scan = Scan("scan", "p", (tmp_path / f"scan{ending}",), "nifti" if "nii" in ending else "numpy", tmp_path)
        slices = [Slice(np.zeros((4, 6), np.float32), "p", scan.name, scan.files[0], i) for i in range(2)]
        found += names_of(scan, slices, tmp_path / "out")
    assert found == ["scan/001.npy", "scan/002.npy", "scan.npy/001.npy", "scan.npy/002.npy"]


# ---- NIfTI ----------------------------------------------------------------------------------------------------------

def oblique(codes="RAS"):
    """An affine with spacings 2, 0.5, 3 mm, turned by 20 degrees about two axes, along the given axis codes."""
    turn = np.eye(4)
    c, s = np.cos(0.35), np.sin(0.35)
    turn[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine = turn @ np.diag([2, 0.5, 3, 1])
    affine[:3, 3] = 12, -7, 30
    to = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    return affine @ nib.orientations.inv_ornt_aff(to, (5, 6, 4)), np.argsort(to[:, 0])


def stored_volume(root, codes):
    affine, order = oblique(codes)
    shape = tuple(np.array([5, 6, 4])[order.argsort()]) if codes != "RAS" else (5, 6, 4)
    volume = np.random.default_rng(0).integers(-20, 101, shape).astype(np.int16)
    root.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume, affine), root / "v.nii.gz")
    scan = readers.find_scans(root)[0]
    return volume, affine, scan, readers.read_scan(scan)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "SPL", "AIR", "PSR"])
def test_a_volume_comes_back_in_its_own_axes(tmp_path, codes):
    volume, affine, scan, slices = stored_volume(tmp_path / "in", codes)
    images = [BRAIN.normalise(s.image)[None] for s in slices]
    assert write_scan(tmp_path / "out", scan, slices, images, BRAIN, "nifti") == [("v.nii.gz", "v", None)]
    back = nib.load(tmp_path / "out" / "v.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(back.dataobj), volume)
    np.testing.assert_allclose(back.affine, affine, atol=1e-5)
    assert nib.aff2axcodes(back.affine) == nib.aff2axcodes(affine) and back.get_data_dtype() == np.int16


@pytest.mark.parametrize("chosen", ["0.5-1", "every:2"])
def test_chosen_slices_lie_where_they_lay(tmp_path, chosen):
    _, _, scan, slices = stored_volume(tmp_path / "in", "SPL")
    kept = readers.select_slices(slices, chosen)
    write_scan(tmp_path / "out", scan, kept, [BRAIN.normalise(s.image)[None] for s in kept], BRAIN, "nifti")
    again = readers.read_scan(readers.find_scans(tmp_path / "out")[0])
    assert 0 < len(again) < len(slices)
    for number, (s, old) in enumerate(zip(again, kept, strict=True)):
        for column, row in ((0, 0), (3, 2)):
            np.testing.assert_allclose(s.geometry.affine @ [column, row, number, 1],
                                       old.geometry.affine @ [column, row, old.index, 1], atol=1e-4)


def test_other_pixels_cover_the_same_field_of_view(tmp_path):
    _, _, scan, slices = stored_volume(tmp_path / "in", "LPS")
    height, width = slices[0].image.shape
    write_scan(tmp_path / "out", scan, slices, pictures(len(slices), 2 * height, 3 * width), BRAIN, "nifti")
    again = readers.read_scan(readers.find_scans(tmp_path / "out")[0])[0]
    old = slices[0].geometry.affine
    assert again.image.shape == (2 * height, 3 * width)
    for x, y in ((0, 0), (width, height)):                      # the corners, half a pixel outside the centres
        np.testing.assert_allclose(again.geometry.affine @ [3 * x - 0.5, 2 * y - 0.5, 0, 1],
                                   old @ [x - 0.5, y - 0.5, 0, 1], atol=1e-4)


def test_units_of_small_numbers_are_not_rounded_away(tmp_path):
    scan, slices = image_scan(tmp_path / "in", "1.png", "2.png")
    images = pictures(2)
    write_scan(tmp_path / "out", scan, slices, images, Intensity(0.0, 1.5, GREY), "nifti")
    stored = np.asanyarray(nib.load(tmp_path / "out" / "p.nii.gz").dataobj)
    np.testing.assert_allclose(stored[..., 1].T, (images[1][0] + 1) * 0.75, atol=1e-5)


def test_series_with_a_known_place_keep_it(tmp_path):
    """DICOM: slices are served as stored, so the affine goes over as it is."""
    scan, slices = image_scan(tmp_path / "in", "1.dcm", "2.dcm", kind="dicom")
    affine = np.array([[-0.5, 0, 0, 10], [0, -0.4, 0, 20], [0, 0, 5, -30], [0, 0, 0, 1.0]])
    slices = [Slice(s.image, s.patient, s.scan, s.path, s.index, HU, None, Geometry(affine)) for s in slices]
    images = pictures(2)
    write_scan(tmp_path / "out", scan, slices, images, BRAIN, "nifti")
    back = nib.load(tmp_path / "out" / "p.nii.gz")
    np.testing.assert_allclose(back.affine, affine, atol=1e-6)
    np.testing.assert_allclose(np.asanyarray(back.dataobj)[:, :, 1].T, images[1][0] * 60 + 40, atol=0.51)


def test_what_no_volume_can_hold_is_refused(tmp_path):
    scan, slices = image_scan(tmp_path / "in", "1.png", "2.png")
    for images in (pictures(2, channels=3), [*pictures(1), *pictures(1, 8, 8)]):
        with pytest.raises(UserError, match="--format nifti"):
            write_scan(tmp_path / "out", scan, slices, images, BRAIN, "nifti")


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_channels_of_a_tiff_are_neither_pages_nor_alpha(tmp_path, channels):
    values = np.random.default_rng(5).normal(size=(20, 21, channels)).astype(np.float32)
    _write_tiff(tmp_path / "a.tif", values)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        [page] = file.pages
        assert page.shape == values.shape and set(page.extrasamples) <= {0}
        np.testing.assert_array_equal(page.asarray(), values)
