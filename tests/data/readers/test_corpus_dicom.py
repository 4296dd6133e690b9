"""Every image among pydicom's bundled files, against SimpleITK (GDCM): value by value, millimetre by millimetre.

The other reader shares no code with ours. docs/data_formats.md says in a table what is compared here.
"""
import io
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file, get_testdata_files

from duiit.data.readers import find_scans, read_scan
from duiit.data.readers.slice import DISPLAY, GREY, HU
from duiit.util.errors import UserError

sitk = pytest.importorskip("SimpleITK")
sitk.ProcessObject.SetGlobalWarningDisplay(False)
AIR = -1024             # what lies below in a CT is not of the patient, and is set to this

TOOK = Path(get_testdata_file("MR_small.dcm", download=False)).parent
# What no decoder that comes with duiit reads; each has to say so by name.
UNDECODED = {"JPEG-lossy.dcm", "JPGExtended.dcm", "JPEG2000-embedded-sequence-delimiter.dcm", "GDCMJ2K_TextGBR.dcm",
             "JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm", "MR_small_jpeg_ls_lossless.dcm",
             "SC_rgb_jls_lossy_line.dcm", "SC_rgb_jls_lossy_sample.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_truncated.dcm"}
# Which GDCM reads wrongly: colours of more than 8 bits under RLE. They are held against their 8-bit siblings below.
DEEP_COLOUR = {"SC_rgb_rle_16bit.dcm", "SC_rgb_rle_16bit_2frame.dcm", "SC_rgb_rle_32bit.dcm",
               "SC_rgb_rle_32bit_2frame.dcm"}


HUNGRY = "SC_rgb_jpeg.dcm"      # for which GDCM takes more than a gigabyte


@cache
def image_files():
    """Names of the files that hold an image of a patient, relative to pydicom's folder."""
    names = []
    for path in map(Path, get_testdata_files()):
        if not path.is_relative_to(TOOK) or path.suffix in (".py", ".zip", ".gz", ".txt"):
            continue
        try:
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            if ds.get("Rows") and ds.get("Modality") not in ("RTDOSE", "SEG", "RTPLAN"):
                names.append(path.relative_to(TOOK).as_posix())
        except Exception:  # files that are damaged on purpose
            continue
    return sorted(set(names))


def ours(path):
    return [s for scan in find_scans(path) for s in read_scan(scan)]


def theirs(path):
    """(N, H, W) or (N, 3, H, W) in float64, and SimpleITK's image, which knows where it lies."""
    image = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(image).astype(np.float64)
    if image.GetNumberOfComponentsPerPixel() > 1:
        values = np.moveaxis(values, -1, -3)
    return (values if image.GetDimension() == 3 else values[None]), image


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(set(image_files()) - UNDECODED - DEEP_COLOUR - {HUNGRY}))
def test_values_and_places_are_those_of_another_reader(name):
    slices, (values, image) = ours(TOOK / name), theirs(TOOK / name)
    if slices[0].unit == HU:
        values = np.maximum(values, AIR)
    np.testing.assert_allclose(np.stack([s.image for s in slices]), values, rtol=1e-6, atol=0)
    ds = pydicom.dcmread(TOOK / name, stop_before_pixels=True, force=True)
    assert slices[0].unit == (HU if ds.get("Modality") == "CT" else DISPLAY if values.ndim == 4 else GREY)
    geometry = slices[0].geometry
    assert (geometry is not None) == ("ImagePositionPatient" in ds)
    if geometry is None:
        return
    lps = np.diag([-1, -1, 1, 1]) @ geometry.affine
    columns, rows = image.GetSize()[:2]
    # GDCM makes the directions exactly perpendicular; we take them as they are written.
    for corner in ((0, 0, 0), (columns - 1, 0, 0), (0, rows - 1, 0), (columns - 1, rows - 1, 0)):
        assert (lps @ [*corner, 1])[:3] == pytest.approx(image.TransformIndexToPhysicalPoint(corner), abs=0.005)
    if image.GetDirection()[8] and "LOCALIZER" not in ds.ImageType:
        right, down = image.GetSpacing()[:2]
        assert geometry.spacing[:2] == pytest.approx((down, right), abs=1e-4)
    thick = ds.get("SpacingBetweenSlices") or ds.SliceThickness
    assert geometry.spacing[2] == pytest.approx(abs(float(thick)))


def test_a_jpeg_is_what_it_is_outside_dicom():
    raw = (TOOK / HUNGRY).read_bytes()
    picture = Image.open(io.BytesIO(raw[raw.index(b"\xff\xd8\xff"):]))
    picture.draft("YCbCr", picture.size)            # its components as they are: the header says that they are RGB
    [s] = ours(TOOK / HUNGRY)
    np.testing.assert_array_equal(s.image, np.moveaxis(np.asarray(picture), -1, 0))


@pytest.mark.parametrize("name", sorted(DEEP_COLOUR))
def test_deep_colours_are_those_of_their_shallow_sibling(name):
    """The same picture in 8 bits, by SimpleITK, times 257 (65535 / 255) or 16843009."""
    sibling = TOOK / ("SC_rgb_rle_2frame.dcm" if "2frame" in name else "SC_rgb_rle.dcm")
    times = 257 if "16bit" in name else 16843009
    np.testing.assert_allclose(np.stack([s.image for s in ours(TOOK / name)]), theirs(sibling)[0] * times, rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(UNDECODED))
def test_what_cannot_be_decoded_says_so(name):
    try:
        slices = ours(TOOK / name)          # with the extra decoders it can
    except UserError as error:
        assert str(error).startswith(f"{TOOK / name}: ") and "\n" not in str(error)
        return
    np.testing.assert_allclose(np.stack([s.image for s in slices]), theirs(TOOK / name)[0], rtol=1e-6)


@pytest.mark.parametrize("folder", ["98892001/CT5N", "77654033/CT2", "98892003/MR1", "98892003/MR2"])
def test_series_lie_where_another_reader_puts_them(folder):
    """Slices of real series, of which pydicom brings a few: their order, the places of all, uneven steps and all."""
    for scan in find_scans(TOOK / "dicomdirtests" / folder):
        slices = read_scan(scan)
        single = [theirs(path) for path in scan.files]
        values = np.concatenate([values for values, _ in single])
        np.testing.assert_array_equal(np.stack([s.image for s in slices]),
                                      np.maximum(values, AIR) if slices[0].unit == HU else values)
        if slices[0].geometry is None:
            continue
        lps = np.diag([-1, -1, 1, 1]) @ slices[0].geometry.affine
        origins = np.array([image.TransformIndexToPhysicalPoint((0, 0, 0)) for _, image in single])
        for n in (0, len(slices) - 1):      # the ends are exact; what lies between is told where it is not
            assert (lps @ [0, 0, n, 1])[:3] == pytest.approx(origins[n], abs=1e-3)
        depth = origins @ np.cross(*np.reshape(single[0][1].GetDirection(), (3, 3)).T[:2])
        assert (np.diff(depth) > 0).all() or (np.diff(depth) < 0).all()
