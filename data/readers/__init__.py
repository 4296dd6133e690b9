"""From files to `Slice` records: `find_scans` says what lies in a folder, `read_scan` decodes one scan's pixels.

One module per format. Nothing here knows of labels, windows or networks; every failure is a UserError naming the file.
"""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from duiit.data.readers.age import parse_age
from duiit.data.readers.common import has_signal
from duiit.data.readers.finding import find_scans, stem_patient
from duiit.data.readers.selection import select_slices, slice_indices
from duiit.data.readers.slice import Geometry, Scan, Slice
from duiit.util.file_index import FileIndex
from duiit.util.files import natural_key

__all__ = ["find_scans", "has_signal", "header_age", "natural_key", "parse_age", "read_scan", "select_slices",
           "slice_indices", "stem_patient"]


def read_scan(scan: Scan) -> list[Slice]:
    """All slices of one scan, in anatomical order, with unit, label and geometry; images are finite float32.

    `scan.unit` says what the cohort is expected to hold (such as HU for a CT folder) where a file does not say it
    itself; DICOM does. Raises UserError, naming the file, for anything that cannot be read.
    """
    # Imported here: each format's library takes a part of a second that a cohort without it need not wait for.
    if scan.kind == "dicom":
        from duiit.data.readers.dicom import read_series
        images, unit, geometry = read_series(scan.files, scan.frames)
        return _slices(scan, [(image, path, unit) for image, path in images], geometry)
    if scan.kind == "nifti":
        from duiit.data.readers.nifti import read_nifti
        images, unit, geometry = read_nifti(scan.files[0], scan.unit)
        return _slices(scan, [(image, scan.files[0], unit) for image in images], geometry)
    read: Callable[[Path, str | None], tuple[Any, ...]]
    if scan.kind == "numpy":
        from duiit.data.readers.numpy_file import read_array
        read = read_array
    else:
        from duiit.data.readers.images import read_image
        read = read_image
    served = []
    for path in scan.files:
        images, *meaning = read(path, scan.unit)
        served += [(image, path, *meaning) for image in images]
    made_by_network = scan.kind == "images" and all(span for *_, span in served)
    return _slices(scan, served, _told_spacing(scan) if made_by_network else None)


def _told_spacing(scan: Scan) -> Geometry | None:
    """Pixels of the size that all files of the scan tell, at no known place; None where they do not agree."""
    from duiit.data.readers.tiff import tiff_spacing
    told = {tiff_spacing(path) for path in scan.files}
    spacing = told.pop() if len(told) == 1 else None
    return None if spacing is None else Geometry(np.diag([-spacing[1], -spacing[0], 1.0, 1.0]))


def header_age(scan: Scan, index: FileIndex | None = None) -> str | None:
    """The patient's age as the scan's own header writes it (DICOM only), else None. index: of files under scan.root."""
    if scan.kind != "dicom":
        return None
    from duiit.data.readers.dicom import patient_age
    return patient_age(scan.files[0], index or FileIndex(scan.root, None))


def _slices(scan: Scan, images: list[tuple[Any, ...]], geometry: Geometry | None = None) -> list[Slice]:
    """images: (image, path, unit) of each slice, and its span where the format has a place for one."""
    return [Slice(image=image, patient=scan.patient, scan=scan.name, path=path, index=i, unit=unit,
                  label=scan.label_of(path), geometry=geometry, span=next(iter(span), None))
            for i, (image, path, unit, *span) in enumerate(images)]
