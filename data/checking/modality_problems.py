"""What a check finds wrong within one modality: its images, its labels, its units, and how patients were told apart."""
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from duiit.data.checking.modality_check import ModalityCheck
from duiit.data.checking.scan_survey import Found, SliceFound
from duiit.data.preparing.intensity import BY_SCAN
from duiit.data.readers import natural_key
from duiit.data.readers.slice import HU, SUV, Label
from duiit.util.problems import counted, listed

AGE_LIMIT = 120.0
FAR = 10.0              # interquartile ranges from the quartiles: a label there is a typing error or a missing code
AIR_SEEN = -200.0       # HU; every CT has air in it, at -1000
NO_CT = -500.0          # no MRI and no PET goes that low
CUT = 0.03              # share of a scan's pixels at the upper end of the window; percentiles leave 0.005 there
SCALES = 1.5            # fields of view that differ by more show anatomy at visibly different scales
EVEN = 1.1              # so much unlike, pixels or sides show in an image
FLAT = 5                # so many single images beside each other, each taken for a patient, are suspicious


def find_problems(check: ModalityCheck) -> None:
    """Adds to a ModalityCheck what is wrong with what it has found."""
    for part in (_images, _segmentations, _scales, _missing_labels, _impossible_labels, _far_labels, _classes, _units,
                 _flat_folder):
        part(check)


def _images(check: ModalityCheck) -> None:
    r = check.report
    if r.slices and r.empty_slices == r.slices and not check.opt.keep_empty:
        check.add("error", check.folder, "every slice is constant or almost empty",
                  "look at the images; --keep_empty takes them all the same")
    elif r.empty_slices:
        check.add("warning", check.folder, f"{r.empty_slices} of {r.slices} slices are constant or almost empty",
                  "they are left out of training; --keep_empty takes them all the same")


def _segmentations(check: ModalityCheck) -> None:
    found = [f for f in check.found if f.few_values]
    if found:
        check.add("warning", check.folder, f"only a handful of whole numbers, as in segmentations, in {_scans(found)}",
                  "take them out of the folder if they are no images")


def _scales(check: ModalityCheck) -> None:
    if check.opt.spacing is not None:
        _on_common_grid(check, check.opt.spacing)
        return
    r = check.report
    if len(r.sizes) > 1:
        check.add("warning", check.folder, f"mixed image sizes: {listed(r.sizes)}",
                  "all are brought to --load_size; look whether the scale differs too")
    fields = {f.scan: f.facts.spacing[0] * f.facts.rows for f in check.found if f.facts and f.facts.spacing}
    if fields:
        small, large = min(fields, key=lambda scan: fields[scan]), max(fields, key=lambda scan: fields[scan])
        if fields[large] > SCALES * fields[small] > 0:
            check.add("warning", check.folder, f"fields of view from {fields[small]:.0f} mm ({small}) to "
                      f"{fields[large]:.0f} mm ({large})",
                      "brought to one size they show anatomy at different scales; see --spacing, or leave some out")
    _pixel_sizes(check)


def _pixel_sizes(check: ModalityCheck) -> None:
    pixels = pixel_sizes(check)
    if not pixels:
        return
    oblong = [scan for scan, (row, column, _, _) in pixels.items() if not 1 / EVEN < row / column < EVEN]
    stretched = [scan for scan, (row, column, height, width) in pixels.items()
                 if not 1 / EVEN < (row * height) / (column * width) < EVEN]
    small, large = (choose(pixels, key=lambda scan: pixels[scan][0]) for choose in (min, max))
    if pixels[large][0] > EVEN * pixels[small][0]:
        check.add("warning", check.folder, f"pixel spacings from {pixels[small][0]:.3g} mm ({small}) to "
                  f"{pixels[large][0]:.3g} mm ({large}), {pixels[large][0] / pixels[small][0]:.2f} times as much",
                  "--spacing brings all to one; without it only fields of view count")
    resized = check.opt.preprocess == "resize_and_crop"                         # to a square, whatever it was
    if stretched and resized:
        check.add("warning", check.folder, f"fields of view that are not square in {counted(len(stretched), 'scan')}: "
                  f"{listed(stretched)}", "they are stretched to squares; --spacing pads them instead")
    elif oblong and not resized:
        check.add("warning", check.folder, f"pixels that are not square in {counted(len(oblong), 'scan')}: "
                  f"{listed(oblong)}", "--spacing makes them square")


def _on_common_grid(check: ModalityCheck, spacing: float) -> None:
    """What --spacing needs: a known spacing, and a field of view that --load_size holds."""
    unknown = [f for f in check.found if not f.spacing]
    if unknown:
        check.add("error", check.folder, f"no pixel spacing is known of {_scans(unknown)}",
                  "give NIfTI, or DICOM with positions, or leave out --spacing")
    field = check.opt.load_size * spacing
    larger = {scan: max(row * height, column * width) for scan, (row, column, height, width) in
              pixel_sizes(check).items() if max(row * height, column * width) > field + spacing}
    if larger and check.opt.preprocess == "resize_and_crop":
        most = max(larger, key=lambda scan: larger[scan])
        check.add("warning", check.folder, f"fields of view above {field:.0f} mm, which are cropped, in "
                  f"{counted(len(larger), 'scan')}: up to {larger[most]:.0f} mm ({most})",
                  "give a larger --load_size if anatomy lies outside")


def pixel_sizes(check: ModalityCheck) -> dict[str, tuple[float, float, int, int]]:
    """{scan: (mm between rows, mm between columns, rows, columns)}, where it is known."""
    return {f.scan: (*f.facts.spacing[:2], f.facts.rows, f.facts.columns)
            for f in check.found if f.facts and f.facts.spacing}


# -- labels ------------------------------------------------------------------------------------------------------

def _missing_labels(check: ModalityCheck) -> None:
    labels = check.report.labels
    if not labels.get("count"):
        if check.unmatched and check.labels:
            check.add("warning", check.labels.path, f"its ids ({listed(check.unmatched)}) are none of the patients "
                      f"({listed(_patients(check))})", "spell them alike, or see --id_column and --patient_regex")
        else:
            check.add("warning", check.folder, "no labels at all",
                      "add a labels.csv (patient,label), or train without them")
    elif labels.get("missing"):
        without = sorted({s.patient for s in _slices(check) if s.label is None}, key=natural_key)
        check.add("warning", check.folder, f"no label for {counted(len(without), 'patient')}: {listed(without)}",
                  "their images train the translator and are left out of the predictor's loss")


def _impossible_labels(check: ModalityCheck) -> None:
    """Ages: those of a column that says so, or of DICOM headers."""
    if check.opt.task != "regression" or (check.labels is not None and not check.labels.is_age):
        return
    wrong = [x for x in _by_patient(check) if not 0 <= x[1] <= AGE_LIMIT]
    if wrong:
        check.add("error", _source(check), f"ages that cannot be: {_pairs(wrong)}",
                  f"correct those below 0 or above {AGE_LIMIT:g} years; leave unknown ones empty")


def _far_labels(check: ModalityCheck) -> None:
    known = _by_patient(check)
    if check.opt.task != "regression" or len(known) < 4:
        return
    values = np.array([label for _, label in known])
    if len(set(values)) == 1:
        check.add("warning", _source(check), f"every label is {values[0]:g}", "there is nothing to learn from it")
        return
    lower, upper = np.percentile(values, (25, 75))
    margin = FAR * (upper - lower)
    far = [x for x in known if margin and not lower - margin <= x[1] <= upper + margin]
    if far:
        check.add("warning", _source(check), f"labels far from all others: {_pairs(far)}",
                  "correct typing errors; leave unknown ones empty instead of a code such as 999")


def _classes(check: ModalityCheck) -> None:
    members: dict[Label, set[str]] = {}
    for s in _slices(check):
        if s.label is not None and check.opt.task == "classification":
            members.setdefault(s.label, set()).add(s.patient)
    rare = [f"{name} ({len(patients)})" for name, patients in members.items() if len(patients) < 3]
    if rare and len(members) > 1:
        check.add("warning", _source(check), f"classes with fewer than three patients: {listed(rare)}",
                  "they cannot be in training, validation and test at once; correct the spelling, or join classes")


# -- units -------------------------------------------------------------------------------------------------------

def _units(check: ModalityCheck) -> None:
    units = check.report.units
    if len(units) > 1:
        check.add("warning", check.folder, "values in different units: "
                  + listed(f"{unit} ({counted(n, 'scan')})" for unit, n in units.items()),
                  "they are scaled in different ways; give all in the same unit")
    if check.loader.modality == "ct":
        _ct_units(check)
    _pet_window(check)
    if check.loader.modality in ("mri", "pet"):
        low = [f for f in check.found if _lowest(f) < NO_CT]
        if low:
            lowest = min(map(_lowest, low))
            check.add("warning", check.folder, f"values down to {lowest:g} look like Hounsfield units, in "
                      f"{_scans(low)}", f"check that these are {check.name.upper()}s and not CTs")


def _pet_window(check: ModalityCheck) -> None:
    window = check.opt.pet_window
    cut = [f for f in check.found if f.unit == SUV and f.facts and f.facts.saturated > CUT and window != BY_SCAN]
    if cut:
        most = max(f.facts.saturated for f in cut if f.facts)
        check.add("warning", check.folder, f"up to {most:.0%} of the pixels lie above --pet_window {window} in "
                  f"{_scans(cut)}", "they are all full white; raise its upper end")


def _ct_units(check: ModalityCheck) -> None:
    if check.found and HU not in check.report.units:
        check.add("warning", check.folder, f"no image is in Hounsfield units ({listed(check.report.units)})",
                  "8-bit images are taken as already windowed by --ct_window; give DICOM or NIfTI for HU")
    airless = [f for f in check.found if f.unit == HU and AIR_SEEN < _lowest(f) < math.inf]
    if airless:
        lowest = min(map(_lowest, airless))
        check.add("warning", check.folder, f"no air (-1000 HU) in {_scans(airless)}, the lowest value is {lowest:g}",
                  "check that these are CTs and not MRIs, in HU and not shifted or scaled, and not cut to a window")


def _lowest(found: Found) -> float:
    """Lowest value of a scan; infinite where every slice is empty."""
    return found.facts.minimum if found.facts else math.inf


# -- patients ----------------------------------------------------------------------------------------------------

def _flat_folder(check: ModalityCheck) -> None:
    """1.png, 2.png, …: nothing says whose they are, so each was taken for a patient's."""
    single = [f for f in check.found if f.in_root and len(f.slices) == 1]
    told = check.opt.patient_regex or (check.labels and (check.labels.file_patients or check.labels.by_patient))
    if len(single) >= FLAT and len(single) == len(check.found) == check.report.patients and not told:
        check.add("warning", check.folder, f"each of the {len(single)} images was taken for a patient of its own (such "
                  f"as {single[0].slices[0].file})",
                  "if several are of one person, say so by --patient_regex, by folders, or by a patient column in "
                  "labels.csv: else one person stands on both sides of the split")


# -- words -------------------------------------------------------------------------------------------------------

def _slices(check: ModalityCheck) -> Iterator[SliceFound]:
    return (s for f in check.found for s in f.slices)


def _patients(check: ModalityCheck) -> list[str]:
    return sorted({f.patient for f in check.found}, key=natural_key)


def _by_patient(check: ModalityCheck) -> list[tuple[str, float]]:
    """Each patient's different numbers as labels, [(patient, number), …], in order of the patients."""
    if check.opt.task != "regression":
        return []
    pairs = {(s.patient, s.label) for s in _slices(check) if isinstance(s.label, (int, float))}
    return sorted(pairs, key=lambda pair: (natural_key(pair[0]), pair[1]))


def _pairs(known: Iterable[tuple[str, float]]) -> str:
    return listed(f"{patient} ({label:g})" for patient, label in known)


def _scans(found: Sequence[Found]) -> str:
    return f"{counted(len(found), 'scan')}: {listed(f.scan for f in found)}"


def _source(check: ModalityCheck) -> Path:
    return check.labels.path if check.labels is not None else check.folder
