"""The records that images travel in: `Scan` (what lies on disk, not yet read), `Slice` (one image with all that is
known of it) and `Geometry` (where it lies in the patient).

Readers make scans and turn them into slices; loaders attach labels; writers use the geometry to put images back.
"""
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

Label = float | str | None

HU = "HU"            # Hounsfield units
SUV = "SUV"          # standardised uptake value (body weight)
GREY = "grey"        # arbitrary scanner or file values, comparable only within one scan
DISPLAY = "display"  # 0..255, an image that somebody has already windowed for viewing


@dataclass(frozen=True)
class Geometry:
    """Where the slices of one scan lie in the patient.

    affine: (4, 4) float64, maps (column, row, slice, 1) of the *served* axial view to millimetres in RAS+
        (NIfTI convention). The served view is what a radiologist sees: rows run to posterior, columns to the
        patient's left, slices from foot to head (LPS), as far as the source's axes allow.
    orientation: for a volume file, the axis codes it is stored in (such as "RAS"), which the writer goes back to;
        None where slices are served as they are stored.
    """
    affine: np.ndarray
    orientation: str | None = None

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(row, column, slice) spacing in mm: distances between neighbours along each axis."""
        col, row, sli = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(row), float(col), float(sli)


@dataclass(frozen=True)
class Scan:
    """One acquisition of one patient: a volume file, a DICOM series, or a folder of single images in order.

    name: unique in its cohort and stable between runs, the path relative to the cohort's folder, in POSIX form,
        without the file's ending (for a folder of images or a series: the folder, with the series where there are
        several).
    files: in anatomical order (slice position for DICOM, natural order of names for images); one file for a volume,
        or two where header and values are apart, the one that names the scan first.
    kind: "images" (PNG, JPEG, TIFF), "numpy", "nifti" (any volume file with an affine) or "dicom".
    unit: HU, SUV, GREY or DISPLAY when known before reading, else None (the reader decides).
    frames: for a DICOM file that holds several scans, which of its frames are this one's, in order; else None.
    file_labels: file's name relative to the cohort's folder -> label, where labels are given file by file.
    """
    name: str
    patient: str
    files: tuple[Path, ...]
    kind: str
    root: Path
    unit: str | None = None
    label: Label = None
    file_labels: dict[str, Label] = field(default_factory=dict)
    frames: tuple[int, ...] | None = None

    def label_of(self, path: Path) -> Label:
        """The label of the slices in `path`: the file's own if it has one, else the scan's."""
        return self.file_labels.get(path.relative_to(self.root).as_posix(), self.label)


@dataclass(frozen=True)
class Slice:
    """One axial image, in the modality's own unit, and where it came from.

    image: float32, (H, W), or (C, H, W) for multi-channel files; finite.
    index: position in the scan, from 0.
    path: the file it was read from.
    span: (low, high), in `unit`, of the range that a network's [-1, 1] stood for, where the file says so because a
        network made it; None for a scanner's images.
    """
    image: np.ndarray
    patient: str
    scan: str
    path: Path
    index: int
    unit: str = GREY
    label: Label = None
    geometry: Geometry | None = None
    span: tuple[float, float] | None = None
