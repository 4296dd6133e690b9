"""Image files as their formats' own writers make them, each against what an independent reader, or the array that was
written, says: every pixel, the number of images, and the unit. What the readers cannot give rightly they refuse."""
import io
import itertools
import struct

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from duiit.data.readers.images import read_image
from duiit.data.readers.slice import DISPLAY, GREY, HU
from duiit.util.errors import UserError

RNG = np.random.default_rng(7)
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"]
COMPRESSIONS = [None, "lzw", "zlib", "zstd", "packbits", "lzma"]


def noise(dtype, *shape):
    """Values over the whole of an integer type (as far as float32 holds them), or of both signs."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return (RNG.normal(size=shape) * 900).astype(dtype)
    low, high = max(np.iinfo(dtype).min, -2**24), min(np.iinfo(dtype).max, 2**24)
    return RNG.integers(low, high, shape, endpoint=True).astype(dtype)


def same(path, expected, unit=None, read_as=None):
    """That the file gives exactly these images, in this unit."""
    images, found, _ = read_image(path, read_as)
    assert len(images) == len(expected)
    for image, right in zip(images, expected, strict=True):
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image, np.asarray(right).astype(np.float32))
    assert unit is None or found == unit


# -- TIFF: tifffile's writer -------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype, order, compression", itertools.product(DTYPES, "<>", COMPRESSIONS))
def test_tiff_stacks_of_every_type_byte_order_and_compression(tmp_path, dtype, order, compression):
    stack = noise(dtype, 5, 21, 18)
    path = tmp_path / "a.tif"
    for options in ({}, {"predictor": True}, {"tile": (16, 16)}, {"rowsperstrip": 4}, {"bigtiff": True}):
        if "predictor" in options and compression not in ("lzw", "zlib", "zstd", "lzma"):
            continue
        tifffile.imwrite(path, stack, photometric="minisblack", compression=compression, byteorder=order, **options)
        unit = DISPLAY if dtype == "u1" else GREY if dtype in ("i1", "u2", "u4") else HU
        same(path, stack, unit, read_as=HU)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", None])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
def test_tiff_stacks_as_simpleitk_reads_them(tmp_path, dtype, compression):
    tifffile.imwrite(tmp_path / "a.tif", noise(dtype, 5, 21, 18), photometric="minisblack", compression=compression)
    same(tmp_path / "a.tif", sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.tif"))))


@pytest.mark.parametrize("dtype, order, compression", itertools.product(["u1", "u2", "f4"], "<>", COMPRESSIONS))
def test_tiff_colour_planar_and_contiguous(tmp_path, dtype, order, compression):
    colour, path = noise(dtype, 21, 18, 3), tmp_path / "a.tif"
    tifffile.imwrite(path, colour, photometric="rgb", compression=compression, byteorder=order)
    same(path, [colour.transpose(2, 0, 1)])
    tifffile.imwrite(path, colour.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", byteorder=order,
                     compression=compression)
    same(path, [colour.transpose(2, 0, 1)])


@pytest.mark.parametrize("order, compression", itertools.product("<>", COMPRESSIONS))
def test_tiff_white_as_the_lowest_value_and_palettes(tmp_path, order, compression):
    path, options = tmp_path / "a.tif", {"byteorder": order, "compression": compression}
    for dtype in ("u1", "u2", "u4"):
        stack = noise(dtype, 3, 21, 18)
        tifffile.imwrite(path, stack, photometric="miniswhite", **options)
        same(path, np.iinfo(dtype).max - stack)
    index, table = noise("u1", 3, 21, 18), noise("u2", 3, 256)
    tifffile.imwrite(path, index, photometric="palette", colormap=table, **options)
    same(path, [(table >> 8)[:, page] for page in index], DISPLAY)
    tifffile.imwrite(path, index, photometric="palette", colormap=table >> 8, **options)    # as some writers fill it
    same(path, [(table >> 8)[:, page] for page in index], DISPLAY)


@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
def test_tiff_packed_bits_keep_their_white(tmp_path, bits):
    stored = noise("u2", 21, 18) >> (16 - bits)
    stored = stored.astype("u1") if bits < 8 else stored
    white = 2**bits - 1
    scale = np.float32(255 / white) if bits < 8 else 1
    for kind, right in (("minisblack", stored), ("miniswhite", white - stored)):
        try:
            tifffile.imwrite(tmp_path / "a.tif", stored, photometric=kind, bitspersample=bits)
        except NotImplementedError as error:
            pytest.skip(f"imagecodecs before 2026.3 reads such files, but writes none: {error}")
        same(tmp_path / "a.tif", [right * scale], DISPLAY if bits < 8 else GREY)


def test_tiff_one_bit(tmp_path):
    bits = noise("u1", 21, 18) > 99
    for kind, right in (("minisblack", bits), ("miniswhite", ~bits)):
        tifffile.imwrite(tmp_path / "a.tif", bits, photometric=kind)
        same(tmp_path / "a.tif", [right * 255], DISPLAY)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"])
def test_tiff_as_pillow_writes_and_reads_it(tmp_path, compression):
    if compression == "group4" and tifffile.COMPRESSION.CCITT_T6 not in tifffile.TIFF.DECOMPRESSORS:
        pytest.skip("tifffile before 2026.3 does not decode Group 4")
    modes = {"jpeg": ("L", "RGB"), "group4": ("1",)}.get(compression, ("1", "L", "RGB", "I;16", "F"))
    for mode in modes:
        image = Image.fromarray(noise("u2", 21, 18)) if mode == "I;16" else Image.fromarray(
            noise("u1", 21, 18, 3)).convert(mode)
        pages = [image, image.transpose(Image.Transpose.ROTATE_180)]
        pages[0].save(tmp_path / "a.tif", compression=compression, save_all=True, append_images=pages[1:])
        right = []
        with Image.open(tmp_path / "a.tif") as stored:
            for n in range(2):
                stored.seek(n)
                page = np.asarray(stored.convert("L") if mode == "1" else stored)
                right.append(page if page.ndim == 2 else page.transpose(2, 0, 1))
        same(tmp_path / "a.tif", right)


def test_tiff_stacks_however_their_pages_were_written(tmp_path):
    stack, path = noise("u2", 5, 21, 18), tmp_path / "a.tif"
    for metadata, joined in (({}, False), (None, False), ({}, True)):
        with tifffile.TiffWriter(path) as file:         # page by page, as a loop over slices does
            for image in stack:
                file.write(image, metadata=metadata, contiguous=joined)
        same(path, stack)
    for options in ({"imagej": True}, {"ome": True, "photometric": "minisblack"}, {"photometric": "minisblack"}):
        tifffile.imwrite(path, stack, metadata={"axes": "ZYX"}, **options)
        same(path, stack)
    with tifffile.TiffWriter(path) as file:             # with a small copy that says what it is
        for image in stack:
            file.write(image, metadata=None)
        file.write(stack[0, ::3, ::3], subfiletype=1, metadata=None)
    same(path, stack)
    with tifffile.TiffWriter(path) as file:             # ImageJ's way with large stacks: one page, all behind it
        file.write(stack, metadata={"axes": "ZYX", "truncated": True})
    same(path, stack)


def test_tiff_a_part_of_an_ome_set_gives_its_own_images(tmp_path):
    """Its description tells of the other files' too, which are read for themselves."""
    ids = [f"urn:uuid:{n}1111111-1111-1111-1111-111111111111" for n in (1, 2)]
    stack = noise("u2", 2, 21, 18)
    for axis in "ZC":
        planes = "".join(f'<TiffData First{axis}="{n}" IFD="0" PlaneCount="1"><UUID FileName="{n}.ome.tif">{one}</UUID>'
                         "</TiffData>" for n, one in enumerate(ids))
        for n, image in enumerate(stack):
            tifffile.imwrite(tmp_path / f"{n}.ome.tif", image, metadata=None, description=(
                '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
                f'UUID="{ids[n]}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
                f'SizeX="18" SizeY="21" SizeZ="{1 + (axis == "Z")}" SizeC="{1 + (axis == "C")}" SizeT="1">'
                f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'))
        for n, image in enumerate(stack):
            if axis == "Z":
                same(tmp_path / f"{n}.ome.tif", [image])
            else:
                with pytest.raises(UserError, match="channels"):
                    read_image(tmp_path / f"{n}.ome.tif")


def test_tiff_channels_are_colours_only_by_threes(tmp_path):
    path = tmp_path / "a.tif"
    for options in ({"imagej": True}, {"ome": True, "photometric": "minisblack"}):
        stack = noise("u2", 4, 3, 21, 18)
        tifffile.imwrite(path, stack, metadata={"axes": "ZCYX"}, **options)
        same(path, stack)
        for count in (2, 4):
            tifffile.imwrite(path, noise("u2", count, 21, 18), metadata={"axes": "CYX"}, **options)
            with pytest.raises(UserError, match=f"has {count} channels"):
                read_image(path)


def test_tiff_alpha_is_what_the_file_calls_so(tmp_path):
    path, four = tmp_path / "a.tif", noise("u1", 21, 18, 4)
    for said in ("assocalpha", "unassalpha"):
        tifffile.imwrite(path, four, photometric="rgb", extrasamples=[said])
        same(path, [four[..., :3].transpose(2, 0, 1)])
        tifffile.imwrite(path, four[..., :2], photometric="minisblack", planarconfig="contig", extrasamples=[said])
        same(path, [four[..., 0]])
    tifffile.imwrite(path, four, photometric="rgb", extrasamples=["unspecified"])
    with pytest.raises(UserError, match="4 channels, none of them called alpha"):
        read_image(path)


def _small_and_large(path, metadata):
    with tifffile.TiffWriter(path) as file:
        for image in [noise("u1", 8, 8), *noise("u1", 8, 21, 18)]:
            file.write(image, metadata=metadata)


def _edited(path):
    """An ImageJ stack to which another program has added a page."""
    with tifffile.TiffWriter(path) as file:
        for n, image in enumerate(noise("u2", 6, 21, 18)):
            file.write(image, metadata=None, description="" if n else "ImageJ=1.54f\nimages=5\nslices=5\n")


def _cut_behind_its_page(path):
    """ImageJ's way with large stacks, one page with all images behind it, without the last ones."""
    stack = noise("u2", 5, 21, 18)
    tifffile.imwrite(path, stack[0], metadata=None, description="ImageJ=1.54f\nimages=5\nslices=5\n")
    path.write_bytes(path.read_bytes() + stack[1:].tobytes()[:-50])


def _within_a_page(path):
    with tifffile.TiffWriter(path) as file:
        for n, image in enumerate(noise("u2", 3, 21, 18)):
            file.write(image, subifds=0 if n else 2, metadata=None)


def _unknown_compression(path):
    tifffile.imwrite(path, noise("u1", 21, 18), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["Compression"].overwrite(60000)


REFUSED = {
    "small and large": (lambda path: _small_and_large(path, {}), "1 of 8 x 8 uint8.*8 of 21 x 18"),
    "small and large, plain": (lambda path: _small_and_large(path, None), "1 of 8 x 8 uint8.*8 of 21 x 18"),
    "white lowest, signed": (lambda path: tifffile.imwrite(path, noise("i2", 9, 9), photometric="miniswhite"), "white"),
    "white lowest, float": (lambda path: tifffile.imwrite(path, noise("f4", 9, 9), photometric="miniswhite"), "white"),
    "CMYK": (lambda path: tifffile.imwrite(path, noise("u1", 9, 9, 4), photometric="separated"), "SEPARATED"),
    "complex": (lambda path: tifffile.imwrite(path, noise("f4", 9, 9).astype("c8")), "complex64"),
    "time and depth": (lambda path: tifffile.imwrite(path, noise("u1", 2, 3, 9, 9), imagej=True,
                                                     metadata={"axes": "TZYX"}), "dimensions"),
    "more than described": (_edited, "tells of 5 images, and it holds 6"),
    "cut behind its page": (_cut_behind_its_page, "tells of 5 images, and it holds 1"),
    "within a page": (_within_a_page, "SubIFDs"),
    "unknown compression": (_unknown_compression, "compression"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tiff_that_cannot_be_given_rightly_is_refused(tmp_path, name):
    write, words = REFUSED[name]
    write(tmp_path / "a.tif")
    with pytest.raises(UserError, match=words) as caught:
        read_image(tmp_path / "a.tif")
    assert str(tmp_path / "a.tif") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("compression, described", itertools.product(COMPRESSIONS, (True, False)))
def test_a_tiff_that_was_cut_off_is_never_read_in_part(tmp_path, compression, described):
    path, stack = tmp_path / "a.tif", noise("i2", 4, 21, 18).cumsum(1).astype("i2")
    with tifffile.TiffWriter(path) as file:
        for image in stack:
            file.write(image, compression=compression, metadata={} if described else None)
    whole = path.read_bytes()
    for keep in range(8, len(whole) - 1, 97):
        path.write_bytes(whole[:keep])
        try:
            same(path, stack)          # what was cut off may have been no pixels
        except UserError as error:
            assert str(path) in str(error)


# -- PNG, JPEG, BMP, PNM -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["png", "bmp", "jpg"])
def test_images_as_pillow_and_simpleitk_read_them(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    grey, colour = noise("u1", 21, 18), noise("u1", 21, 18, 3)
    Image.fromarray(grey).save(path)
    same(path, [sitk.GetArrayFromImage(sitk.ReadImage(str(path)))] if kind != "bmp" else [grey], DISPLAY, read_as=HU)
    Image.fromarray(colour).save(path)
    with Image.open(path) as stored:
        same(path, [np.asarray(stored).transpose(2, 0, 1)], DISPLAY)
    if kind == "png":
        deep = noise("u2", 21, 18)
        Image.fromarray(deep).save(path)
        same(path, [sitk.GetArrayFromImage(sitk.ReadImage(str(path)))], GREY, read_as=HU)


def pnm(path, magic, array, white):
    """By hand, from the format's own pages: plain text for P1 to P3, big-endian for two bytes a sample."""
    height, width = array.shape[:2]
    head = f"P{magic}\n# a comment\n{width} {height}\n" + (f"{white}\n" if magic not in (1, 4) else "")
    if magic == 4:
        data = np.packbits(array.astype(bool), axis=1).tobytes()
    elif magic < 4:
        data = "\n".join(" ".join(map(str, row)) for row in array.reshape(height, -1).astype(int)).encode()
    else:
        data = array.astype(">u2" if white > 255 else "u1").tobytes()
    path.write_bytes(head.encode() + data)


@pytest.mark.parametrize("white", [255, 15, 100, 256, 1023, 4095, 65535])
@pytest.mark.parametrize("magic", [2, 3, 5, 6])
def test_pnm_keeps_its_values_and_its_type(tmp_path, magic, white):
    shape = (21, 18) if magic in (2, 5) else (21, 18, 3)
    stored, path = RNG.integers(0, white, shape, endpoint=True), tmp_path / f"a.{'pgm' if len(shape) == 2 else 'ppm'}"
    pnm(path, magic, stored, white)
    right = stored if len(shape) == 2 else stored.transpose(2, 0, 1)
    scale = np.float32(255 / white) if white < 255 else 1
    same(path, [right * scale], GREY if white > 255 else DISPLAY, read_as=HU)


def test_pbm_is_ink_on_paper(tmp_path):
    ink = RNG.integers(0, 2, (21, 18))
    for magic in (1, 4):
        pnm(tmp_path / "a.pbm", magic, ink, 1)
        with Image.open(tmp_path / "a.pbm") as stored:
            same(tmp_path / "a.pbm", [np.asarray(stored.convert("L"))], DISPLAY)
            same(tmp_path / "a.pbm", [255 * (1 - ink)])


def test_several_images_where_one_is_expected_are_refused(tmp_path):
    pnm(tmp_path / "a.pgm", 5, noise("u1", 9, 9), 255)
    (tmp_path / "a.pgm").write_bytes((tmp_path / "a.pgm").read_bytes() * 2)
    pages = [Image.fromarray(noise("u1", 9, 9)) for _ in range(3)]
    pages[0].save(tmp_path / "a.png", save_all=True, append_images=pages[1:])
    pages[0].convert("RGB").save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=pages[1:])
    for name in ("a.pgm", "a.png", "a.jpg"):
        with pytest.raises(UserError, match="save one a file"):
            read_image(tmp_path / name)


def test_a_cut_pnm_and_values_above_white_are_refused(tmp_path):
    path = tmp_path / "a.pgm"
    pnm(path, 5, noise("u2", 9, 9), 65535)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match="ends before"):
        read_image(path)
    pnm(path, 5, np.full((9, 9), 200), 100)
    with pytest.raises(UserError, match="above its white"):
        read_image(path)


def test_what_a_file_is_counts_and_not_its_name(tmp_path):
    stack = noise("i2", 3, 21, 18)
    tifffile.imwrite(tmp_path / "a.png", stack, photometric="minisblack", byteorder=">", compression="lzw")
    same(tmp_path / "a.png", stack, HU, read_as=HU)
    Image.fromarray(noise("u1", 9, 9)).save(tmp_path / "b.tif", format="PNG")
    assert read_image(tmp_path / "b.tif")[0][0].shape == (9, 9)
    Image.fromarray(noise("u1", 9, 9, 4), mode="CMYK").save(tmp_path / "c.jpg")
    with pytest.raises(UserError, match="CMYK"):
        read_image(tmp_path / "c.jpg")
    pages = io.BytesIO()
    Image.new("P", (9, 9)).save(pages, format="GIF")
    (tmp_path / "d.png").write_bytes(pages.getvalue())
    with pytest.raises(UserError, match="convert it"):
        read_image(tmp_path / "d.png")
    (tmp_path / "e.bmp").write_bytes(b"BM" + struct.pack("<I", 9) * 20)
    with pytest.raises(UserError, match=r"e\.bmp"):
        read_image(tmp_path / "e.bmp")
