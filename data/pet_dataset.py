"""PET: Head-Neck-PET-CT as distributed (DICOM series of several modalities a patient, ages in a spreadsheet of several
sheets), or any folder of images, NIfTI volumes or DICOM series with labels.
"""
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from duiit.data.modality_dataset import ModalityDataset
from duiit.data.readers.labels import find_labelled_scans
from duiit.data.readers.slice import DISPLAY, GREY, Scan, Slice

# HN-CHUM-001/<study>/<series>/000000.dcm, at any depth.
_HEAD_NECK_PATIENT = r"(?:^|/)(HN-[A-Z]+-\d+)/"


class PetDataset(ModalityDataset):
    """Slices in SUV by body weight where the DICOM header allows it, else in grey values."""

    modality = "pet"

    @classmethod
    def find_scans(cls, root: Path, opt: Namespace) -> list[Scan]:
        """Labelled scans under `root`; of DICOM series only Modality PT, whatever the folders are called."""
        return find_labelled_scans(root, opt, modalities=("PT",), patient_regex=_HEAD_NECK_PATIENT)

    @classmethod
    def prepare(cls, s: Slice, opt: Namespace) -> Slice:
        """8-bit images are grey values of an unknown scale, to be scaled between percentiles."""
        return replace(s, unit=GREY) if s.unit == DISPLAY else s
