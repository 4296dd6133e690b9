"""Groups DICOM files into series by their headers and puts each series into anatomical order.

Reads no pixels, but where images lie at one position and may be one and the same; and no header that an index knows.
"""
import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pydicom
from pydicom.tag import Tag
from pydicom.uid import UID

from duiit.data.readers.dicom_frames import FUNCTIONAL, PRIVATE, place_of
from duiit.data.readers.dicom_kinds import KIND_TAGS, OTHER, kind_of, tell_left_out
from duiit.data.readers.dicom_stacks import FLAT, TELLING, Place, alike, positions, stacks_of
from duiit.util.file_index import FileIndex
from duiit.util.files import natural_key
from duiit.util.logs import remarks_on

log = logging.getLogger(__name__)

# What the grouping needs, by PS3.6 keyword.
_TAGS = ("SOPClassUID", "SOPInstanceUID", "Modality", "SeriesInstanceUID", "SeriesNumber", "StudyInstanceUID",
         "PatientID", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceLocation",
         "InstanceNumber", "Rows", "Columns", "NumberOfFrames")
_READ = [*map(Tag, (*_TAGS, *KIND_TAGS, *TELLING)), *map(Tag, PRIVATE.values())]
# Modalities (PS3.3 C.7.3.1.1.1) whose objects may have rows and columns and are still no image of the patient.
NOT_IMAGES = {"RTSTRUCT", "RTDOSE", "RTPLAN", "RTRECORD", "SEG", "SR", "PR", "KO", "REG", "FID", "RWV", "PLAN", "ECG",
               "HD", "AU", "DOC"}


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
    left_out: str                        # why it is no picture to make a scan of, "" where it is one
    matrix: tuple[int, int]
    number: int                          # InstanceNumber
    places: tuple[Place, ...] = field(default=())       # of each frame

    @property
    def frames(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class Series:
    """Files of one series, in anatomical order; `problem` where the only file could not be read at all.

    frames: which of the only file's frames, in order, where it holds several stacks. label: which of several stacks at
    the same positions it is, else "".
    """
    headers: tuple[Header, ...]
    problem: Path | None = None
    frames: tuple[int, ...] | None = None
    label: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.problem,) if self.problem else tuple(header.path for header in self.headers)


def read_header(path: Path) -> Header | None:
    """The header of one file, or None where it is a DICOM object other than an image. Raises whatever pydicom does."""
    with remarks_on(path):
        return _read_header(path)


def known_header(path: Path, index: FileIndex) -> Header | None:
    """The same, read only where the index does not know it."""
    # Another pydicom may understand a header otherwise.
    kept = index.recall(path, f"header by pydicom {pydicom.__version__}", _header_as_json)
    if kept is None:
        return None
    places = tuple(_place(p) for p in kept["places"])
    return Header(path=path, **{**kept, "matrix": tuple(kept["matrix"]), "places": places})


def _place(kept: dict[str, Any]) -> Place:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in kept.items()}
    return Place(**values)


def _header_as_json(path: Path) -> dict[str, Any] | None:
    header = read_header(path)
    return None if header is None else {k: v for k, v in asdict(header).items() if k != "path"}


def _read_header(path: Path) -> Header | None:
    ds = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=_READ)
    modality = str(ds.get("Modality") or "")
    if not ds.get("Rows") or not ds.get("Columns") or modality in NOT_IMAGES:
        if is_incomplete(ds):
            raise ValueError("only a part of a DICOM image")
        return None
    frames = int(ds.get("NumberOfFrames") or 1)
    if frames > 1:
        ds = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=[*_READ, *map(Tag, FUNCTIONAL)])
    return Header(
        path=path, modality=modality, series=str(ds.get("SeriesInstanceUID") or ""),
        series_number=str(ds.get("SeriesNumber") or ""), study=str(ds.get("StudyInstanceUID") or ""),
        patient_id=str(ds.get("PatientID") or "").strip(), instance=str(ds.get("SOPInstanceUID") or ""),
        left_out=kind_of(ds), matrix=(int(ds.Rows), int(ds.Columns)),
        number=int(ds.get("InstanceNumber") or 0), places=tuple(place_of(ds, i) for i in range(frames)))


def is_incomplete(ds: pydicom.Dataset) -> bool:
    """Whether a data set without rows and columns ought to have them: cut off, or no DICOM at all."""
    kind = ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID")
    return kind is None or (not ds.get("Rows") and UID(kind).name.endswith("Image Storage"))


def group_series(paths: Iterable[Path], modalities: tuple[str, ...] | None, root: Path,
                 index: FileIndex) -> tuple[list[Series], Counter[str]]:
    """The image series among DICOM files, and how many images of other modalities were passed over.

    modalities: the Modality values wanted, None for all. A file that cannot be read becomes a series of its own, so
    that reading it names it. What is no picture of the patient (dicom_kinds) is left out and counted.
    """
    groups: defaultdict[tuple[Hashable, ...], list[Header]] = defaultdict(list)
    broken: list[Series] = []
    passed: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for path in paths:
        try:
            header = known_header(path, index)
        except Exception:  # whatever a damaged header makes pydicom raise
            broken.append(Series((), path))
            continue
        if header is None:
            left_out[OTHER] += 1
        elif modalities and header.modality not in modalities:
            passed[header.modality or "no modality"] += 1
        elif header.left_out:
            left_out[header.left_out] += 1
        else:
            groups[_series_key(header)].append(header)
    tell_left_out(left_out, root, bool(groups or broken or passed))
    remarks = _Remarks(root)
    series = [one for headers in groups.values() for one in series_of(_without_copies(headers, root), remarks)]
    remarks.tell()
    return series + broken, passed


def _series_key(header: Header) -> tuple[Hashable, ...]:
    # Without a UID, what lies in one folder belongs together. A file of many frames is a volume by itself.
    own_file = str(header.path) if header.frames > 1 else ""
    return header.series or str(header.path.parent), header.patient_id, own_file


def _without_copies(headers: list[Header], root: Path) -> list[Header]:
    first: dict[str, Header] = {}
    unique = [header for header in headers
              if not header.instance or first.setdefault(header.instance, header) is header]
    if len(unique) < len(headers):
        log.warning("%s: %d DICOM images lie there a second time (same SOPInstanceUID) and are left out (series of %s)",
                    root, len(headers) - len(unique), unique[0].path.relative_to(root))
    return unique


# -- one series into stacks ----------------------------------------------------------------------------------------

class _Remarks:
    """What happened to the series of a folder, counted: one line for each kind, which names the first."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.apart: dict[str, list[int]] = {}           # first file: images in each part
        self.several: dict[str, list[str]] = {}         # first file: labels of its stacks
        self.repeats: dict[str, int] = {}

    def tell(self) -> None:
        if self.apart:
            first, parts = next(iter(self.apart.items()))
            log.warning("%s: %d series fall apart into several scans, as their images differ in direction, size or "
                        "pixel size, or lack a position (first that of %s: %s images); look whether that is meant, and "
                        "take out what is not wanted", self.root, len(self.apart), first, " + ".join(map(str, parts)))
        if self.several:
            first, labels = next(iter(self.several.items()))
            shown = ", ".join(labels[:4]) + (f" and {len(labels) - 4} more" if len(labels) > 4 else "")
            log.warning("%s: %d series hold several images at each position, which become scans of their own (first "
                        "that of %s: %s); look whether all are wanted", self.root, len(self.several), first, shown)
        if self.repeats:
            log.warning("%s: %d DICOM images are the same as another at their position and are left out (first in the "
                        "series of %s); remove the second copies", self.root, sum(self.repeats.values()),
                        next(iter(self.repeats)))


def series_of(headers: Sequence[Header], remarks: _Remarks | None = None) -> list[Series]:
    """The scans in one series' files, or in the frames of one file: of one direction and size, each position once."""
    remarks = remarks or _Remarks(headers[0].path.parent)
    first, frames = headers[0], headers[0].frames > 1
    places = list(first.places) if frames else [header.places[0] for header in headers]
    sizes = [first.matrix] * len(places) if frames else [header.matrix for header in headers]
    by_size = defaultdict(list)
    for i, size in enumerate(sizes):
        by_size[size].append(i)
    groups = [[here[n] for n in group] for here in by_size.values() for group in alike([places[i] for i in here])]
    name = first.path.relative_to(remarks.root).as_posix()
    if len(groups) > 1:
        remarks.apart[name] = [len(group) for group in groups]
    found = []
    for group in groups:
        pixels = [(first.path, i) if frames else (headers[i].path, None) for i in group]
        stacks = stacks_of([places[i] for i in group], _content(pixels))
        if any(stack.repeats for stack in stacks):
            remarks.repeats[name] = remarks.repeats.get(name, 0) + sum(stack.repeats for stack in stacks)
        if len(stacks) > 1:
            remarks.several.setdefault(name, []).extend(stack.label for stack in stacks)
        found += [(_in_order([group[n] for n in stack.members], places, headers), stack) for stack in stacks]
    if not frames:
        return [Series(tuple(headers[i] for i in order), label=stack.label) for order, stack in found]
    whole = len(found) == 1 and not found[0][1].repeats
    return [Series((first,), frames=None if whole else tuple(order), label=stack.label) for order, stack in found]


def _in_order(members: list[int], places: Sequence[Place], headers: Sequence[Header]) -> list[int]:
    where = positions([places[i] for i in members])
    depth = dict(zip(members, where, strict=True)) if where else {}
    if len(headers) < len(places):
        return sorted(members, key=lambda i: (round(depth.get(i, 0.0), 3), i))
    return sorted(members, key=lambda i: (round(depth.get(i, 0.0), 3), headers[i].number,
                                          natural_key(headers[i].path)))


def _content(pixels: Sequence[tuple[Path, int | None]]) -> Callable[[int], bytes]:
    """The digest of the i-th of these (file, frame), found when it is asked for."""
    return cache(lambda i: _digest(*pixels[i]))


def _digest(path: Path, frame: int | None) -> bytes:
    """Stands for the pixels of a file or of one of its frames, as decoded; for the file itself where they cannot be."""
    from pydicom.pixels import pixel_array
    try:
        pixels = pixel_array(path, index=frame)
        if pixels.min() == pixels.max():
            return FLAT
        ds = pydicom.dcmread(path, stop_before_pixels=True, force=True,
                             specific_tags=["RescaleSlope", "RescaleIntercept", "PhotometricInterpretation"])
        told = f"{pixels.shape} {pixels.dtype} {[str(element.value) for element in ds]}".encode()
        return hashlib.blake2b(told + pixels.tobytes(), digest_size=16).digest()
    except Exception:  # each decoder fails in its own way; reading it will say what is wrong
        return hashlib.blake2b(f"{path} {frame}".encode(), digest_size=16).digest()
