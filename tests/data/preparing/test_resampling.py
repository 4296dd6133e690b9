"""--spacing: slices on a common grid and back, compared with SimpleITK, millimetre by millimetre."""
from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from duiit.data import readers
from duiit.data.modality_dataset import ModalityDataset
from duiit.data.preparing import resampling, transforms
from duiit.data.preparing.intensity import ct_window
from duiit.data.readers.common import notice
from duiit.data.writing.images import write_scan
from duiit.util.errors import UserError
from duiit_cli.inference.networks import read
from duiit_cli.inference.translation import translate_scan

SIZES = [((11, 17), (2.0, 1.25), 0.8, 40), ((24, 20), (0.9, 1.1), 1.0, 16), ((13, 40), (1.0, 1.0), 1.0, 32)]
BRAIN = ct_window("brain")


def opt(spacing, load_size, preprocess="resize_and_crop"):
    return SimpleNamespace(spacing=spacing, load_size=load_size, crop_size=load_size, preprocess=preprocess)


def smooth(height, width, pixels, count=3):
    """(N, H, W) from -20 to 100: some waves of 30 mm and more, in the patient's own millimetres about the centre."""
    y, x = ((np.arange(n) - (n - 1) / 2) * step for n, step in zip((height, width), pixels, strict=True))
    wave = np.sin(y[:, None] / 7) * np.cos(x / 9)
    return np.stack([40 + 50 * wave + n for n in range(count)]).astype(np.float32)


def scan_of(folder, values, pixels, codes="LPS"):
    """A NIfTI scan of these axial slices, turned by 20 degrees, stored along `codes`; and as read."""
    affine = np.diag([-pixels[1], -pixels[0], 5.0, 1.0])
    c, s = np.cos(0.35), np.sin(0.35)
    affine = np.array([[1, 0, 0, 30], [0, c, -s, -12], [0, s, c, 7], [0, 0, 0, 1]]) @ affine
    image = nib.Nifti1Image(values.transpose(2, 1, 0), affine)
    folder.mkdir(parents=True)
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(codes))
    nib.save(image.as_reoriented(turn), folder / "v.nii.gz")
    scan = readers.find_scans(folder)[0]
    return scan, readers.read_scan(scan)


def itk_grid(image, affine):
    """(H, W) on a plane of the served view's affine, as SimpleITK has it."""
    lps = np.diag([-1, -1, 1, 1]) @ affine
    made = sitk.GetImageFromArray(np.asarray(image, np.float64)[None])
    steps = np.linalg.norm(lps[:3, :3], axis=0)
    made.SetSpacing(steps.tolist())
    made.SetDirection((lps[:3, :3] / steps).ravel().tolist())
    made.SetOrigin(lps[:3, 3].tolist())
    return made


def by_itk(image, affine, like, like_affine):
    grid = itk_grid(np.zeros(like), like_affine)
    moved = sitk.Resample(itk_grid(image, affine), grid, sitk.Transform(), sitk.sitkLinear, -1.0)
    return sitk.GetArrayFromImage(moved)[0]


@pytest.mark.parametrize("shape, pixels, spacing, size", SIZES)
def test_there_and_back_as_simpleitk_does_it(tmp_path, shape, pixels, spacing, size):
    _, slices = scan_of(tmp_path / "in", smooth(*shape, pixels), pixels)
    s, o = slices[1], opt(spacing, size)
    image = np.random.default_rng(0).uniform(-1, 1, (1, *shape)).astype(np.float32)
    made = resampling.to_loading_size(image, s, o)
    [placed] = resampling.on_network_grid([s], [made], o)
    assert made.shape == (1, size, size) and placed.geometry.spacing == pytest.approx((spacing, spacing, 5))
    enlarged = all(spacing <= p for p in pixels)                # else it is anti-aliased, which ITK does not do
    wanted = by_itk(image[0], s.geometry.affine, (size, size), placed.geometry.affine)
    if enlarged:
        np.testing.assert_allclose(made[0], wanted, atol=1e-5)
    back = resampling.to_own_grid(made, s, o)
    assert back.shape == image.shape
    if all(spacing >= p for p in pixels):
        wanted = by_itk(made[0], placed.geometry.affine, shape, s.geometry.affine)
        np.testing.assert_allclose(back[0], wanted, atol=1e-5)


@pytest.mark.parametrize("shape, pixels, spacing, size", SIZES)
def test_anatomy_keeps_its_millimetres(tmp_path, shape, pixels, spacing, size):
    values = smooth(*shape, pixels)
    _, slices = scan_of(tmp_path / "in", values, pixels)
    image = resampling.to_loading_size(BRAIN.normalise(slices[1].image)[None], slices[1], opt(spacing, size))[0]
    same = BRAIN.normalise(smooth(size, size, (spacing, spacing))[1])
    place = np.abs(np.arange(size) - (size - 1) / 2) * spacing                  # mm from the centre
    y, x = (place < (n - 1) / 2 * p for n, p in zip(shape, pixels, strict=True))
    np.testing.assert_allclose(image[np.ix_(y, x)], same[np.ix_(y, x)], atol=0.02)
    assert (image[place > shape[0] / 2 * pixels[0]] == -1).all()
    assert (image[:, place > shape[1] / 2 * pixels[1]] == -1).all()


def test_larger_pixels_are_anti_aliased_as_torch_does_it():
    image = np.random.default_rng(1).uniform(-1, 1, (2, 24, 36)).astype(np.float32)
    np.testing.assert_allclose(resampling.resample(image, (1, 1), (2, 3), (12, 12)), transforms.resize(image, 12, 12),
                               atol=1e-5)


def test_the_same_grid_changes_nothing():
    image = np.random.default_rng(1).uniform(-1, 1, (1, 9, 12)).astype(np.float32)
    np.testing.assert_allclose(resampling.resample(image, (0.7, 1.3), (0.7, 1.3), (9, 12)), image, atol=1e-6)


def test_sizes_follow_preprocess(tmp_path):
    _, [s, *_] = scan_of(tmp_path / "in", smooth(11, 17, (2.0, 1.25)), (2.0, 1.25))
    image = s.image[None] / 100
    assert resampling.to_loading_size(image, s, opt(1.0, 30, "none")).shape == (1, 22, 22)
    assert resampling.to_loading_size(image, s, opt(None, 30)).shape == (1, 30, 30)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SPL", "AIR"])
@pytest.mark.parametrize("keep", [False, True])
def test_translations_lie_where_their_source_lies(tmp_path, options, codes, keep):
    values = smooth(30, 44, (1.5, 0.8))
    scan, slices = scan_of(tmp_path / "in", values, (1.5, 0.8), codes)
    o = options("--model predictor --spacing 1.0 --load_size 48 --target ct", isTrain=False, format="nifti",
                slice_blend=0, keep_network_size=keep, input_nc=1, netG="resnet_6blocks", keep_empty=True)
    scan = replace(scan, unit="HU")
    made, images = translate_scan(torch.nn.Identity(), scan, "ct", o, torch.device("cpu"))
    write_scan(tmp_path / "out", scan, made, images, BRAIN, "nifti")
    source, out = (sitk.ReadImage(tmp_path / folder / "v.nii.gz") for folder in ("in", "out"))
    if not keep:
        assert out.GetSize() == source.GetSize()
        for corner in ((0, 0, 0), tuple(n - 1 for n in source.GetSize())):
            np.testing.assert_allclose(out.TransformIndexToPhysicalPoint(corner),
                                       source.TransformIndexToPhysicalPoint(corner), atol=1e-4)
    else:
        assert sorted(out.GetSpacing()) == pytest.approx([1, 1, 5], abs=1e-5)
        assert sorted(out.GetSize()) == [3, 48, 48]
    inner = np.array(sitk.GetArrayFromImage(sitk.Resample(sitk.Cast(out, sitk.sitkFloat64), source, sitk.Transform(),
                                                          sitk.sitkLinear, -2000.0)))
    wanted = sitk.GetArrayFromImage(source)
    inside = [slice(2, -2) if n > 3 else slice(None) for n in wanted.shape]     # at the field's edge there is air
    wanted, inner = wanted[tuple(inside)], inner[tuple(inside)]
    known = inner > -1999
    assert known.mean() > 0.6
    np.testing.assert_allclose(inner[known], np.clip(wanted[known], -20, 100), atol=3)


def test_training_prediction_and_the_cohort_see_the_same(tmp_path, options, caplog):
    resampling._tell_cropped.cache_clear()
    notice.cache_clear()
    folder = tmp_path / "data" / "t1"
    scan, slices = scan_of(folder, smooth(30, 44, (1.5, 0.8)), (1.5, 0.8))
    o = options("--spacing 1.0 --load_size 40", keep_empty=True)
    member = ModalityDataset(o, folder, 1)
    prepared = read(scan, "t1", 1, o)
    for row, image, s in zip(member.rows, prepared.images, slices, strict=True):
        np.testing.assert_allclose(member.cohort.image(row), image, atol=2e-5)
        np.testing.assert_array_equal(image, resampling.to_loading_size(
            prepared.intensity.normalise(s.image)[None], s, o))
    assert "fields of view larger than --load_size 40 x --spacing 1 mm are cropped" in caplog.text
    ModalityDataset(options("--load_size 40", keep_empty=True), folder, 1)
    ModalityDataset(options("--spacing 1.1 --load_size 40", keep_empty=True), folder, 1)
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_scan_without_spacing_is_refused(cohort_on_disk, tmp_path, options):
    folder = cohort_on_disk(tmp_path / "data" / "t1", ["a"], [10])
    with pytest.raises(UserError, match=r"a/1\.png: tells no pixel spacing, which --spacing needs"):
        ModalityDataset(options("--spacing 1.0"), folder, 1)


@pytest.mark.parametrize("words, told", [
    ("--spacing 0", "from 0.01"), ("--spacing 1 --preprocess scale_width", "scale_width"),
    ("--spacing -1", "--spacing"), ("--spacing nan", "--spacing")])
def test_what_cannot_be_is_refused(options, words, told):
    with pytest.raises(UserError, match=told):
        options(words)


def test_translations_for_training_tell_their_spacing(tmp_path, options):
    import tifffile
    scan, _ = scan_of(tmp_path / "in", smooth(30, 44, (1.5, 0.8)), (1.5, 0.8))
    o = options("--spacing 1.0 --load_size 48", isTrain=False, format="tiff16", slice_blend=0, keep_network_size=True,
                input_nc=1, netG="resnet_6blocks", keep_empty=True)
    made, images = translate_scan(torch.nn.Identity(), replace(scan, unit="HU"), "ct", o, torch.device("cpu"))
    write_scan(tmp_path / "data" / "ct", scan, made, images, BRAIN, "tiff16", o.spacing)
    [again] = readers.find_scans(tmp_path / "data" / "ct")
    with tifffile.TiffFile(again.files[0]) as file:
        assert file.shaped_metadata[0]["spacing"] == [1.0, 1.0]
    for s, image in zip(readers.read_scan(again), images, strict=True):
        assert s.geometry.spacing[:2] == (1, 1)
        np.testing.assert_allclose(resampling.to_loading_size(BRAIN.normalise(s.image)[None], s, o), image, atol=2e-5)
    write_scan(tmp_path / "plain", scan, made, images, BRAIN, "tiff16")
    [plain] = readers.find_scans(tmp_path / "plain")
    assert {s.geometry for s in readers.read_scan(plain)} == {None}
