"""The phantom: the same seed gives the same files, age is in the anatomy, and the layouts are what others can read."""
import hashlib
import json
from pathlib import Path

import nibabel
import numpy as np
import openpyxl
import pandas
import pydicom
import pytest
import tifffile

from duiit.data.phantom import PhantomSpec, write_phantom
from duiit.data.phantom.anatomy import FIELD_OF_VIEW, TISSUES, slice_levels, tissue_maps
from duiit.data.phantom.cohort import AGE_LIMITS, draw_cohort
from duiit.data.phantom.rendering import CT_HU, render_ct
from duiit.util.errors import UserError

TINY = PhantomSpec(size=24, slices=3, ct_patients=3, mri_patients=3, pet_patients=5)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("phantom") / "new" / "data"
    write_phantom(output, TINY)
    return output


def digests(folder: Path) -> dict[str, str]:
    return {f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest()
            for f in sorted(folder.rglob("*")) if f.is_file()}


def csf_area(person, size: int = 64) -> float:
    """mm2 of fluid in the middle slice."""
    return float(tissue_maps(person.head, size, 3)["csf"][1].sum()) * (FIELD_OF_VIEW / size) ** 2


# ---- determinism ----

def test_same_seed_same_bytes(phantom, tmp_path):
    write_phantom(tmp_path / "again", TINY)
    assert digests(tmp_path / "again") == digests(phantom)


def test_another_seed_another_phantom(phantom, tmp_path):
    write_phantom(tmp_path / "other", PhantomSpec(**{**vars(TINY), "seed": 1}))
    old, new = digests(phantom), digests(tmp_path / "other")
    assert all(old[f] != new[f] for f in old if f.endswith((".nii", ".dcm")))


def test_more_patients_leave_the_first_ones_alone():
    few, many = draw_cohort("mri", 3, (55, 16), 7), draw_cohort("mri", 9, (55, 16), 7)
    assert many[:3] == few


# ---- anatomy ----

@pytest.mark.parametrize("size", [20, 64, 150])
def test_tissues_fill_every_pixel(size):
    person = draw_cohort("ct", 1, (40, 10), 0)[0]
    maps = tissue_maps(person.head, size, 2)
    assert set(maps) == set(TISSUES)
    assert all(m.shape == (2, size, size) and m.min() >= -1e-6 for m in maps.values())
    np.testing.assert_allclose(sum(maps.values()), 1, atol=1e-4)


def test_fluid_grows_with_age():
    people = draw_cohort("ct", 60, (45, 40), 3)
    old = sorted(people, key=lambda p: p.age)
    area = [np.mean([csf_area(p) for p in old[k:k + 15]]) for k in range(0, 60, 15)]
    assert area == sorted(area)
    assert area[-1] > 2 * area[0]


def test_age_cannot_be_read_exactly():
    """People of one age differ by about the scatter that was promised: 5 to 7 years."""
    people = draw_cohort("ct", 400, (50, 0), 0)
    seen = np.array([(p.head.ventricle_age + p.head.sulcus_age) / 2 for p in people])
    assert abs(seen.mean() - 50) < 1
    assert 5 < seen.std() < 6.3


def test_drawing_slices_one_by_one_changes_nothing(monkeypatch):
    head = draw_cohort("ct", 1, (60, 0), 0)[0].head
    together = tissue_maps(head, 32, 4)
    monkeypatch.setattr("duiit.data.phantom.anatomy.PIXELS_AT_ONCE", 1)
    one_by_one = tissue_maps(head, 32, 4)
    assert all((together[tissue] == one_by_one[tissue]).all() for tissue in TISSUES)


def test_size_of_the_image_does_not_change_the_head():
    person = draw_cohort("ct", 1, (60, 0), 0)[0]
    assert csf_area(person, 48) == pytest.approx(csf_area(person, 192), rel=0.03)


def test_ct_shows_the_textbook_values():
    person = draw_cohort("ct", 1, (75, 0), 0)[0]
    maps = tissue_maps(person.head, 128, 3)
    image = render_ct(maps, person.scanner, person.rng(0), noise=0)
    for tissue, tolerance in (("air", 5), ("csf", 12), ("white", 6)):
        pure = maps[tissue] > 0.999
        assert abs(np.median(image[pure]) - CT_HU[tissue]) < tolerance
    assert image.max() > 800


@pytest.mark.parametrize("cohort", AGE_LIMITS)
def test_ages_stay_in_range_and_follow_the_law(cohort):
    low, high = AGE_LIMITS[cohort]
    ages = np.array([p.age for p in draw_cohort(cohort, 100, (50, 10), 0)])
    assert low <= ages.min() and ages.max() <= high
    assert abs(ages.mean() - 50) < 1.5 and abs(ages.std() - 10) < 1.5
    assert [p.age for p in draw_cohort(cohort, 2, (0, 1), 0)] == pytest.approx([low] * 2, abs=3)


# ---- layouts, read by libraries that know nothing of the phantom ----

def test_mri_layout(phantom):
    table = pandas.read_csv(phantom / "mri/kaggle_3m/data.csv")
    people = records(phantom, "mri")
    assert list(table.Patient) == list(people)
    assert table.age_at_initial_pathologic.isna().tolist() == [False, False, True]
    assert table.age_at_initial_pathologic[0] == int(people[table.Patient[0]]["age"])
    folder = phantom / "mri/kaggle_3m" / f"{table.Patient[0]}_20000101"
    names = {f.name for f in folder.glob("*.tif") if "mask" not in f.name}
    assert names == {f"{folder.name}_{n}.tif" for n in (1, 2, 3)}
    with tifffile.TiffFile(folder / f"{folder.name}_1.tif") as file:
        page = file.pages[0]
        assert (page.shape, page.dtype, page.compression) == ((24, 24, 3), np.uint8, 1)
        assert page.asarray().max() > 100
    assert tifffile.imread(folder / f"{folder.name}_1_mask.tif").shape == (24, 24)


def test_ct_layout(phantom):
    table = pandas.read_csv(phantom / "ct/Patient_demographics.csv")
    assert list(table.columns[:3]) == ["Patient Number", "Age\n(years)", "Gender"]
    people = records(phantom, "ct")
    ages = dict(zip(table["Patient Number"][1:4].astype(int), table["Age\n(years)"][1:4].astype(float), strict=True))
    assert ages == {int(name): person["age"] for name, person in people.items()}
    assert table["Patient Number"][4:].isna().all() and len(table) == 7  # blank rows at the end
    scan = nibabel.load(phantom / "ct/ct_scans/049.nii")
    assert scan.shape == (24, 24, 3) and scan.get_data_dtype() == np.int16
    assert nibabel.aff2axcodes(scan.affine) == ("L", "A", "S")
    assert scan.header.get_zooms() == pytest.approx((230 / 24, 230 / 24, 10))
    assert scan.dataobj[0, 0, 0] == pytest.approx(-1000, abs=30)


def test_ct_volume_shows_the_head_the_right_way_round(tmp_path):
    """Row order, column order and slice order on disk agree with the affine."""
    spec = PhantomSpec(size=32, slices=2, ct_patients=1, mri_patients=0, pet_patients=0, noise=0)
    write_phantom(tmp_path / "p", spec)
    scan = nibabel.load(tmp_path / "p/ct/ct_scans/049.nii")
    person = draw_cohort("ct", 1, PhantomSpec().ct_age, 0)[0]
    maps = tissue_maps(person.head, 32, 2)
    expected = np.rint(render_ct(maps, person.scanner, person.rng(1), 0))           # (S, posterior, left)
    canonical = nibabel.as_closest_canonical(scan).get_fdata()                      # (right, anterior, superior)
    np.testing.assert_array_equal(canonical[::-1, ::-1].transpose(2, 1, 0), expected)
    assert nibabel.affines.apply_affine(scan.affine, (0, 0, 0))[2] == pytest.approx(slice_levels(person.head, 2)[0])


def test_pet_layout_gives_suv(phantom):
    folder = next((phantom / "pet/HN-PHANTOM-001").glob("*/*"))
    assert " " in folder.parent.name
    files = sorted(folder.glob("*.dcm"))
    assert [f.name for f in files] == ["000000.dcm", "000001.dcm", "000002.dcm"]
    slices = [pydicom.dcmread(f) for f in files]
    assert len({s.SOPInstanceUID for s in slices}) == 3 and len({s.SeriesInstanceUID for s in slices}) == 1
    heights = [s.ImagePositionPatient[2] for s in slices]
    assert heights == sorted(heights, reverse=True)
    first = slices[1]
    assert (first.Modality, first.Units, first.DecayCorrection, first.PatientAge) == ("PT", "BQML", "START", "999Y")
    dose = first.RadiopharmaceuticalInformationSequence[0]
    clock = [int(t[:2]) * 3600 + int(t[2:4]) * 60 + int(t[4:6])
             for t in (first.SeriesTime, dose.RadiopharmaceuticalStartTime)]
    left = dose.RadionuclideTotalDose * 2 ** (-(clock[0] - clock[1]) / dose.RadionuclideHalfLife)
    suv = pydicom.pixels.apply_rescale(first.pixel_array, first) * first.PatientWeight * 1000 / left
    assert 3 < suv.max() < 15 and np.median(suv[:3]) < 0.5


def test_pet_ages_stand_in_the_clinical_workbook(phantom):
    book = openpyxl.load_workbook(phantom / "pet/INFOclinical_HN_Version2_30may2018.xlsx")
    assert book.sheetnames == ["HGJ", "CHUS", "HMR", "CHUM", "Excluded"]
    ages = {}
    for name in book.sheetnames[:-1]:
        header, *rows = book[name].iter_rows(values_only=True)
        assert header[:3] == ("Patient #", "Sex", "Age")
        ages |= {row[0]: row[2] for row in rows if row[0] and str(row[0]).startswith("HN-")}
    assert ages == {name: int(person["age"]) for name, person in records(phantom, "pet").items()}


def test_truth_mirrors_its_sources(phantom):
    for cohort, ending in (("mri", ".tif"), ("pet", ".dcm")):
        sources = {f.relative_to(phantom / cohort).with_suffix(".tif").as_posix()
                   for f in (phantom / cohort).rglob(f"*{ending}") if "_mask" not in f.name}
        truth = phantom / "truth" / cohort
        assert {f.relative_to(truth).as_posix() for f in truth.rglob("*.tif")} == sources
        labels = pandas.read_csv(truth / "labels.csv", dtype={"patient": str})
        assert list(labels.columns) == ["file", "patient", "label"]
        assert set(labels.file) == sources
        people = records(phantom, cohort)
        assert all(row.label == int(people[row.patient]["age"]) for row in labels.itertuples())
        image = tifffile.imread(truth / labels.file[0])
        assert image.dtype == np.int16 and image.min() < -900 and image.max() > 400


def test_truth_shows_the_same_slice(phantom):
    """Where the MRI's signal says head, its true CT does too."""
    file = "kaggle_3m/PHANTOM_HD_0001_20000101/PHANTOM_HD_0001_20000101_2.tif"
    head = tifffile.imread(phantom / "mri" / file)[..., 0] > 60
    assert tifffile.imread(phantom / "truth/mri" / file)[head].mean() > -200


def records(phantom: Path, cohort: str) -> dict[str, dict]:
    manifest = json.loads((phantom / "phantom.json").read_text())
    return {p["id"]: p for p in manifest["patients"] if p["cohort"] == cohort}


# ---- the folder: whole or not at all ----

def test_a_full_folder_is_refused_and_untouched(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    for force in (False, True):
        with pytest.raises(UserError, match="is not empty|is not a phantom"):
            write_phantom(tmp_path, TINY, force=force)
    assert [f.name for f in tmp_path.iterdir()] == ["mine.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        write_phantom(tmp_path / "file" / "p", TINY)
    with pytest.raises(UserError, match="is a file"):
        write_phantom(tmp_path / "file", TINY)


def test_force_replaces_an_old_phantom(tmp_path):
    small = PhantomSpec(size=16, slices=1, ct_patients=1, mri_patients=0, pet_patients=0)
    write_phantom(tmp_path / "p", small)
    write_phantom(tmp_path / "p", PhantomSpec(**{**vars(small), "ct_patients": 2}), force=True)
    assert len(list((tmp_path / "p/ct/ct_scans").iterdir())) == 2
    assert [f.name for f in tmp_path.iterdir()] == ["p"]


def test_an_interrupted_run_leaves_nothing(tmp_path):
    def broken(people, total, description):
        yield people[0]
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path / "p", TINY, progress=broken)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_progress_is_told(tmp_path):
    told = []
    (tmp_path / "p").mkdir()
    spec = PhantomSpec(size=16, slices=2, ct_patients=2, mri_patients=1, pet_patients=0)
    summary = write_phantom(tmp_path / "p", spec,
                            lambda each, total, text: told.append((total, text)) or each)
    assert told == [(2, "ct patients"), (1, "mri patients")]
    assert summary.patients == {"ct": 2, "mri": 1} and summary.images == {"ct": 4, "mri": 2}
    assert {f.name for f in (tmp_path / "p").iterdir()} == {"ct", "mri", "truth", "phantom.json"}


@pytest.mark.parametrize("wrong", [
    {"size": 15}, {"size": 4096}, {"slices": 0}, {"ct_patients": -1}, {"mri_patients": 10000}, {"seed": -1},
    {"noise": -0.1}, {"noise": float("nan")}, {"pet_age": (60,)}, {"ct_age": (-3, 10)}, {"mri_age": (50, float("nan"))},
])
def test_impossible_wishes_name_the_option(wrong):
    with pytest.raises(UserError, match=f"--{next(iter(wrong))} "):
        PhantomSpec(**wrong)


def test_nobody_at_all_is_refused():
    with pytest.raises(UserError, match="at least one patient"):
        PhantomSpec(ct_patients=0, mri_patients=0, pet_patients=0)
