"""Which DICOM images are not pictures of the patient that a scan could be made of: screenshots, reports, mosaics."""
import logging
from collections import Counter
from pathlib import Path

import pydicom
from pydicom.uid import UID

log = logging.getLogger(__name__)

# The header's tags that tell, by PS3.6 keyword.
KIND_TAGS = ("SOPClassUID", "ImageType", "BurnedInAnnotation", "ConversionType", "PhotometricInterpretation",
             "ImageOrientationPatient", "ImagePositionPatient", "SharedFunctionalGroupsSequence", "BitsStored")
OTHER, SCOUT, SCREEN, COLOUR, MOSAIC = (
    "are not images (structures, doses, reports)", "are scout views",
    "are screenshots, reports, scanned papers or other secondary captures",
    "are in colour, though of a modality that measures grey values",
    "are mosaics, which tile many slices into one image")
# Modalities whose images lie at a place in the patient and are grey. A secondary capture of another one (a digitised
# film, a photograph) may well be the image itself.
_PLACED = {"CT", "MR", "PT"}
_OF_SCREENS = {"OT", "SC", "DOC", ""}
# Words in Image Type (0008,0008), whose third and later values are the makers' own.
_SCREEN_WORDS = ("SCREEN SAVE", "SCREENSAVE", "SCREEN CAPTURE", "SCREENSHOT", "DOSE_INFO", "DOSE INFO", "DOSE REPORT",
                 "DOSEREPORT", "CSA REPORT", "CSAREPORT", "PATIENT PROTOCOL")
_SCANNED = {"DF", "DI", "DRW", "SD", "SI"}      # Conversion Type (0008,0064): film, image, drawing, document, screen


def kind_of(ds: pydicom.Dataset) -> str:
    """Why an image is to be left out, as one of the words above; "" where it is a picture to use."""
    words = [str(word).upper() for word in _several(ds.get("ImageType"))]
    modality, placed = str(ds.get("Modality") or ""), _is_placed(ds)
    if "LOCALIZER" in words:
        return SCOUT
    if "MOSAIC" in words:
        return MOSAIC
    if any(part in word for word in words for part in _SCREEN_WORDS) or any(w.endswith(" PROT") for w in words):
        return SCREEN
    if modality in _PLACED:
        if str(ds.get("BurnedInAnnotation") or "").upper() == "YES":
            return SCREEN
        if not placed and (_is_capture(ds) or int(ds.get("BitsStored") or 16) <= 8):
            return SCREEN
        if str(ds.get("PhotometricInterpretation") or "").startswith(("RGB", "YBR", "PALETTE")):
            return COLOUR
    small = int(ds.get("BitsStored") or 16) <= 8
    return SCREEN if modality in _OF_SCREENS and small and _is_capture(ds) and not placed else ""


def tell_left_out(left_out: Counter[str], root: Path, others: bool) -> None:
    """One line for each kind, with its count. others: whether there are images besides them."""
    for what, count in left_out.most_common():
        remedy = "; convert them to NIfTI with dcm2niix" if what == MOSAIC else ""
        level = logging.INFO if others and not remedy else logging.WARNING
        log.log(level, "%s: %d DICOM files %s and are left out%s", root, count, what, remedy)


def _several(value: object) -> list[object]:
    if value is None or isinstance(value, str):
        return [value] if value else []
    return list(value) if hasattr(value, "__iter__") else [value]


def _is_placed(ds: pydicom.Dataset) -> bool:
    return bool((ds.get("ImageOrientationPatient") and ds.get("ImagePositionPatient"))
                or ds.get("SharedFunctionalGroupsSequence"))


def _is_capture(ds: pydicom.Dataset) -> bool:
    """Secondary Capture Image Storage, PS3.4 B.5, of one or several frames; or scanned, by Conversion Type."""
    kind = str(ds.get("SOPClassUID") or "")
    return "Secondary Capture" in UID(kind).name or str(ds.get("ConversionType") or "") in _SCANNED
