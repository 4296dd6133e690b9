"""MRI: the LGG segmentation set (`kaggle_3m`, three contrasts in the colour channels of a TIFF, ages in data.csv), or
any folder of images, NIfTI volumes or DICOM series with labels.
"""
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from duiit.data.modality_dataset import ModalityDataset
from duiit.data.readers.labels import find_labelled_scans
from duiit.data.readers.slice import GREY, Scan, Slice
from duiit.util.errors import UserError

CHANNELS = {"pre": 0, "flair": 1, "post": 2}  # of a kaggle_3m TIFF; a missing contrast's channel repeats FLAIR

# kaggle_3m/TCGA_CS_4941_19960909/..., at any depth: the patient is the folder without the date, as in data.csv.
_KAGGLE_PATIENT = r"(?:^|/)([A-Z]+_[A-Z0-9]+_[A-Z0-9]+)_(?:19|20)\d{6}/"


class MriDataset(ModalityDataset):
    """Slices in grey values, one channel unless `--mri_channel all`.

    8-bit images too: what level 255 stood for differs from scan to scan, so they are scaled between percentiles."""

    modality = "mri"

    @classmethod
    def find_scans(cls, root: Path, opt: Namespace) -> list[Scan]:
        """Labelled scans under `root`; of DICOM series only Modality MR. Raises UserError."""
        return find_labelled_scans(root, opt, modalities=("MR",), patient_regex=_KAGGLE_PATIENT)

    @classmethod
    def prepare(cls, s: Slice, opt: Namespace) -> Slice:
        """Of an image with three channels (3, H, W) the one that `opt.mri_channel` names, as (H, W).

        A translation keeps its channels: they are a network's, and no contrasts."""
        name = getattr(opt, "mri_channel", None) or "flair"
        if name != "all" and name not in CHANNELS:
            raise UserError(f"--mri_channel {name}: choose one of {', '.join(CHANNELS)}, all")
        if s.image.ndim == 2 or name == "all" or s.span:
            return replace(s, unit=GREY)
        return replace(s, image=s.image[CHANNELS[name]].copy(), unit=GREY)
