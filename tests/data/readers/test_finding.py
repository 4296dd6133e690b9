"""What find_scans makes of folders as people have them: which files, which scans, whose, in which order."""
import logging
import os

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from duiit.data.readers import find_scans, stem_patient
from duiit.data.readers.walk import list_files
from duiit.util.errors import UserError


def image(path, value=7, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side), value, np.uint8)).save(path)
    return path


def volume(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), path)
    return path


def names(scans):
    return [(scan.name, scan.patient, len(scan.files)) for scan in scans]


def test_images_are_one_scan_per_folder_in_natural_order(tmp_path):
    for n in (10, 2, 1):
        image(tmp_path / "p10" / "t1" / f"{n}.png")
        image(tmp_path / "p2" / "t1" / f"{n}.png")
    scans = find_scans(tmp_path)
    assert names(scans) == [("p2/t1", "p2", 3), ("p10/t1", "p10", 3)]
    assert [path.name for path in scans[0].files] == ["1.png", "2.png", "10.png"]


def test_images_directly_in_the_folder_are_told_apart_by_their_names(tmp_path):
    for name in ("patA_003", "patA_004", "patB-1", "alone"):
        image(tmp_path / f"{name}.png")
    assert names(find_scans(tmp_path)) == [("alone", "alone", 1), ("patA", "patA", 2), ("patB", "patB", 1)]


@pytest.mark.parametrize("name, patient", [
    ("patA_003", "patA"), ("12", "12"), ("a b 7", "a b"), ("TCGA_CS_4941_1", "TCGA_CS_4941"), ("patA_slice12", "patA"),
    ("photo", "photo")])
def test_patient_from_a_stem(tmp_path, name, patient):
    assert stem_patient(tmp_path / f"{name}.png") == patient


def test_volumes_belong_to_the_top_folder_or_to_themselves(tmp_path):
    volume(tmp_path / "sub-01" / "anat" / "t1.nii.gz")
    volume(tmp_path / "sub-02.nii")
    np.save(tmp_path / "cube.npy", np.zeros((3, 4, 5)))
    assert names(find_scans(tmp_path)) == [
        ("cube", "cube", 1), ("sub-01/anat/t1", "sub-01", 1), ("sub-02", "sub-02", 1)]


def test_flat_arrays_are_images(tmp_path):
    (tmp_path / "p").mkdir()
    for n in (1, 2):
        np.save(tmp_path / "p" / f"{n}.npy", np.zeros((4, 5), np.float32))
    [scan] = find_scans(tmp_path)
    assert (scan.name, scan.kind, len(scan.files)) == ("p", "numpy", 2)


def test_patient_regex_names_the_patient_and_splits_folders(tmp_path):
    for name in ("x_A_1", "x_A_2", "x_B_1"):
        image(tmp_path / "all" / f"{name}.png")
    assert names(find_scans(tmp_path, patient_regex=r"x_([AB])_")) == [("all/A", "A", 2), ("all/B", "B", 1)]
    for broken in ("(", "no group"):
        with pytest.raises(UserError, match="patient_regex"):
            find_scans(tmp_path, patient_regex=broken)


def test_masks_hidden_files_tables_and_excluded_folders_are_passed_over(tmp_path):
    image(tmp_path / "p" / "1.png")
    for name in ("p/1_mask.png", "p/1_HGE_Seg.jpg", "p/masks/1.png", "p/.hidden.png", ".git/1.png", "derived/1.png"):
        image(tmp_path / name)
    volume(tmp_path / "q" / "scan.nii.gz")
    volume(tmp_path / "q" / "scan_mask.nii.gz")
    (tmp_path / "labels.csv").write_text("patient,label\n")
    assert names(find_scans(tmp_path, exclude=("derived",))) == [("p", "p", 1), ("q/scan", "q", 1)]


def test_a_second_copy_of_the_tree_is_dropped_with_a_notice(tmp_path, caplog):
    for top in ("kaggle_3m", "lgg-mri-segmentation/kaggle_3m"):
        for n in (1, 2):
            image(tmp_path / top / "A_1" / f"A_1_{n}.png", value=n)
    with caplog.at_level(logging.WARNING):
        assert names(find_scans(tmp_path)) == [("kaggle_3m/A_1", "kaggle_3m", 2)]
    assert "2 files lie there a second time" in caplog.text


def test_alike_names_and_sizes_with_other_bytes_are_no_copies(tmp_path):
    image(tmp_path / "brain" / "1.png", value=1)
    image(tmp_path / "p2" / "brain" / "1.png", value=2)
    assert len(find_scans(tmp_path)) == 2


def test_names_are_unique_in_a_cohort(tmp_path):
    image(tmp_path / "a_1.png")
    volume(tmp_path / "a.nii")
    image(tmp_path / "a" / "1.png")
    scans = find_scans(tmp_path)
    assert len({scan.name for scan in scans}) == len(scans) == 3


def test_link_loops_end(tmp_path):
    image(tmp_path / "data" / "p" / "1.png")
    (tmp_path / "data" / "p" / "up").symlink_to(tmp_path)            # to a folder that holds the cohort
    (tmp_path / "data" / "p" / "again").symlink_to(tmp_path / "data" / "p")
    (tmp_path / "data" / "self").symlink_to(tmp_path / "data" / "self")
    assert names(find_scans(tmp_path / "data")) == [("p", "p", 1)]


def test_linked_folders_are_followed(tmp_path):
    image(tmp_path / "store" / "1.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "p").symlink_to(tmp_path / "store")
    assert names(find_scans(tmp_path / "data")) == [("p", "p", 1)]


def test_a_path_that_is_missing_or_no_image_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        find_scans(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match="notes.txt"):
        find_scans(tmp_path / "notes.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_folder_that_may_not_be_listed_is_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(UserError, match="closed"):
        list_files(tmp_path)


# DICOM


def test_slices_are_ordered_by_position_not_by_name(tmp_path, write_slice):
    for name, z in (("a", 3), ("b", 1), ("c", 2)):
        write_slice(tmp_path / "p" / f"{name}.dcm", z=z, InstanceNumber=9)
    [scan] = find_scans(tmp_path)
    assert [path.stem for path in scan.files] == ["b", "c", "a"]


def test_slices_run_from_foot_to_head_even_when_rows_run_upward(tmp_path, write_slice):
    for name, z in (("a", 3), ("b", 1), ("c", 2)):
        write_slice(tmp_path / f"{name}.dcm", z=z, orientation=(1, 0, 0, 0, -1, 0))
    assert [path.stem for path in find_scans(tmp_path)[0].files] == ["b", "c", "a"]


def test_without_positions_the_instance_number_orders(tmp_path, write_slice):
    for name, number in (("a", 3), ("b", 1), ("c", 2)):
        write_slice(tmp_path / f"{name}.dcm", InstanceNumber=number, ImagePositionPatient=None)
    assert [path.stem for path in find_scans(tmp_path)[0].files] == ["b", "c", "a"]


def test_dicom_is_known_by_content_and_grouped_by_series(tmp_path, write_slice):
    write_slice(tmp_path / "p" / "IM1", series="1.1", SeriesNumber=2)
    write_slice(tmp_path / "p" / "IM2", series="1.1", SeriesNumber=2, z=1)
    write_slice(tmp_path / "p" / "IM3", series="1.2", SeriesNumber=10)
    (tmp_path / "p" / "README").write_text("not DICOM at all")
    assert names(find_scans(tmp_path)) == [("p/series_2", "P1", 2), ("p/series_10", "P1", 1)]


def test_modality_is_chosen_and_objects_without_image_left_out(tmp_path, write_slice, caplog):
    write_slice(tmp_path / "p" / "ct.dcm", series="1.1")
    write_slice(tmp_path / "p" / "pt.dcm", series="1.2", Modality="PT")
    write_slice(tmp_path / "p" / "dose.dcm", series="1.3", Modality="RTDOSE")
    write_slice(tmp_path / "p" / "scout.dcm", series="1.4", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with caplog.at_level(logging.INFO):
        assert [scan.files[0].name for scan in find_scans(tmp_path, modalities=("PT",))] == ["pt.dcm"]
    assert "(2 CT)" in caplog.text
    assert len(find_scans(tmp_path)) == 2


def test_anonymous_or_shared_patient_ids_give_way_to_the_top_folder(tmp_path, write_slice):
    for top in ("A", "B"):
        write_slice(tmp_path / "shared" / top / "1.dcm", series=f"1.{ord(top)}", PatientID="TRIAL-7")
        write_slice(tmp_path / "anon" / top / "1.dcm", series=f"2.{ord(top)}", PatientID="ANONYMOUS")
    assert [scan.patient for scan in find_scans(tmp_path / "shared")] == ["A", "B"]
    assert [scan.patient for scan in find_scans(tmp_path / "anon")] == ["A", "B"]


def test_the_same_image_twice_counts_once(tmp_path, write_slice):
    first = write_slice(tmp_path / "p" / "1.dcm")
    (tmp_path / "p" / "copy.dcm").write_bytes(first.read_bytes())
    assert len(find_scans(tmp_path)[0].files) == 1


def test_time_points_of_one_series_are_scans_of_their_own(tmp_path, write_slice):
    for time in (1, 2):
        for z in (0, 1, 2):
            write_slice(tmp_path / "p" / f"{time}_{z}.dcm", z=z, TemporalPositionIdentifier=time)
    assert [[path.name for path in scan.files] for scan in find_scans(tmp_path)] == [
        ["1_0.dcm", "1_1.dcm", "1_2.dcm"], ["2_0.dcm", "2_1.dcm", "2_2.dcm"]]


def test_a_damaged_file_is_a_scan_of_its_own(tmp_path, write_slice):
    write_slice(tmp_path / "p" / "1.dcm")
    (tmp_path / "p" / "2.dcm").write_bytes(b"")
    assert [scan.name for scan in find_scans(tmp_path)] == ["p", "p/2"]
