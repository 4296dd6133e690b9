"""The three modalities' loaders on miniatures of the data sets as distributed, and on real data where there is some."""
import os
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom.data import get_testdata_file

from duiit.data.ct_dataset import CtDataset
from duiit.data.image_folder import make_dataset
from duiit.data.modality_dataset import loader_of
from duiit.data.mri_dataset import MriDataset
from duiit.data.pet_dataset import PetDataset
from duiit.data.readers import has_signal, read_scan
from duiit.data.readers.slice import DISPLAY, GREY, HU
from duiit.util.errors import UserError

DEFAULTS = SimpleNamespace()


def found(cls, root, **options):
    return [(scan.patient, scan.label, len(scan.files)) for scan in cls.find_scans(root, SimpleNamespace(**options))]


def kaggle(root):
    for top in ("kaggle_3m", "lgg-mri-segmentation/kaggle_3m"):
        for n, patient in enumerate(("TCGA_CS_4941_19960909", "TCGA_HT_A61B_19991127")):
            folder = root / top / patient
            folder.mkdir(parents=True)
            for i in (1, 2, 10):
                pixels = np.random.default_rng(10 * n + i).integers(0, 255, (16, 16, 3), np.uint8)
                tifffile.imwrite(folder / f"{patient}_{i}.tif", pixels, photometric="rgb")
                tifffile.imwrite(folder / f"{patient}_{i}_mask.tif", pixels[..., 0])
    (root / "kaggle_3m" / "data.csv").write_text(
        "Patient,gender,age_at_initial_pathologic\nTCGA_CS_4941,1,67\nTCGA_HT_A61B,2,\n")
    (root / "lgg-mri-segmentation" / "kaggle_3m" / "data.csv").write_bytes(
        b"Patient;gender;age_at_initial_pathologic\r\nTCGA_CS_4941;1;67\r\nTCGA_HT_A61B;2;\r\n")


@pytest.mark.parametrize("inside", ["", "kaggle_3m", "lgg-mri-segmentation", "lgg-mri-segmentation/kaggle_3m"])
def test_lgg_mri_from_any_of_its_folders(tmp_path, inside):
    kaggle(tmp_path)
    assert found(MriDataset, tmp_path / inside) == [("TCGA_CS_4941", 67, 3), ("TCGA_HT_A61B", None, 3)]


def test_lgg_channels(tmp_path):
    kaggle(tmp_path)
    scan = MriDataset.find_scans(tmp_path, DEFAULTS)[0]
    assert [path.stem[-2:] for path in scan.files] == ["_1", "_2", "10"]
    s = read_scan(scan)[0]
    for n, name in enumerate(("pre", "flair", "post")):
        chosen = MriDataset.prepare(s, SimpleNamespace(mri_channel=name))
        np.testing.assert_array_equal(chosen.image, s.image[n])
    np.testing.assert_array_equal(MriDataset.prepare(s, DEFAULTS).image, s.image[1])
    assert MriDataset.prepare(s, SimpleNamespace(mri_channel="all")).image.shape == (3, 16, 16)
    with pytest.raises(UserError, match="mri_channel t2"):
        MriDataset.prepare(s, SimpleNamespace(mri_channel="t2"))


def test_ct_ich_volumes(tmp_path):
    for folder, value in (("ct_scans", 40), ("masks", 1)):
        (tmp_path / folder).mkdir()
        for n in ("049", "130"):
            nib.save(nib.Nifti1Image(np.full((8, 8, 3), value, np.int16), np.eye(4)), tmp_path / folder / f"{n}.nii")
    (tmp_path / "Patient_demographics.csv").write_bytes(
        b'\xef\xbb\xbf"Patient Number","Age\n(years)",Gender,Types,\r\n,,,Subdural,Epidural\r\n49,35,Male,1,\r\n'
        b'59,4,Male,1,\r\n130,0.0027,Male,,1\r\n,,,,\r\n')
    assert found(CtDataset, tmp_path) == [("049", 35, 1), ("130", 0.0027, 1)]
    s = read_scan(CtDataset.find_scans(tmp_path, DEFAULTS)[0])[0]
    assert s.unit == HU and (s.image == 40).all()


def test_ct_ich_early_release(tmp_path):
    for window, value in (("brain", 90), ("bone", 30)):
        folder = tmp_path / "Patients_CT" / "049" / window
        folder.mkdir(parents=True)
        for n in (1, 2, 10):
            Image.new("L", (16, 16), value).save(folder / f"{n}.jpg")
        Image.new("L", (16, 16), 255).save(folder / "2_HGE_Seg.jpg")
    (tmp_path / "patient_demographics.csv").write_bytes(b'"Patient Number","Age(years)"\r\n"49","35"\r\n')
    for window, value in (("brain", 90), ("bone", 30), ("40,120", 90)):
        [scan] = CtDataset.find_scans(tmp_path, SimpleNamespace(ct_window=window))
        slices = read_scan(scan)
        assert (scan.patient, scan.label) == ("049", 35)
        assert [s.path.name for s in slices] == ["1.jpg", "2.jpg", "10.jpg"]
        assert slices[0].unit == DISPLAY and slices[0].image[4, 4] == value


def dicom(path, modality, **tags):
    ds = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    ds.Modality, ds.SOPInstanceUID = modality, pydicom.uid.generate_uid()
    for name, value in tags.items():
        setattr(ds, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path)


def head_neck(root):
    for n, patient in enumerate(("HN-CHUM-001", "HN-HGJ-002")):
        for modality in ("CT", "PT", "RTSTRUCT"):
            for i in range(2):
                folder = root / patient / "08-27-1885-CA ORL FDG TEP" / f"1.0-{modality}"
                dicom(folder / f"00000{i}.dcm", modality, PatientID=patient, PatientAge="999Y",
                      SeriesInstanceUID=f"1.{n}.{ord(modality[0])}", ImagePositionPatient=[0, 0, -i])
    rows = [["Patient #", "Sex", "Age"], ["HN-CHUM-001", "F", 51], [None] * 3, ["* see the paper", None, None]]
    with pd.ExcelWriter(root / "INFOclinical_HN_Version2_30may2018.xlsx") as book:
        pd.DataFrame(rows).to_excel(book, sheet_name="CHUM", header=False, index=False)
        pd.DataFrame([rows[0], ["HN-HGJ-002", "M", 66]]).to_excel(book, sheet_name="HGJ", header=False, index=False)


def test_head_neck_pet_among_other_series(tmp_path, caplog):
    head_neck(tmp_path)
    assert found(PetDataset, tmp_path) == [("HN-CHUM-001", 51, 2), ("HN-HGJ-002", 66, 2)]
    assert found(CtDataset, tmp_path) == [("HN-CHUM-001", 51, 2), ("HN-HGJ-002", 66, 2)]
    slices = read_scan(PetDataset.find_scans(tmp_path, DEFAULTS)[0])
    assert [s.path.stem for s in slices] == ["000001", "000000"]
    assert slices[0].unit == GREY and "SUV" in caplog.text


def test_head_neck_ages_as_plain_csv(tmp_path):
    head_neck(tmp_path)
    (tmp_path / "INFOclinical_HN_Version2_30may2018.xlsx").unlink()
    (tmp_path / "ages.csv").write_text("Patient #,Age\nHN-CHUM-001,060Y\nHN-HGJ-002,999Y\n")
    assert found(PetDataset, tmp_path) == [("HN-CHUM-001", 60, 2), ("HN-HGJ-002", None, 2)]


def test_generic_folders(tmp_path):
    for patient in ("A", "B"):
        (tmp_path / patient).mkdir()
        for n in (1, 2):
            tifffile.imwrite(tmp_path / patient / f"{n}.tif", np.full((8, 8), -5, np.int16))
    (tmp_path / "labels.csv").write_text("patient,label\nA,1\nB,2\n")
    for cls, unit in ((MriDataset, GREY), (CtDataset, HU), (PetDataset, GREY)):
        assert found(cls, tmp_path) == [("A", 1, 2), ("B", 2, 2)]
        assert read_scan(cls.find_scans(tmp_path, DEFAULTS)[0])[0].unit == unit


@pytest.mark.parametrize("name, unit", [("ct", HU), ("CT", HU), ("Ct", HU), ("mri", GREY), ("MRI", GREY)])
def test_a_folder_means_the_same_in_large_and_small_letters(tmp_path, name, unit):
    loader = loader_of(name)
    assert loader.modality == name.lower()
    nib.save(nib.Nifti1Image(np.full((4, 5, 6), -900, np.int16), np.eye(4)), tmp_path / "a.nii")
    [scan] = loader.find_scans(tmp_path, DEFAULTS)
    assert loader.prepare(read_scan(scan)[0], DEFAULTS).unit == unit


def test_what_is_not_there_is_named(tmp_path):
    for cls, what in ((MriDataset, "MR"), (CtDataset, "CT"), (PetDataset, "PT")):
        with pytest.raises(UserError, match=f"no images.*{what}"):
            cls.find_scans(tmp_path, DEFAULTS)
        with pytest.raises(UserError, match="nowhere"):
            cls.find_scans(tmp_path / "nowhere", DEFAULTS)
    Image.new("L", (8, 8)).save(tmp_path / "1.png")
    with pytest.raises(UserError, match="patient_regex"):
        MriDataset.find_scans(tmp_path, SimpleNamespace(patient_regex="(sub-[0-9]+)"))


def test_the_toolkits_list_of_images_is_natural_and_cut_after_sorting(tmp_path):
    for n in (10, 1, 2):
        Image.new("L", (8, 8)).save(tmp_path / f"{n}.png")
    assert [Path(path).name for path in make_dataset(str(tmp_path), 2)] == ["1.png", "2.png"]
    with pytest.raises(UserError, match="nowhere"):
        make_dataset(str(tmp_path / "nowhere"))


@pytest.fixture
def real():
    folder = os.environ.get("DUIIT_REAL_DATA")
    if not folder:
        pytest.skip("DUIIT_REAL_DATA does not name a folder of real scans")
    return Path(folder)


def test_real_lgg_mri(real):
    scans = MriDataset.find_scans(real / "mri_lgg_kaggle_3m", DEFAULTS)
    assert len(scans) == 98 and {scan.patient: scan.label for scan in scans}["TCGA_CS_4941"] == 67
    slices = [MriDataset.prepare(s, DEFAULTS) for scan in scans for s in read_scan(scan)]
    assert {s.image.shape for s in slices} == {(256, 256)}
    assert [s.path.name for s in slices if not has_signal(s.image, s.unit)] == [
        "TCGA_CS_4942_19970222_1.tif", "TCGA_CS_4942_19970222_20.tif"]


def test_real_ct_series(real):
    [scan] = CtDataset.find_scans(real / "ct_head_ge_dicom", DEFAULTS)
    slices = read_scan(scan)
    assert len(slices) == 20 and {s.unit for s in slices} == {HU}
    assert min(s.image.min() for s in slices) == -1024 and max(s.image.max() for s in slices) == 2121
