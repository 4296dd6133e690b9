"""What somebody who makes the files that DUIIT reads could try. docs/security.md names these tests, and others."""
import ast
import csv
import json
import pickle
import re
import shutil
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duiit.data import splits
from duiit.data.readers import read_scan
from duiit.data.readers.tables import read_sheets
from duiit.util import chart, logs
from duiit.util.errors import UserError
from duiit.util.files import below, cell, text_of_cell, write_csv
from duiit.util.html import HTML

ROOT = Path(__file__).parents[2]
EVIL = "=HYPERLINK(\"http://evil.example\")"


def test_every_test_that_the_documentation_names_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8"))
    assert len(named) > 20
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}, f"{file}::{name}"


def test_a_pickle_in_an_array_is_not_loaded(tmp_path):
    from duiit.data.readers.numpy_file import read_array

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    objects = np.empty((2, 2), dtype=object)
    objects[0, 0] = Evil()
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", objects)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Evil()))
    for name in ("a.npy", "a.npz", "b.npy"):
        with pytest.raises(UserError, match="never loaded"):
            read_array(tmp_path / name)
    assert not (tmp_path / "run").exists()


# -- names that lead elsewhere -----------------------------------------------------------------------------------------

def test_a_patients_id_leads_to_no_other_folder(tmp_path, refused, trained):
    """Images of several patients in one folder become scans that are named after them."""
    (tmp_path / "in" / "all").mkdir(parents=True)
    rows = ["file,patient,age"]
    for n in range(2):
        Image.fromarray(np.random.default_rng(n).integers(0, 255, (32, 32), dtype=np.uint8)).save(
            tmp_path / "in" / "all" / f"{n}.png")
        rows.append(f"all/{n}.png,../../../elsewhere{n},30")
    (tmp_path / "in" / "labels.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    message = refused("translate", "--checkpoints_dir", trained, "--name", "demo", "--input", tmp_path / "in",
                      "--output", tmp_path / "a" / "b" / "c" / "out", "--format", "nifti")
    assert "would be written outside of" in message
    assert not list(tmp_path.rglob("elsewhere*"))
    assert not list((tmp_path / "a" / "b" / "c").iterdir())


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "..\\x", "\\x"])
def test_names_that_lead_elsewhere(tmp_path, name):
    with pytest.raises(UserError, match="outside"):
        below(tmp_path, name)
    assert below(tmp_path, "a/..b/x.png") == tmp_path / "a" / "..b" / "x.png"


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x"])
def test_a_run_is_named_below_its_folder(tmp_path, refused, phantom, name):
    message = refused("train", "--dataroot", phantom, "--checkpoints_dir", tmp_path / "runs", "--name", name)
    assert message.startswith(f"--name {name}: is a folder's name")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("ending", "header"), [
    (".mhd", "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = {}\n"),
    (".nhdr", "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\ndata file: {}\n\n"),
    (".nrrd", "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\ndata file: LIST 2\n{0}\n{0}\n\n")])
def test_a_header_reads_no_values_of_another_folder(tmp_path, ending, header):
    from duiit.data.readers import find_scans

    pytest.importorskip("SimpleITK")
    (tmp_path / "secret.raw").write_bytes(bytes(range(64)))
    (tmp_path / "in").mkdir()
    for place in ("../secret.raw", str(tmp_path / "secret.raw")):
        (tmp_path / "in" / f"v{ending}").write_text(header.format(place))
        with pytest.raises(UserError, match="outside of its folder"):
            read_scan(find_scans(tmp_path / "in")[0])


# -- files that become too large ---------------------------------------------------------------------------------------

def test_an_image_that_claims_too_many_pixels(tmp_path):
    from duiit.data.readers.images import read_image

    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")            # 50 kB, 400 million pixels
    with pytest.raises(UserError, match=r"bomb\.png: .*(too large|more pixels)"):
        read_image(tmp_path / "bomb.png")


def test_an_array_that_claims_too_many_values(tmp_path):
    from duiit.data.readers.numpy_file import read_array

    header = {"descr": "|u1", "fortran_order": False, "shape": (100_000, 1000, 1000)}
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive, \
            archive.open("a.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(16):
            file.write(bytes(1 << 20))
    with pytest.raises(UserError, match=r"bomb\.npz: "):
        read_array(tmp_path / "bomb.npz")


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_a_volume_that_claims_too_many_values(tmp_path, ending):
    import gzip

    import nibabel

    from duiit.data.readers.nifti import read_nifti

    path = tmp_path / f"bomb{ending}"
    if ending == ".mha":
        pytest.importorskip("SimpleITK")
        path.write_text("ObjectType = Image\nNDims = 3\nDimSize = 9000 9000 9000\nElementType = MET_UCHAR\n"
                        "CompressedData = True\nElementDataFile = LOCAL\n" + "x" * 100)
    else:
        header = nibabel.Nifti1Header()
        header.set_data_dtype(np.uint8)
        header.set_data_shape((9000, 9000, 9000))
        header["vox_offset"], header["magic"] = 352, b"n+1"
        path.write_bytes(gzip.compress(header.binaryblock + bytes(1 << 20)))
    with pytest.raises(UserError, match="claims 9000 x 9000 x 9000"):
        read_nifti(path)


def test_a_table_that_unpacks_to_too_much(tmp_path):
    with zipfile.ZipFile(tmp_path / "labels.xlsx", "w", zipfile.ZIP_DEFLATED) as archive, \
            archive.open("xl/worksheets/sheet1.xml", "w") as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    assert (tmp_path / "labels.xlsx").stat().st_size < 1 << 20
    with pytest.raises(UserError, match="unpacks to more than 256 MB"):
        read_sheets(tmp_path / "labels.xlsx")


# -- text that is taken for something else -----------------------------------------------------------------------------

@pytest.mark.parametrize("text", [EVIL, "+1-2", "-cmd|'/c calc'!A0", "@SUM(1)", "\t=1", "'=1"])
def test_a_cell_is_no_formula_and_is_read_as_it_was(tmp_path, text):
    write_csv(tmp_path / "t.csv", [{"patient": text, "n": -1.5, "size": "-2.5"}])
    with (tmp_path / "t.csv").open(newline="") as file:
        [_, line] = csv.reader(file)
    assert line[0][0] == "'"
    assert line[1:] == ["-1.5", "-2.5"], "numbers stay numbers"
    assert text_of_cell(line[0]) == text
    assert cell("A-1 = 2") == "A-1 = 2"


def test_ids_that_look_like_formulas_keep_their_place_in_the_split(tmp_path):
    rows = {"ct": [Namespace(patient=p, scan=p, file="1.png", index=0) for p in (EVIL, "-3", "@b", "plain")]}
    splits.write(tmp_path, rows, {"ct": ["test", "val", "train", "train"]}, "patient")
    assert splits.read(tmp_path, rows, "patient") == {"ct": ["test", "val", "train", "train"]}
    assert f"'{EVIL}" in read_raw(tmp_path / "split.csv")


def read_raw(path):
    with path.open(newline="") as file:
        return {value for line in csv.reader(file) for value in line}


def test_predictions_of_files_with_such_names(tmp_path, duiit, trained, phantom):
    """From a folder's name to the table on disk, and back as a table of labels."""
    shutil.copytree(phantom / "ct", tmp_path / "in")
    one = next(p for p in sorted((tmp_path / "in").iterdir()) if p.is_dir())
    shutil.copytree(one, tmp_path / "in" / "=1+1")
    assert duiit("predict", "--checkpoints_dir", trained, "--name", "demo", "--input", tmp_path / "in", "--output",
                 tmp_path / "ages.csv") == 0
    assert not [v for v in read_raw(tmp_path / "ages.csv") if v.startswith("=")]
    assert any(v.startswith("=1+1") for row in read_sheets(tmp_path / "ages.csv")[""] for v in row)


MARKUP = "<img src=x onerror=alert(1)>\"'&"


def test_pages_show_markup_as_text(tmp_path):
    page = HTML(tmp_path, MARKUP)
    page.add_header(MARKUP)
    page.add_text(MARKUP)
    page.add_images([f"{MARKUP}.png"], [MARKUP], [f"{MARKUP}.png"])
    page.add_table([{MARKUP: MARKUP}])
    text = page.render()
    assert "<img src=x" not in text
    assert not re.findall(r"<img[^>]*onerror=alert", re.sub(r'"[^"]*"', '""', text))


def test_the_report_of_an_experiment_shows_markup_as_text():
    from duiit_cli.experiments.reporting import page

    made = page.page(MARKUP, MARKUP, [page.part(
        "data", MARKUP, page.heading(MARKUP), page.text(MARKUP), page.note(MARKUP), page.bullets([MARKUP]),
        page.card("good", MARKUP, MARKUP, [MARKUP]), page.grid([MARKUP], [[MARKUP]]), page.folded(MARKUP),
        page.options(MARKUP, {MARKUP: [MARKUP]}), page.listing([MARKUP]),
        page.examples([MARKUP, MARKUP], [(MARKUP, MARKUP, [None])]))])
    assert "<img src=x" not in made


def test_charts_show_markup_as_text():
    assert "<img" not in chart.panels([1.0, 2.0], {MARKUP: [1.0, 2.0]}, MARKUP)


def test_a_name_gives_no_orders_to_the_terminal(capsys, caplog):
    logs.setup_logging()
    try:
        logs.logging.getLogger("duiit.test").warning("patient %s", "\x1b]52;c;ZXZpbA==\x07\x9b31m\x00")
        told = capsys.readouterr().err
    finally:
        caplog.clear()
    assert told == "warning: patient \\x1b]52;c;ZXZpbA==\\x07\\x9b31m\\x00\n"


def test_a_runs_file_is_plain_json(tmp_path, refused, trained):
    """No value of it is ever evaluated; what is not JSON is refused."""
    shutil.copytree(trained, tmp_path / "runs")
    path = tmp_path / "runs" / "demo" / "train_opt.json"
    path.write_text(json.dumps({"options": "__import__('os').system('true')"}))
    assert "is damaged" in refused("predict", "--checkpoints_dir", tmp_path / "runs", "--name", "demo", "--input", "x")
