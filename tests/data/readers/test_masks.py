"""Segmentations beside the images, as the common data sets lay them out, are left out and counted."""
import logging

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from duiit.data.ct_dataset import CtDataset
from duiit.data.mri_dataset import MriDataset
from duiit.data.readers import find_scans
from duiit.data.readers.masks import few_whole_numbers

LAYOUTS = {
    "BraTS": (["BraTS_1/BraTS_1_flair.nii.gz", "BraTS_1/BraTS_1_t1.nii.gz"], ["BraTS_1/BraTS_1_seg.nii.gz"]),
    "BraTS 2023": (["B-GLI-1-000/B-GLI-1-000-t2f.nii.gz"], ["B-GLI-1-000/B-GLI-1-000-seg.nii.gz"]),
    "Decathlon": (["imagesTr/la_003.nii.gz", "imagesTs/la_005.nii.gz"], ["labelsTr/la_003.nii.gz"]),
    "nnU-Net": (["imagesTr/a_001_0000.nii.gz"], ["labelsTr/a_001.nii.gz", "labelsTs/a_002.nii.gz"]),
    "LiTS": (["volume-0.nii", "volume-12.nii"], ["segmentation-0.nii", "segmentation-12.nii"]),
    "KiTS": (["case_1/imaging.nii.gz"], ["case_1/segmentation.nii.gz"]),
    "ACDC": (["p1/p1_frame01.nii.gz"], ["p1/p1_frame01_gt.nii.gz"]),
    "BIDS": (["sub-1/anat/sub-1_T1w.nii.gz"], ["sub-1/anat/sub-1_dseg.nii.gz",
                                               "sub-1/anat/sub-1_desc-brain_mask.nii.gz"]),
    "FreeSurfer": (["s/mri/orig.mgz", "s/mri/brainmask.mgz"], ["s/mri/aseg.mgz", "s/mri/aparc+aseg.mgz",
                                                                "s/mri/wmparc.mgz", "s/mri/lh.ribbon.mgz"]),
    "TotalSegmentator": (["s1/ct.nii.gz"], ["s1/segmentations/liver.nii.gz", "s1/segmentations/aorta.nii.gz"]),
    "Slicer": (["a.nrrd"], ["a.seg.nrrd", "a-label.nrrd"]),
    "kaggle_3m": (["TCGA_1/TCGA_1_7.tif"], ["TCGA_1/TCGA_1_7_mask.tif"]),
    "ct-ich": (["049/brain/3.jpg", "ct_scans/049.nii"], ["049/brain/3_HGE_Seg.jpg", "masks/049.nii"]),
    "pictures": (["p/1.png", "p/segment 3.png", "p/labelled_2.png", "masking/1.png", "Seagull/1.png"],
                 ["p/1-mask.png", "p/1_label.png", "p/mask_001.png", "p/Mask/1.png", "p/labels/1.png"]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_segmentations_are_left_out_by_name_and_counted(tmp_path, caplog, layout):
    images, masks = LAYOUTS[layout]
    for name in [*images, *masks]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"not opened")
    with caplog.at_level(logging.INFO):
        found = {path.relative_to(tmp_path).as_posix() for scan in find_scans(tmp_path) for path in scan.files}
    assert found == set(images)
    assert f"left out {len(masks)} segmentation" in caplog.text
    wanted = {path.relative_to(tmp_path).as_posix() for scan in find_scans(tmp_path, masks=True) for path in scan.files}
    assert wanted == {*images, *masks}


def test_a_single_file_that_is_asked_for_is_read_whatever_its_name(tmp_path):
    Image.new("L", (9, 9)).save(tmp_path / "a_mask.png")
    assert len(find_scans(tmp_path / "a_mask.png")) == 1


def test_a_table_in_a_folder_called_labels_is_still_found(tmp_path, options):
    (tmp_path / "p1").mkdir()
    Image.fromarray(np.arange(81, dtype=np.uint8).reshape(9, 9)).save(tmp_path / "p1" / "1.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "labels.csv").write_text("patient,label\np1,63\n")
    assert MriDataset.find_scans(tmp_path, options())[0].label == 63


def test_few_whole_numbers():
    rng = np.random.default_rng(3)
    mask = rng.integers(0, 5, (7, 40, 40)).astype(np.float32)
    assert few_whole_numbers(mask) and few_whole_numbers(mask * 255)
    assert not few_whole_numbers(np.zeros((7, 40, 40)))
    assert not few_whole_numbers(mask / 8) and not few_whole_numbers(rng.integers(0, 99, (7, 40, 40)))
    mask[3, :3, :3] = np.arange(9).reshape(3, 3) + 10       # between the pixels that are looked at first
    assert not few_whole_numbers(mask)


def test_a_cohort_of_unnamed_segmentations_is_told_once_with_their_number(tmp_path, options, caplog):
    rng = np.random.default_rng(4)
    for n in range(4):
        values = rng.integers(0, 4, (20, 20, 3)) if n < 3 else rng.integers(-1000, 900, (20, 20, 3))
        (tmp_path / "data" / "ct").mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values.astype(np.int16), np.eye(4)), tmp_path / "data" / "ct" / f"{n}.nii")
    CtDataset(options(), tmp_path / "data" / "ct", 1)
    assert "3 of 4 scans hold only a handful of whole numbers" in caplog.text
    assert caplog.text.count("handful") == 1
