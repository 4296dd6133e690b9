"""Groups DICOM files into series by their headers and puts each series into anatomical order. Reads no pixels."""
import logging
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import UID

from duiit.util.files import natural_key

log = logging.getLogger(__name__)
warnings.filterwarnings("ignore", module=r"pydicom\.")  # about odd values that the user cannot mend

# What the grouping needs, by PS3.6 keyword. Repeats (echoes, time points, ...) are told apart by _REPEATS.
_REPEATS = ("TemporalPositionIdentifier", "EchoNumbers", "DiffusionBValue", "AcquisitionNumber", "ContentTime")
_TAGS = ("SOPClassUID", "SOPInstanceUID", "Modality", "SeriesInstanceUID", "SeriesNumber", "StudyInstanceUID",
         "PatientID", "ImageOrientationPatient", "ImagePositionPatient", "SliceLocation", "InstanceNumber", "Rows",
         "Columns", "NumberOfFrames", "ImageType", *_REPEATS)
# Modalities (PS3.3 C.7.3.1.1.1) whose objects may have rows and columns and are still no image of the patient.
NOT_IMAGES = {"RTSTRUCT", "RTDOSE", "RTPLAN", "RTRECORD", "SEG", "SR", "PR", "KO", "REG", "FID", "RWV", "PLAN", "ECG",
               "HD", "AU", "DOC"}
_ENDINGS = (".dcm", ".dicom", ".dic", ".ima")


@dataclass(frozen=True)
class Header:
    """The part of one DICOM file's header that decides which scan it belongs to and where in it."""
    path: Path
    modality: str
    series: str
    series_number: str
    study: str
    patient_id: str
    instance: str
    localizer: bool
    frames: int
    matrix: tuple[int, int]
    axis: tuple[float, ...] | None       # direction cosines of rows and columns, None where not told
    position: float | None               # mm along the slice normal, growing towards head, left or back
    number: int                          # InstanceNumber
    repeats: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Series:
    """Files of one series, in anatomical order; `problem` where the only file could not be read at all."""
    headers: tuple[Header, ...]
    problem: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.problem,) if self.problem else tuple(header.path for header in self.headers)


def looks_like_dicom(path: Path) -> bool:
    """By content: the `DICM` prefix of PS3.10 7.1, or, without a preamble, a data set that starts with group 2 or 8.

    A file that may not be opened, or whose ending says DICOM, counts too: reading it will say what is wrong.
    """
    named = path.name.lower().endswith(_ENDINGS)
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except PermissionError:
        return named or not path.suffix
    except OSError:  # a link to nowhere, or to itself
        return named
    return named or start[128:] == b"DICM" or (start[:2] in (b"\x02\x00", b"\x08\x00") and start[3:4] == b"\x00")


def read_header(path: Path) -> Header | None:
    """The header of one file, or None where it is a DICOM object other than an image. Raises whatever pydicom does."""
    ds = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
    modality = str(ds.get("Modality") or "")
    if not ds.get("Rows") or not ds.get("Columns") or modality in NOT_IMAGES:
        if is_incomplete(ds):
            raise ValueError("only a part of a DICOM image")
        return None
    axis, position = _place(ds)
    return Header(
        path=path, modality=modality, series=str(ds.get("SeriesInstanceUID") or ""),
        series_number=str(ds.get("SeriesNumber") or ""), study=str(ds.get("StudyInstanceUID") or ""),
        patient_id=str(ds.get("PatientID") or "").strip(), instance=str(ds.get("SOPInstanceUID") or ""),
        localizer="LOCALIZER" in (ds.get("ImageType") or ()), frames=int(ds.get("NumberOfFrames") or 1),
        matrix=(int(ds.Rows), int(ds.Columns)), axis=axis, position=position,
        number=int(ds.get("InstanceNumber") or 0), repeats=tuple(str(ds.get(tag) or "") for tag in _REPEATS))


def is_incomplete(ds: pydicom.Dataset) -> bool:
    """Whether a data set without rows and columns ought to have them: cut off, or no DICOM at all."""
    kind = ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID")
    return kind is None or (not ds.get("Rows") and UID(kind).name.endswith("Image Storage"))


def slice_normal(orientation: Iterable[float]) -> np.ndarray:
    """Unit vector (3,) in LPS along which slices are ordered: across the image plane (PS3.3 C.7.6.2.1.1), with the
    sign that makes axial slices go from foot to head, coronal ones to the back and sagittal ones to the left.
    """
    row, column = np.asarray(orientation, dtype=float).reshape(2, 3)
    normal = np.cross(row, column)
    length = np.linalg.norm(normal)
    if not np.isfinite(length) or length < 1e-6:
        raise ValueError("ImageOrientationPatient has no direction")
    return normal / length * np.sign(normal[np.argmax(np.abs(normal))])


def _place(ds: pydicom.Dataset) -> tuple[tuple[float, ...] | None, float | None]:
    orientation, origin = ds.get("ImageOrientationPatient"), ds.get("ImagePositionPatient")
    try:
        axis = tuple(round(float(value), 3) for value in orientation)
        return axis, float(slice_normal(orientation) @ np.asarray(origin, dtype=float))
    except (TypeError, ValueError):
        location = ds.get("SliceLocation")
        return None, None if location is None else float(location)


def group_series(paths: Iterable[Path], modalities: tuple[str, ...] | None,
                 root: Path) -> tuple[list[Series], Counter[str]]:
    """The image series among DICOM files, and how many images of other modalities were passed over.

    modalities: the Modality values wanted, None for all. A file that cannot be read becomes a series of its own, so
    that reading it names it. Scout views (ImageType LOCALIZER, PS3.3 C.8.2.1.1.1) are left out.
    """
    groups: defaultdict[tuple[Hashable, ...], list[Header]] = defaultdict(list)
    broken: list[Series] = []
    passed: Counter[str] = Counter()
    other = scouts = 0
    for path in paths:
        try:
            header = read_header(path)
        except Exception:  # whatever a damaged header makes pydicom raise
            broken.append(Series((), path))
            continue
        if header is None:
            other += 1
        elif modalities and header.modality not in modalities:
            passed[header.modality or "no modality"] += 1
        elif header.localizer:
            scouts += 1
        else:
            groups[_series_key(header)].append(header)
    for count, what in ((other, "are not images (structures, doses, reports)"), (scouts, "are scout views")):
        if count:
            log.info("%s: %d DICOM files %s and are left out", root, count, what)
    stacks = [stack for headers in groups.values() for stack in _stacks(_without_copies(headers, root))]
    return [Series(tuple(_in_order(stack))) for stack in stacks] + broken, passed


def _series_key(header: Header) -> tuple[Hashable, ...]:
    # Without a UID, what lies in one folder belongs together. A file of many frames is a volume by itself; images of
    # another size or direction in one series are another stack (thick and reformatted slices filed under one number).
    own_file = str(header.path) if header.frames > 1 else ""
    return header.series or str(header.path.parent), header.patient_id, own_file, header.matrix, header.axis


def _without_copies(headers: list[Header], root: Path) -> list[Header]:
    first: dict[str, Header] = {}
    unique = [header for header in headers
              if not header.instance or first.setdefault(header.instance, header) is header]
    if len(unique) < len(headers):
        log.warning("%s: %d DICOM images lie there a second time (same SOPInstanceUID) and are left out (series of %s)",
                    root, len(headers) - len(unique), unique[0].path.relative_to(root))
    return unique


def _stacks(headers: list[Header]) -> list[list[Header]]:
    """One stack for each echo or time point where positions repeat and a tag tells the repeats apart."""
    if not _repeats_position(headers):
        return [headers]
    for which in range(len(_REPEATS)):
        parts = defaultdict(list)
        for header in headers:
            parts[header.repeats[which]].append(header)
        if 1 < len(parts) < len(headers) and not any(_repeats_position(part) for part in parts.values()):
            return [parts[value] for value in sorted(parts, key=natural_key)]
    return [headers]


def _repeats_position(headers: list[Header]) -> bool:
    places = [round(header.position, 2) for header in headers if header.position is not None]
    return len(set(places)) < len(places)


def _in_order(headers: list[Header]) -> list[Header]:
    complete = all(header.position is not None for header in headers)
    key: Callable[[Header], tuple[Any, ...]] = lambda header: (  # noqa: E731
        round(header.position or 0.0, 3) if complete else 0.0, header.number, natural_key(header.path))
    return sorted(headers, key=key)
