"""Whatever is wrong with a file, reading it ends in one UserError that names it: never another exception."""
import os
import pickle
import struct
import zlib

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from duiit.util.errors import UserError


def png(path, size=(9, 9)):
    Image.new("L", size, 3).save(path)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(path):
    """A valid PNG header of 60000 x 60000 pixels and hardly any data."""
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def cut(write, keep=0.6):
    def broken(path):
        write(path)
        path.write_bytes(path.read_bytes()[:int(path.stat().st_size * keep)])
    return broken


def nifti(array, affine=None):
    return lambda path: nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def huge_array(path):
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})


def deep_colour(path):
    head = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    raw = zlib.compress(b"".join(b"\0" + b"\1" * 24 for _ in range(4)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", raw) + chunk(b"IEND", b""))


def flat_affine(path):
    image = nib.Nifti1Image(np.ones((4, 4, 4)), np.eye(4))
    image.to_filename(path)
    raw = bytearray(path.read_bytes())
    raw[312:328] = bytes(16)  # srow_z
    path.write_bytes(raw)


def nothing(path):
    path.write_bytes(b"")


RANDOM = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
CASES = {
    "empty.png": nothing, "empty.dcm": nothing, "empty.nii": nothing, "empty.nii.gz": nothing, "empty.npy": nothing,
    "empty.npz": nothing, "empty.tif": nothing, "text.png": lambda p: p.write_text("hello"),
    "text.dcm": lambda p: p.write_text("hello" * 99), "text.nii": lambda p: p.write_text("hello" * 999),
    "text.npy": lambda p: p.write_text("hello"), "text.npz": lambda p: p.write_text("hello"),
    "text.tif": lambda p: p.write_text("hello"), "cut.png": cut(lambda p: Image.fromarray(RANDOM).save(p)),
    "cut.jpg": cut(lambda p: Image.fromarray(RANDOM).save(p)), "cut.tif": cut(lambda p: tifffile.imwrite(p, RANDOM)),
    "cut.npy": cut(lambda p: np.save(p, RANDOM)), "cut.npz": cut(lambda p: np.savez(p, RANDOM)),
    "cut.nii": cut(nifti(np.ones((9, 9, 9)))), "cut.nii.gz": cut(nifti(np.random.default_rng(0).random((9, 9, 9)))),
    "nan.npy": lambda p: np.save(p, np.full((4, 4), np.nan)),
    "inf.tif": lambda p: tifffile.imwrite(p, np.full((4, 4), np.inf)),
    "nan.nii.gz": nifti(np.full((4, 4, 4), np.nan, np.float32)),
    "over.npy": lambda p: np.save(p, np.full((4, 4), 1e300)),
    "one.png": lambda p: png(p, (1, 1)), "line.png": lambda p: png(p, (1, 9)),
    "one.npy": lambda p: np.save(p, np.ones((1, 1))), "one.tif": lambda p: tifffile.imwrite(p, np.ones((1, 1))),
    "one.nii": nifti(np.ones((1, 1, 1))),
    "frames.nii": nifti(np.ones((4, 4, 4, 2))), "five.nii": nifti(np.ones((4, 4, 4, 1, 3))),
    "flat_affine.nii": flat_affine,
    "pickle.npy": lambda p: p.write_bytes(pickle.dumps({"a": 1})),
    "objects.npy": lambda p: np.save(p, np.array([{}, {}], object), allow_pickle=True),
    "complex.npy": lambda p: np.save(p, np.ones((4, 4), complex)),
    "four.npy": lambda p: np.save(p, np.ones((2, 2, 2, 2))),
    "two.npz": lambda p: np.savez(p, np.ones((4, 4)), np.ones((4, 4))), "huge.npy": huge_array, "bomb.png": bomb,
    "deep.png": deep_colour, "void.npy": lambda p: np.save(p, np.zeros((0, 4))),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", CASES)
def test_broken_files_are_named(tmp_path, read, name):
    path = tmp_path / "Jürgen's scans" / name
    path.parent.mkdir()
    CASES[name](path)
    for asked in (path, path.parent):  # the file itself, and the folder it lies in
        with pytest.raises(UserError) as caught:
            read(asked)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_negative_spacing_is_an_image(tmp_path, read):
    image = nib.Nifti1Image(np.ones((4, 4, 4), np.int16), None)
    image.header["pixdim"][1:4] = (-1, 1, 2)
    image.to_filename(tmp_path / "a.nii")
    assert read(tmp_path)[0].geometry.spacing == pytest.approx((1, 1, 2))


def test_names_with_spaces_and_other_alphabets(tmp_path, read):
    folder = tmp_path / "Пациент 1 – Äö"
    folder.mkdir()
    png(folder / "срез 1.png")
    [s] = read(tmp_path)
    assert s.patient == folder.name


def test_wrong_endings(tmp_path, read, write_slice):
    png(tmp_path / "a.jpg")                       # a PNG called JPEG is still an image
    Image.open(tmp_path / "a.jpg").save(tmp_path / "b.png")
    assert len(read(tmp_path)) == 2
    write_slice(tmp_path / "c" / "d.png")         # DICOM called PNG
    with pytest.raises(UserError, match="DICOM"):
        read(tmp_path / "c")


def test_broken_links_are_named(tmp_path, read):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="gone.png"):
        read(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.nii", "a.dcm"])
def test_files_that_may_not_be_read_are_named(tmp_path, read, name):
    (tmp_path / name).touch(mode=0)
    with pytest.raises(UserError, match="permission"):
        read(tmp_path)


def test_nan_in_a_dicom_float_image_is_named(tmp_path, read, write_slice):
    values = np.full((8, 10), np.nan, np.float32)
    path = write_slice(tmp_path / "1.dcm", values, BitsAllocated=32, PixelData=None, FloatPixelData=values.tobytes(),
                       Modality="MR", RescaleSlope=None, RescaleIntercept=None)
    with pytest.raises(UserError, match="not finite"):
        read(path)


def test_a_truncated_dicom_file_is_named(tmp_path, read, write_slice):
    path = write_slice(tmp_path / "1.dcm", np.ones((64, 64), np.int16))
    raw = path.read_bytes()
    for keep in (100, 200, 400, len(raw) // 2, len(raw) - 10):
        path.write_bytes(raw[:keep])
        for asked in (path, tmp_path):
            with pytest.raises(UserError, match="1.dcm"):
                read(asked)
