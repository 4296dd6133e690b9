"""Puts the phantom's images into folders and tables laid out as the owners of the real data sets distribute them,
with their quirks (a line break inside a header, footers under a table, a missing age), and the true CT of every
MRI and PET slice under `truth/`, at the same relative path as the image it belongs to."""
import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Protocol

import nibabel
import numpy as np
import openpyxl
import tifffile
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

from duiit.data.phantom.anatomy import FIELD_OF_VIEW, slice_levels, slice_spacing, tissue_maps
from duiit.data.phantom.cohort import NOISE, TRUTH_NOISE, Person
from duiit.data.phantom.rendering import render_ct, render_mri, render_pet

SCAN_DATE = "20000101"
UID_ROOT = "2.25."                 # UIDs made of hashes need no registered root
MASKED_PATIENTS = 2                # that many MRI patients come with (empty) lesion masks
HALF_LIFE = 6588.0                 # s, fluorine-18
SCAN_SECOND = 12 * 3600            # the PET scans start at noon
HOSPITALS = ("HGJ", "CHUS", "HMR", "CHUM")

LGG_COLUMNS = ("Patient", "RNASeqCluster", "MethylationCluster", "miRNACluster", "CNCluster", "RPPACluster",
               "OncosignCluster", "COCCluster", "histological_type", "neoplasm_histologic_grade", "tumor_tissue_site",
               "laterality", "tumor_location", "gender", "age_at_initial_pathologic", "race", "ethnicity", "death01")
CT_HEADER = (("Patient Number", "Age\n(years)", "Gender", "Hemorrhage type based on the radiologists diagnosis", "", "",
              "", "", "Fracture (yes 1/no 0)", "Note"),
             ("", "", "", "Intraventricular", "Intraparenchymal", "Subarachnoid", "Epidural", "Subdural", "", ""))
PET_COLUMNS = ("Patient #", "Sex", "Age", "Primary Site", "T-stage", "N-stage", "M-stage", "TNM group stage")
PET_FOOTER = ("Phantom: every head is computed, no patient is behind a row", "Age: whole years", "Primary Site: none",
              "T-stage, N-stage, M-stage: not drawn", "M: male; F: female")

EachPerson = Callable[[list[Person]], Iterable[Person]]


class ImageSpec(Protocol):
    """What of a PhantomSpec the images depend on."""
    @property
    def size(self) -> int: ...
    @property
    def slices(self) -> int: ...
    @property
    def noise(self) -> float: ...


def write_mri(root: Path, spec: ImageSpec, people: list[Person], each: EachPerson) -> None:
    """`mri/kaggle_3m/<patient>_<date>/<patient>_<date>_<n>.tif`, as the LGG segmentation set."""
    truth_rows = []
    for number, person in enumerate(each(people)):
        tissues = tissue_maps(person.head, spec.size, spec.slices)
        images = render_mri(tissues, person.scanner, person.rng(NOISE), spec.noise)
        truth = _true_ct(tissues, person, spec)
        name = f"{person.id}_{SCAN_DATE}"
        files = [f"kaggle_3m/{name}/{name}_{k}.tif" for k in range(1, spec.slices + 1)]
        for file, image, true in zip(files, images, truth, strict=True):
            _write_tiff(root / "mri" / file, image)
            _write_tiff(root / "truth" / "mri" / file, true)
            if number < MASKED_PATIENTS:
                _write_tiff(root / "mri" / f"{file.removesuffix('.tif')}_mask.tif", np.zeros_like(image[..., 0]))
        truth_rows += [(file, person.id, int(person.age)) for file in files]
    _write_lgg_table(root / "mri" / "kaggle_3m" / "data.csv", people)
    _write_labels(root / "truth" / "mri" / "labels.csv", truth_rows)


def write_ct(root: Path, spec: ImageSpec, people: list[Person], each: EachPerson) -> None:
    """`ct/ct_scans/<nnn>.nii` in HU, as ct-ich."""
    folder = root / "ct" / "ct_scans"
    folder.mkdir(parents=True)
    for person in each(people):
        tissues = tissue_maps(person.head, spec.size, spec.slices)
        image = np.rint(render_ct(tissues, person.scanner, person.rng(NOISE), spec.noise)).astype(np.int16)
        _write_nifti(folder / f"{person.id}.nii", image, slice_levels(person.head, spec.slices)[0])
    rows = [[int(p.id), p.age, {"M": "Male", "F": "Female"}[p.sex], *[""] * 7] for p in people]
    _write_csv(root / "ct" / "Patient_demographics.csv", [*CT_HEADER, *rows, *[[""] * 10] * 3], "\r\n")


def write_pet(root: Path, spec: ImageSpec, people: list[Person], each: EachPerson) -> None:
    """`pet/<patient>/<study>/<series>/<nnnnnn>.dcm`, as Head-Neck-PET-CT: files from head to foot."""
    truth_rows = []
    for person in each(people):
        tissues = tissue_maps(person.head, spec.size, spec.slices)
        images = render_pet(tissues, person.scanner, person.rng(NOISE), spec.noise)[::-1]
        truth = _true_ct(tissues, person, spec)[::-1]
        levels = slice_levels(person.head, spec.slices)[::-1]
        series = f"{person.id}/01-01-2000-PET CT head phantom-{person.id[-3:]}/2-TEP head AC-{person.id[-3:]}"
        (root / "pet" / series).mkdir(parents=True)
        header = _pet_header(person, spec)
        for k in range(spec.slices):
            _write_pet_slice(root / "pet" / series / f"{k:06d}.dcm", header, images[k], levels[k], k)
            file = f"{series}/{k:06d}.tif"
            _write_tiff(root / "truth" / "pet" / file, truth[k])
            truth_rows.append((file, person.id, int(person.age)))
    _write_clinical_workbook(root / "pet" / "INFOclinical_HN_Version2_30may2018.xlsx", people)
    _write_labels(root / "truth" / "pet" / "labels.csv", truth_rows)


def _true_ct(tissues: dict[str, np.ndarray], person: Person, spec: ImageSpec) -> np.ndarray:
    """What the CT scanner would have seen of the same slices: (S, n, n) int16 HU, with a CT's noise."""
    return np.rint(render_ct(tissues, person.scanner, person.rng(TRUTH_NOISE), spec.noise)).astype(np.int16)


# ---- images ----

def _write_tiff(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "rgb" if image.ndim == 3 else "minisblack"
    tifffile.imwrite(path, image, photometric=kind, metadata=None, software=False)


def _write_nifti(path: Path, image: np.ndarray, lowest: float) -> None:
    """image: (S, rows to posterior, columns to left). Stored as converters from DICOM do: left, anterior, superior."""
    stored = image[:, ::-1].transpose(2, 1, 0)
    pixel, edge = FIELD_OF_VIEW / image.shape[-1], FIELD_OF_VIEW / 2
    affine = np.diag([-pixel, pixel, slice_spacing(len(image)), 1.0])
    affine[:3, 3] = edge - pixel / 2, pixel / 2 - edge, lowest
    volume = nibabel.Nifti1Image(stored, affine)
    volume.header.set_xyzt_units("mm", "sec")
    nibabel.save(volume, path)


def _pet_header(person: Person, spec: ImageSpec) -> Dataset:
    """All that the slices of one PET series have in common."""
    uid = partial(_uid, person)
    pixel, spacing = FIELD_OF_VIEW / spec.size, slice_spacing(spec.slices)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = PositronEmissionTomographyImageStorage
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = SCAN_DATE
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = _clock(SCAN_SECOND)
    ds.AccessionNumber = ds.ReferringPhysicianName = ds.StudyID = ds.PatientBirthDate = ""
    ds.Modality, ds.Manufacturer, ds.SeriesDescription = "PT", "Phantom", "TEP head AC"
    ds.PatientName = ds.PatientID = person.id
    ds.PatientSex, ds.PatientAge, ds.PatientWeight = person.sex, "999Y", person.scanner.weight_kg
    ds.PatientIdentityRemoved, ds.DeidentificationMethod = "YES", "Computed phantom: no patient"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("study"), uid("series")
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = uid("frame"), ""
    ds.SeriesNumber, ds.PatientPosition = 2, "HFS"
    ds.ImageOrientationPatient, ds.PixelSpacing = [1, 0, 0, 0, 1, 0], [_short(pixel)] * 2
    ds.SliceThickness = _short(spacing)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 1
    ds.Rows = ds.Columns = spec.size
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    _add_pet_acquisition(ds, person, spec.slices)
    return ds


def _add_pet_acquisition(ds: Dataset, person: Person, slices: int) -> None:
    """What it takes to turn Bq/ml into SUV, and the rest of the PET modules."""
    ds.Units, ds.CountsSource, ds.SeriesType, ds.NumberOfSlices = "BQML", "EMISSION", ["STATIC", "IMAGE"], slices
    ds.CorrectedImage = ["NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN"]
    ds.DecayCorrection, ds.DecayFactor, ds.CollimatorType = "START", 1, "NONE"
    ds.AttenuationCorrectionMethod, ds.RandomsCorrectionMethod = "measured", "DLYD"
    ds.FrameReferenceTime, ds.ActualFrameDuration = 0, 180000
    tracer = Dataset()
    tracer.Radiopharmaceutical = "FDG -- fluorodeoxyglucose"
    tracer.RadiopharmaceuticalStartTime = _clock(SCAN_SECOND - person.scanner.uptake_s)
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = person.scanner.dose_bq, HALF_LIFE
    tracer.RadionuclidePositronFraction = 0.97
    tracer.RadionuclideCodeSequence = [_code("C-111A1", "SRT", "^18^Fluorine")]
    tracer.RadiopharmaceuticalCodeSequence = [_code("C-B1031", "SRT", "Fluorodeoxyglucose F^18^")]
    ds.RadiopharmaceuticalInformationSequence = [tracer]


def _write_pet_slice(path: Path, ds: Dataset, suv: np.ndarray, level: float, k: int) -> None:
    """suv: (n, n). The header `ds` is filled in for this slice and saved. Each slice has its own rescale slope."""
    dose = ds.RadiopharmaceuticalInformationSequence[0]
    uptake = SCAN_SECOND - _seconds(dose.RadiopharmaceuticalStartTime)
    left = float(dose.RadionuclideTotalDose) * 2 ** (-uptake / HALF_LIFE)      # Bq when the scan starts
    becquerel = suv.astype(np.float64) * left / (1000 * float(ds.PatientWeight))  # Bq/ml, with 1 g as 1 ml
    slope = float(_short(max(becquerel.max() / 32767, 1e-6)))
    edge = FIELD_OF_VIEW / 2 - float(ds.PixelSpacing[0]) / 2
    ds.RescaleSlope, ds.RescaleIntercept = _short(slope), 0
    ds.ImagePositionPatient = [_short(-edge), _short(-edge), _short(level)]
    ds.SliceLocation, ds.InstanceNumber, ds.ImageIndex = _short(level), k + 1, k + 1
    ds.SOPInstanceUID = generate_uid(UID_ROOT, [ds.SeriesInstanceUID, str(k)])
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.PixelData = np.clip(np.rint(becquerel / slope), 0, 32767).astype("<i2").tobytes()
    ds.save_as(path, enforce_file_format=True)


def _uid(person: Person, level: str) -> str:
    return generate_uid(UID_ROOT, [*map(str, person.key), person.id, level])


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _clock(second: float) -> str:
    minutes, seconds = divmod(int(second), 60)
    return f"{minutes // 60:02d}{minutes % 60:02d}{seconds:02d}"


def _seconds(clock: str) -> int:
    return int(clock[:2]) * 3600 + int(clock[2:4]) * 60 + int(clock[4:6])


def _short(value: float) -> str:
    """A decimal string of at most 16 characters, as DICOM wants it."""
    return f"{value:.9g}"


# ---- tables ----

def _write_csv(path: Path, rows: Iterable[Iterable[object]], newline: str = "\n") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator=newline).writerows(rows)


def _write_labels(path: Path, rows: list[tuple[str, str, int]]) -> None:
    _write_csv(path, [("file", "patient", "label"), *rows])


def _write_lgg_table(path: Path, people: list[Person]) -> None:
    """data.csv: patients without the folder's date, ages in whole years; as in the original, one age is missing
    (the last patient's, where there are at least three)."""
    rows = []
    for number, person in enumerate(people):
        row: dict[str, str | int] = dict.fromkeys(LGG_COLUMNS, "")
        missing = number == len(people) - 1 and number >= 2
        row.update(Patient=person.id, gender=1 + (person.sex == "M"),
                   age_at_initial_pathologic="" if missing else int(person.age), death01=0)
        rows.append(row.values())
    _write_csv(path, [LGG_COLUMNS, *rows])


def _write_clinical_workbook(path: Path, people: list[Person]) -> None:
    """A sheet a hospital, with footer rows, and a sheet of excluded patients of whom there are no images."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, hospital in enumerate((*HOSPITALS, "Excluded")):
        sheet = book.create_sheet(hospital)
        sheet.append(PET_COLUMNS)
        for person in people[number::len(HOSPITALS)] if hospital in HOSPITALS else []:
            sheet.append([person.id, person.sex, int(person.age), *["n/a"] * 5])
        if hospital == "Excluded":
            sheet.append(["HN-PHANTOM-X01", "M", 61, *["n/a"] * 5])
        sheet.append([])
        for line in PET_FOOTER:
            sheet.append([line])
    buffer = io.BytesIO()
    book.save(buffer)
    path.write_bytes(_undated(buffer))


def _undated(workbook: io.BytesIO) -> bytes:
    """The same workbook without the time of day, so that the same phantom is the same file."""
    fresh = io.BytesIO()
    with zipfile.ZipFile(workbook) as old, zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", b"2000-01-01T00:00:00Z", content)
            new.writestr(zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return fresh.getvalue()
