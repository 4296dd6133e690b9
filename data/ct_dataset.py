"""CT: ct-ich as distributed (NIfTI in HU, or the early release's slices windowed into JPEG), or any folder of images,
NIfTI volumes or DICOM series with labels.
"""
from argparse import Namespace
from pathlib import Path, PurePosixPath

from duiit.data.modality_dataset import ModalityDataset
from duiit.data.readers.labels import find_labelled_scans
from duiit.data.readers.slice import HU, Scan

# ct_scans/049.nii, Patients_CT/049/brain/3.jpg: the patient's number, at any depth.
_CT_ICH_PATIENT = r"(?:^|/)(?:ct_scans/([^/]+?)\.nii(?:\.gz)?$|Patients_CT/([^/]+)/|(\d+)/(?:brain|bone)/)"


class CtDataset(ModalityDataset):
    """Slices in HU; 8-bit images, which somebody has windowed already, in DISPLAY values."""

    modality = "ct"

    @classmethod
    def find_scans(cls, root: Path, opt: Namespace) -> list[Scan]:
        """Labelled scans under `root`; of DICOM series only Modality CT. Raises UserError."""
        scans = find_labelled_scans(root, opt, modalities=("CT",), patient_regex=_CT_ICH_PATIENT, unit=HU)
        return _of_one_window(scans, getattr(opt, "ct_window", None) or "brain")


def _of_one_window(scans: list[Scan], window: str) -> list[Scan]:
    """The early ct-ich release has every slice twice, `brain` beside `bone`: leave out the one not asked for."""
    unwanted, wanted = ("brain", "bone") if window == "bone" else ("bone", "brain")
    pairs = {str(PurePosixPath(scan.name).parent) for scan in scans if PurePosixPath(scan.name).name == wanted}
    return [scan for scan in scans
            if PurePosixPath(scan.name).name != unwanted or str(PurePosixPath(scan.name).parent) not in pairs]
