"""What `duiit data check` says of units, spacings and positions."""
import nibabel as nib
import numpy as np
import pydicom
from PIL import Image


def volume(path, values, spacing=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(values), np.diag([spacing, spacing, 1, 1])), path)


def test_cts_that_cannot_be_in_hounsfield_units(tmp_path, check):
    """An MRI, a CT without its intercept and one in wrong units among sound ones."""
    rng = np.random.default_rng(0)
    for n in range(3):
        volume(tmp_path / "ct" / f"good{n}.nii.gz", rng.integers(-1000, 1000, (20, 20, 2)).astype(np.int16))
    volume(tmp_path / "ct" / "mri.nii.gz", rng.integers(0, 900, (20, 20, 2)).astype(np.int16))
    volume(tmp_path / "ct" / "shifted.nii.gz", rng.integers(24, 2000, (20, 20, 2)).astype(np.int16))
    volume(tmp_path / "ct" / "units.nii.gz", rng.uniform(0, 2, (20, 20, 2)).astype(np.float32))
    (found,) = [p for p in check(tmp_path)[1] if "no air" in p.reason]
    assert "3 scans: mri, shifted, units" in found.reason


def test_mixed_scales_and_units(tmp_path, check, paint):
    rng = np.random.default_rng(0)
    for n, spacing in enumerate((1.0, 1.1, 2.0)):
        volume(tmp_path / "ct" / f"c{n}.nii.gz", rng.integers(-1000, 1000, (20, 20, 2)).astype(np.int16), spacing)
    paint(tmp_path / "ct" / "c3.png", rng.integers(0, 255, (20, 20)))
    reasons = {p.reason for p in check(tmp_path)[1]}
    assert "fields of view from 20 mm (c0) to 40 mm (c2)" in reasons
    assert "values in different units: HU (3 scans), display (1 scan)" in reasons


def scans(root, modality, shape, affine, count=3):
    for n in range(count):
        volume = np.random.default_rng(n).integers(-1000, 1000, (*shape, 2)).astype(np.int16)
        (root / modality).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(volume, np.diag([*affine, 5.0, 1.0])), root / modality / f"{modality}{n}.nii.gz")


def test_spacings_and_fields_that_differ_are_told_in_mm(tmp_path, check):
    scans(tmp_path, "ct", (20, 20), (1.0, 1.0))
    scans(tmp_path, "t1", (20, 30), (1.5, 1.5))                         # columns, rows
    scans(tmp_path, "t1", (20, 30), (2.0, 1.0), count=1)
    found = {p.reason for p in check(tmp_path)[1]}
    assert any("t1 has fields of view of 45 mm and pixels of 1.5 mm, ct of 20 mm and 1 mm, in the median: resized, "
               "anatomy of t1 is 2.25 times smaller" in reason for reason in found)
    assert "pixel spacings from 1 mm (t10) to 1.5 mm (t11), 1.50 times as much" in found
    assert "fields of view that are not square in 3 scans: t10, t11, t12" in found
    found = {p.reason for p in check(tmp_path, "--preprocess none")[1]}
    assert "pixels that are not square in 1 scan: t10" in found and not any("are not square in 3" in r for r in found)
    found = {p.reason for p in check(tmp_path, "--spacing 1 --load_size 48")[1]}
    assert not any("spacing" in reason or "field" in reason for reason in found)
    found = {p.reason for p in check(tmp_path, "--spacing 1 --load_size 40")[1]}
    assert "fields of view above 40 mm, which are cropped, in 2 scans: up to 45 mm (t11)" in found


def test_a_spacing_that_is_asked_for_and_not_known(root, check):
    assert any(p.level == "error" and "no pixel spacing is known of 5 scans" in p.reason
               for p in check(root, "--spacing 1")[1])


def test_what_reading_remarks_is_reported_and_not_lost(tmp_path, caplog, check):
    """Unsigned 16-bit values cannot be HU: the reader says so in a log line, the check among the problems."""
    for n in range(3):
        pixels = np.random.default_rng(n).integers(0, 60000, (20, 20)).astype(np.uint16)
        (tmp_path / "ct" / f"c{n}").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "ct" / f"c{n}" / "1.png")
    for _ in range(2):
        found = [p for p in check(tmp_path)[1] if "unsigned 16-bit" in p.reason]
        assert {p.where for p in found} == {str(tmp_path / "ct" / f"c{n}") for n in range(3)}
    assert "unsigned 16-bit" not in caplog.text


def stacked(folder, places, write_series):
    """A series of CT_small, one image at each of `places` (mm)."""
    write_series(folder, "A1", 0)
    template = pydicom.dcmread(folder / "0.dcm")
    for path in folder.iterdir():
        path.unlink()
    for n, z in enumerate(places):
        template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        template.ImagePositionPatient = [0, 0, z]
        template.PixelData = np.random.default_rng(n).integers(0, 2000, (128, 128), np.int16).tobytes()
        template.save_as(folder / f"{n}.dcm")


def test_slices_that_are_not_evenly_spaced_are_a_problem(tmp_path, check, write_series):
    stacked(tmp_path / "ct" / "p", (0, 4, 8, 16), write_series)
    [problem] = [p for p in check(tmp_path)[1] if "apart" in p.reason]
    assert problem.level == "warning" and problem.where == str(tmp_path / "ct" / "p")
    assert "up to 2.7 mm off" in problem.reason and "--format dicom" in problem.remedy


def test_many_scans_with_one_fault_are_one_line(tmp_path, check, write_series):
    for n in range(7):
        stacked(tmp_path / "ct" / f"p{n}", (0, 4, 8, 16 + n % 4), write_series)
        for path in (tmp_path / "ct" / f"p{n}").iterdir():
            ds = pydicom.dcmread(path)
            ds.SeriesInstanceUID, ds.PatientID = f"1.2.{n + 5}", f"A{n}"
            ds.save_as(path)
    [problem] = [p for p in check(tmp_path)[1] if "mm off" in p.reason]
    assert "the worst; 6 others alike" in problem.reason and "4.7 mm off" in problem.reason
    assert problem.where.endswith("p3")


def test_images_at_one_position_are_an_error_where_nothing_tells_them_apart(tmp_path, check, write_series):
    stacked(tmp_path / "ct" / "p", (0, 0, 1, 1), write_series)
    assert [p.level for p in check(tmp_path)[1] if "position of another" in p.reason] == ["error"]
