"""Translated slices become a DICOM series of synthetic CT images (CT Image Storage, PS3.3 A.3), one file a slice.

The last step of `translate --format dicom`: geometry comes from the source slice's own header (or from `Geometry` where
the source is no DICOM), identifiers are derived from the run and the source, and nothing else of a source header is
copied but what the lists below name. There is no clock and no chance in here: a second run writes the same bytes.
"""
import hashlib
import logging
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePath

import numpy as np
import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat, validate_value

from duiit.data.preparing.intensity import CT_WINDOWS
from duiit.data.readers.common import notice, reading, stem_of
from duiit.data.readers.dicom_frames import frame_order, functional_group
from duiit.data.readers.slice import Label, Scan, Slice
from duiit.util.errors import UserError
from duiit.util.files import below

log = logging.getLogger(__name__)

HU_RANGE = (-1024, 3071)                # what 12 bits hold with the intercept that CT scanners use
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])         # also the affine of pixels and slices of 1 mm along LPS
_SINGLE_FRAME = {"CT Image Storage", "MR Image Storage", "Positron Emission Tomography Image Storage",
                 "Secondary Capture Image Storage"}     # no frame of these may be named, even if a file holds several
_DICOM_ENDINGS = (".dcm", ".dicom", ".dic", ".ima")
# Terms of PS3.16 Annex L for what has no left and right; any other needs Laterality (PS3.3 C.7.3.1), if only empty.
_UNPAIRED = {"HEAD", "BRAIN", "SKULL", "FACE", "NECK", "HEADNECK", "WHOLEBODY", "CHEST", "ABDOMEN", "PELVIS", "CSPINE"}

# Read from a source header; whatever is not here cannot get into the output.
_READ = ("SpecificCharacterSet", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
         "SpacingBetweenSlices", "NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
         "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality",
         "SeriesNumber", "BodyPartExamined", "Laterality", "PatientIdentityRemoved", "DeidentificationMethod")
# Not in the table of PS3.15 E.1-1: they tell of no person. Lossy stays lossy (PS3.3 C.7.6.1.1.5).
_COPIED = ("PatientPosition", "GantryDetectorTilt", "LossyImageCompression", "LossyImageCompressionRatio",
           "LossyImageCompressionMethod")
# Emptied or left out (Z, X in PS3.15 E.1-1) unless identities are kept; these have to be there, if only empty.
_REQUIRED_IDENTITY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
                      "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator")
_IDENTITY = (*_REQUIRED_IDENTITY, "IssuerOfPatientID", "PatientAge", "StudyDescription")


@dataclass(frozen=True)
class SeriesIdentity:
    """What a synthetic series is named after.

    run, model: words for people, the run's name and the model's version; they are written into every header.
    digest: stands for everything that decides the pixels (weights, epoch, options). It is not written; UIDs and
        pseudonyms are derived from it, so that nobody without the run can test guesses at a patient's number.
    body_part: for sources that do not say it, a defined term of PS3.16 Annex L.
    source: what the source's images are, for those whose header does not say it (files that are no DICOM).
    window: (low, high) in HU, where the network knows nothing beyond; None where it gives the whole range of a CT.
    """
    run: str
    model: str
    digest: str
    body_part: str = "HEAD"
    source: str = "other"
    window: tuple[float, float] | None = None


def write_dicom(folder: Path, scan: Scan, slices: list[Slice], volume: np.ndarray, *, identity: SeriesIdentity,
                keep_identity: bool = False, names: Sequence[str] | None = None) -> list[tuple[str, str, Label]]:
    """Writes one translated scan as one new series under `folder`, paths mirroring the source's.

    volume: (N, H, W) float in HU, one image for each of `slices`, at the source's size or another over the same field.
    keep_identity: whether patient, study and frame of reference stay the source's; otherwise they are replaced.
    names: of `file_names`, by default such that nothing in `folder` is written over.
    Returns [(file relative to `folder`, patient as the file tells it, label)]. Raises UserError for several channels,
    values that are not finite, and source files that cannot be read again.
    """
    if not slices:
        return []
    stored = _to_stored(scan, volume)
    named = _Identifiers(scan, identity, keep_identity)
    sources = _Sources(scan)
    files = names or file_names(scan, slices, lambda name: Path(folder, name).exists(), sources)
    patient = scan.patient if keep_identity else named.pseudonym
    rows = []
    for file, s, pixels in zip(files, slices, stored, strict=True):
        source = sources.of(s)
        ds = _patient_and_study(named, source)
        ds.update(_series(named, source))
        ds.update(_instance(named, source, s, pixels))
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = below(folder, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
        rows.append((file, patient, s.label))
    return rows


def pseudonym(patient: str, identity: SeriesIdentity) -> str:
    """The name a patient has in the output of this run: the same in every scan, telling nothing without the digest."""
    return f"SYN-{_derived(identity, 'patient', patient).hex[:12].upper()}"


# ---- where each slice comes from -------------------------------------------------------------------------------------

@dataclass(frozen=True)
class _Plane:
    """Image Plane Module, PS3.3 C.7.6.2, LPS in mm. position: of the first pixel's centre. spacing: (rows, columns)."""
    position: np.ndarray
    along_row: np.ndarray
    along_column: np.ndarray
    spacing: tuple[float, float]
    thickness: float | None

    def resized(self, old: tuple[int, int], new: tuple[int, int]) -> "_Plane":
        """For an image of other size over the same field of view: outer edges stay, so the first centre moves."""
        if old == new:
            return self
        rows, columns = (before / after for before, after in zip(old, new, strict=True))
        down, right = self.spacing
        corner = self.along_row * right * (columns - 1) / 2 + self.along_column * down * (rows - 1) / 2
        return replace(self, position=self.position + corner, spacing=(down * rows, right * columns))


@dataclass(frozen=True)
class _Source:
    """One slice's origin. header: the tags read, none where it is no DICOM. scan_key, key: tell the scan and the file
    from all others. frame: from 0 in a multi-frame file, else None. placed: whether its geometry is known."""
    header: pydicom.Dataset
    scan_key: str
    key: str
    frame: int | None
    plane: _Plane
    placed: bool


class _Sources:
    """The origins of a scan's slices; each file is read once."""

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self.file = cache(self._file)
        header, key, _ = self.file(scan.files[0])   # the same whichever of its slices were chosen
        frames = "" if scan.frames is None else f"\0{scan.frames}"
        self.scan_key = f"{header.get('SeriesInstanceUID') or scan.name}\0{key}{frames}"

    def _file(self, path: Path) -> tuple[pydicom.Dataset, str, list[int]]:
        """Header; SOP Instance UID, or the content's digest where there is none; frames as the reader orders them."""
        with reading(path, "a source image"), path.open("rb") as file:
            header = _read_header(path) if self.scan.kind == "dicom" else pydicom.Dataset()
            key = str(header.get("SOPInstanceUID") or hashlib.file_digest(file, "sha256").hexdigest())
            return header, key, frame_order(header) if self.scan.frames is None else list(self.scan.frames)

    def of(self, s: Slice) -> _Source:
        header, key, frames = self.file(s.path)
        frame = frames[s.index] if len(frames) > 1 or self.scan.frames is not None else None
        placed = s.geometry is not None
        if not placed:
            notice(f"{self.scan.name}: position and pixel size are not known; written with pixels and slices of 1 mm")
        if placed and self.scan.kind == "dicom":
            plane = _plane_of_header(header, frame or 0)
        else:
            plane = _plane_of_affine(_LPS_FROM_RAS if s.geometry is None else s.geometry.affine, s.index)
        return _Source(header, self.scan_key, key, frame, _at_right_angles(plane, self.scan), placed)


def _read_header(path: Path) -> pydicom.Dataset:
    """The tags named above, without those whose values are damaged."""
    ds = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=[*_READ, *_COPIED, *_IDENTITY])
    for tag in list(ds.keys()):
        try:
            ds[tag]
        except Exception:                           # each type of value fails in its own way
            notice(f"{keyword_for_tag(tag)} of the source has a value that cannot be read and is left out")
            del ds[tag]
    return ds


def _plane_of_header(header: pydicom.Dataset, frame: int) -> _Plane:
    """From the image's own tags, or the frame's functional groups (PS3.3 C.7.6.16.2.1, .3 and .4)."""
    axes = functional_group(header, frame, "PlaneOrientationSequence") or header
    place = functional_group(header, frame, "PlanePositionSequence") or header
    measures = functional_group(header, frame, "PixelMeasuresSequence") or header
    orientation = np.asarray(axes.ImageOrientationPatient, dtype=float)
    thickness = measures.get("SliceThickness")
    down, right = (float(value) for value in measures.PixelSpacing)
    return _Plane(np.asarray(place.ImagePositionPatient, dtype=float), orientation[:3], orientation[3:], (down, right),
                  abs(float(thickness)) if thickness else None)


def _plane_of_affine(affine: np.ndarray, index: int) -> _Plane:
    """Slice `index` of a volume whose `affine` maps (column, row, slice, 1) to RAS+."""
    lps = _LPS_FROM_RAS @ affine
    right, down = np.linalg.norm(lps[:3, 0]), np.linalg.norm(lps[:3, 1])
    along_row, along_column = lps[:3, 0] / right, lps[:3, 1] / down
    thickness = abs(float(np.cross(along_row, along_column) @ lps[:3, 2]))
    return _Plane(lps[:3] @ [0, 0, index, 1], along_row, along_column, (float(down), float(right)), thickness)


def _at_right_angles(plane: _Plane, scan: Scan) -> _Plane:
    """The plane as it is if its axes have length 1 and are at right angles within 1e-4 (PS3.3 C.7.6.2.1.1)."""
    axes = np.stack([plane.along_row, plane.along_column])
    if np.allclose(axes @ axes.T, np.eye(2), atol=1e-4):
        return plane
    notice(f"{scan.name}: the directions of its rows and columns are not unit vectors at right angles; made so")
    along_row = axes[0] / np.linalg.norm(axes[0])
    along_column = axes[1] - (axes[1] @ along_row) * along_row
    return replace(plane, along_row=along_row, along_column=along_column / np.linalg.norm(along_column))


# ---- who and what it is called ---------------------------------------------------------------------------------------

class _Identifiers:
    """The names and UIDs of one scan's output.

    With identities kept, patient, study and frame of reference are the source's, so that the series lies in its study.
    Otherwise they are replaced together: a study cannot belong to two patients (PS3.3 A.1.2), and the basic profile
    replaces UIDs (U in PS3.15 E.1-1). Replacements are the same for all scans of a patient in a run.
    """

    def __init__(self, scan: Scan, identity: SeriesIdentity, keep: bool) -> None:
        self.patient, self.identity, self.keep = scan.patient, identity, keep
        self.pseudonym = pseudonym(scan.patient, identity)

    def new(self, *parts: object) -> UID:
        """A UID that belongs to this run, this patient and these parts (PS3.5 B.2: made of a UUID)."""
        return UID(f"2.25.{_derived(self.identity, self.patient, *parts).int}")

    def referred(self, kind: str, uid: object, otherwise: str) -> UID:
        """What stands for a UID of the source; made from `otherwise` where the source has none."""
        if self.keep and uid:
            if UID(str(uid)).is_valid:
                return UID(str(uid))
            notice(f"the source's {kind} UID is not one that DICOM allows and is replaced: {uid}")
        return self.new(kind, uid or otherwise)


def _derived(identity: SeriesIdentity, *parts: object) -> uuid.UUID:
    return uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_OID, identity.digest), "\0".join(map(str, parts)))


def file_names(scan: Scan, slices: Sequence[Slice], taken: Callable[[str], bool],
               sources: _Sources | None = None) -> list[str]:
    """The files of `write_dicom`, relative to its folder, one a slice: its file's own relative path, or <scan>/<number>
    where one file holds several slices. taken: whether there is such a path already."""
    paths = [s.path.relative_to(scan.root) for s in slices]
    several = scan.kind == "nifti" or len(set(paths)) < len(paths) or scan.frames is not None
    if several or (scan.kind == "dicom" and len((sources or _Sources(scan)).file(slices[0].path)[2]) > 1):
        digits = max(3, len(str(slices[-1].index + 1)))
        base = paths[0].as_posix() if taken(scan.name) else scan.name
        return [f"{base}/{s.index + 1:0{digits}d}.dcm" for s in slices]
    stems = [path.parent / _stem(path, scan.kind) for path in paths]
    # 1.ima beside 1.dcm: such names keep their ending.
    both = {stem for stem in stems if stems.count(stem) > 1 or taken(f"{stem.as_posix()}.dcm")}
    return [f"{(p if stem in both else stem).as_posix()}.dcm" for p, stem in zip(paths, stems, strict=True)]


def _stem(path: PurePath, kind: str) -> str:
    """A DICOM file's name is often a UID, whose last number is no ending."""
    return stem_of(path) if kind != "dicom" or path.suffix.lower() in _DICOM_ENDINGS else path.name


# ---- the header ------------------------------------------------------------------------------------------------------

def _patient_and_study(names: _Identifiers, source: _Source) -> pydicom.Dataset:
    """Patient and General Study Modules, PS3.3 C.7.1.1 and C.7.2.1."""
    ds = pydicom.Dataset()
    for keyword in _REQUIRED_IDENTITY:
        setattr(ds, keyword, None)
    ds.StudyInstanceUID = names.referred("study", source.header.get("StudyInstanceUID"), source.scan_key)
    if names.keep:
        _copy(source.header, ds, _IDENTITY)
        ds.PatientID = ds.PatientID or _words(names.patient)
        ds.PatientIdentityRemoved = "YES" if source.header.get("PatientIdentityRemoved") == "YES" else "NO"
        if ds.PatientIdentityRemoved == "YES":
            ds.DeidentificationMethod = _words(source.header.get("DeidentificationMethod") or "as in the source images")
        return ds
    ds.PatientName, ds.PatientID = f"{names.pseudonym}^", names.pseudonym
    # PS3.15 E.2: code of the profile (PS3.16 CID 7050), and that no date or time is left.
    ds.PatientIdentityRemoved, ds.LongitudinalTemporalInformationModified = "YES", "REMOVED"
    ds.DeidentificationMethod = "New header, only geometry copied from the source; UIDs replaced"
    ds.DeidentificationMethodCodeSequence = [_code("113100", "Basic Application Confidentiality Profile")]
    return ds


def _series(names: _Identifiers, source: _Source) -> pydicom.Dataset:
    """General Series, Frame of Reference and General Equipment Modules, PS3.3 C.7.3.1, C.7.4.1 and C.7.5.1."""
    header, identity, ds = source.header, names.identity, pydicom.Dataset()
    ds.Modality = "CT"
    ds.SeriesInstanceUID = names.new("series", names.keep, source.scan_key)
    ds.SeriesNumber = 9000 + int(header.get("SeriesNumber") or 0) % 1000
    ds.SeriesDescription = _words(f"Synthetic CT (not acquired), {identity.run}")
    ds.FrameOfReferenceUID = names.referred("frame", source.placed and header.get("FrameOfReferenceUID"),
                                           source.scan_key)
    part = str(header.get("BodyPartExamined") or "").strip().upper()
    ds.BodyPartExamined = part if re.fullmatch(r"[A-Z0-9_ ]{1,16}", part) else identity.body_part
    if ds.BodyPartExamined not in _UNPAIRED:
        ds.Laterality = header.Laterality if header.get("Laterality") in ("L", "R") else None
    ds.Manufacturer, ds.ManufacturerModelName = "DUIIT", "synthetic CT"
    ds.SoftwareVersions = _words(identity.model)
    return ds


def _instance(names: _Identifiers, source: _Source, s: Slice, pixels: np.ndarray) -> pydicom.Dataset:
    """What differs from file to file: SOP Common, General Image, Image Plane, Image Pixel and CT Image Modules."""
    ds = pydicom.Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = names.new("instance", names.keep, source.scan_key, source.key, s.index, pixels.shape)
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    ds.InstanceNumber = s.index + 1
    ds.AcquisitionNumber = ds.PatientPosition = None            # to be there, if only empty: C.8.2.1 and C.7.3.1
    _add_derivation(ds, names, source)
    _add_plane(ds, source.plane.resized(s.image.shape[-2:], pixels.shape))
    _add_pixels(ds, pixels)
    _copy(source.header, ds, _COPIED)
    return ds


def _add_derivation(ds: pydicom.Dataset, names: _Identifiers, source: _Source) -> None:
    """PS3.3 C.7.6.1.1.3: that it is derived, from which image, and how."""
    identity, header = names.identity, source.header
    unknown = "" if source.placed else "Position and size are not known: pixels and slices of 1 mm are assumed. "
    limited = "" if identity.window is None else (
        f"Values are limited to {identity.window[0]:g} to {identity.window[1]:g} HU: what is denser or thinner, "
        "bone and air, is given as these ends. ")
    modality = header.get("Modality") or identity.source
    ds.DerivationDescription = _words(
        f"Synthetic CT: computed by a neural network, not acquired by a scanner. {unknown}{limited}Made by DUIIT "
        f"from {modality} images with model {identity.model}, run {identity.run}.", 1024)
    instance, kind = header.get("SOPInstanceUID"), header.get("SOPClassUID")
    if not instance or not kind:
        return
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID = kind
    item.ReferencedSOPInstanceUID = names.referred("image", instance, source.key)
    if source.frame is not None and UID(kind).name not in _SINGLE_FRAME:
        item.ReferencedFrameNumber = source.frame + 1
    item.PurposeOfReferenceCodeSequence = [_code("121322", "Source image for image processing operation")]  # CID 7202
    ds.SourceImageSequence = [item]


def _add_plane(ds: pydicom.Dataset, plane: _Plane) -> None:
    """Image Plane Module, PS3.3 C.7.6.2."""
    ds.ImagePositionPatient = _decimals(*plane.position)
    ds.ImageOrientationPatient = _decimals(*plane.along_row, *plane.along_column)
    ds.PixelSpacing = _decimals(*plane.spacing)
    ds.SliceThickness = None if plane.thickness is None else _decimals(plane.thickness)[0]


def _add_pixels(ds: pydicom.Dataset, pixels: np.ndarray) -> None:
    """Image Pixel, CT Image and VOI LUT Modules, PS3.3 C.7.6.3, C.8.2.1 and C.11.2."""
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = HU_RANGE[0], 1, "HU"
    ds.KVP = None                                   # no tube was there
    ds.WindowCenter, ds.WindowWidth = CT_WINDOWS["brain"]
    ds.WindowCenterWidthExplanation = "BRAIN"
    ds.PixelData = pixels.astype("<u2").tobytes()


# ---- values ----------------------------------------------------------------------------------------------------------

def _to_stored(scan: Scan, volume: np.ndarray) -> np.ndarray:
    """HU -> uint16 of 12 bits, (N, H, W)."""
    if volume.ndim != 3:
        raise UserError(f"--format dicom: {scan.name} has several channels, a CT has one; give --format tiff or npy")
    if not np.isfinite(volume).all():
        raise UserError(f"--format dicom: {scan.name}: the model gives values that are not finite; try another --epoch")
    low, high = HU_RANGE
    values = np.rint(volume)
    beyond = int(((values < low) | (values > high)).sum())
    if beyond:
        log.warning("%s: %d of %d values beyond %d to %d HU were clipped", scan.name, beyond, values.size, low, high)
    return (np.clip(values, low, high) - low).astype(np.uint16)


def _copy(header: pydicom.Dataset, ds: pydicom.Dataset, keywords: tuple[str, ...]) -> None:
    """Takes over what is there and valid; the rest is told and left as it is in `ds`."""
    for keyword in keywords:
        value = header.get(keyword)
        if value is None or not str(value).strip():
            continue
        try:
            for part in value if isinstance(value, MultiValue) else [value]:
                validate_value(header[keyword].VR, str(part), pydicom.config.RAISE)
            setattr(ds, keyword, str(value) if header[keyword].VR == "PN" else value)
        except (ValueError, TypeError):             # such as an age of "42"
            notice(f"{keyword} of the source has a value that DICOM does not allow and is left out")


def _words(text: str, limit: int = 64) -> str:
    """One line without the characters that LO and ST do not allow (PS3.5 6.2), cut to the length that they do."""
    return re.sub(r"[\\\x00-\x1f\x7f]+", " ", str(text)).strip()[:limit].strip()


def _decimals(*numbers: float) -> list[DSfloat]:
    """As DS, which has 16 characters (PS3.5 6.2)."""
    return [DSfloat(float(number) + 0.0, auto_format=True) for number in numbers]


def _code(value: str, meaning: str) -> pydicom.Dataset:
    """An item of the Code Sequence Macro, PS3.3 Table 8.8-1, in DICOM's own terms."""
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
