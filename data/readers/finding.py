"""Finds the scans in a cohort's folder: groups files into acquisitions and says whose they are. Reads headers only."""
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from duiit.data.readers import numpy_file
from duiit.data.readers.common import stem_of
from duiit.data.readers.masks import without_masks
from duiit.data.readers.slice import Scan
from duiit.data.readers.walk import (
    IMAGE_ENDINGS,
    NUMPY_ENDINGS,
    PAIR_ENDINGS,
    UNREAD_ENDINGS,
    VOLUME_ENDINGS,
    can_hold_image,
    drop_second_copies,
    list_files,
    looks_like_dicom,
    other_half,
    tell_sideless,
    tell_unread,
)
from duiit.util.errors import UserError
from duiit.util.file_index import FileIndex
from duiit.util.files import natural_key
from duiit.util.problems import counted

if TYPE_CHECKING:
    from duiit.data.readers.dicom_series import Series

log = logging.getLogger(__name__)

# What archives write into PatientID (0010,0020) of everybody.
NOBODY = re.compile(r"(anon\w*|de-?identified|removed|unknown|none|patient|no ?id|x+|0+|-+)?", re.IGNORECASE)

PatientOf = Callable[[Path], str | None]


def find_scans(root: Path, patient_regex: str | None = None, exclude: Iterable[str] = (), *,
               modalities: tuple[str, ...] | None = None, masks: bool = False,
               index: FileIndex | None = None) -> list[Scan]:
    """The scans at `root`, a folder of any depth or a single file, in natural order of their names; unlabelled.

    patient_regex: its first matching group, on the path relative to `root`, names the patient.
    exclude: glob patterns on relative paths, or on a folder's or file's name. modalities: DICOM Modality values wanted.
    masks: whether segmentations are wanted, which are left out otherwise. index: what is known of files under `root`.
    One scan is one volume file, one DICOM series, or one patient's 2-D images in one folder. Masks, tables, hidden
    files, scout views and second copies are passed over. A damaged file is a scan too: reading it says what is wrong.
    Raises UserError for a path that does not exist, a single file that is no image, or a bad patient_regex.
    """
    root = Path(root)
    if not root.exists():
        raise UserError(f"{root}: there is no such file or folder; check the path")
    single = not root.is_dir()
    home = root.parent if single else root
    files = [root] if single else _candidates(root, exclude, masks)
    patient_of = _by_regex(patient_regex, files, home)
    scans = _group(files, home, patient_of, modalities, single, index or FileIndex(home, None))
    if single and not scans:
        raise UserError(f"{root}: is not an image that can be read; give a PNG, JPEG, TIFF, NumPy, NIfTI or DICOM file")
    return _with_unique_names(sorted(scans, key=lambda scan: (natural_key(scan.name), natural_key(scan.files[0]))))


def _candidates(root: Path, exclude: Iterable[str], masks: bool) -> list[Path]:
    files = [path for path in list_files(root, exclude, masks=True) if can_hold_image(path)]
    if not masks:
        files, left_out = without_masks(files, root)
        if left_out:
            log.info("%s: left out %s, by name (such as %s)", root, counted(len(left_out), "segmentation"),
                     left_out[0].relative_to(root))
    return drop_second_copies(files, root)


def image_patient(path: Path, root: Path) -> str:
    """Whose a 2-D image is: the first folder below `root`; directly in it, what `stem_patient` says."""
    relative = path.relative_to(root)
    return relative.parts[0] if len(relative.parts) > 1 else stem_patient(path)


def stem_patient(path: Path) -> str:
    """The file's stem up to its last separator and number, such as patA for patA_003.png; else the whole stem."""
    stem = stem_of(path)
    match = re.fullmatch(r"(.+?)[_\-. ]+(?:slice|img|image|s|z)?\d+", stem, re.IGNORECASE)
    return match[1] if match else stem


def _group(files: list[Path], root: Path, patient_of: PatientOf, modalities: tuple[str, ...] | None,
           single: bool, index: FileIndex) -> list[Scan]:
    images, volumes, dicom, unread = defaultdict(list), [], [], []
    halves = {path: other_half(path) for path in files}
    parts = set(halves.values())
    for path in files:
        kind, half = _kind(path), halves[path]
        if path in parts and not path.name.lower().endswith(".img"):
            continue                # belongs to a header, or to an .img, that stands for both
        if kind == "images" or (kind == "numpy" and _is_flat_array(path)):
            images[kind, path.parent, patient_of(path) or image_patient(path, root)].append(path)
        elif kind:
            patient = patient_of(path) or _volume_patient(path, root)
            whole = (path, half) if half is not None and half.is_relative_to(root) else (path,)
            volumes.append(Scan(_name(path, root), patient, whole, kind, root))
        elif looks_like_dicom(path, index):
            dicom.append(path)
        elif path.name.lower().endswith(UNREAD_ENDINGS):
            unread.append(path)
    tell_unread(unread, root)
    tell_sideless([scan.files[0] for scan in volumes], root)
    owners = Counter((kind, folder) for kind, folder, _ in images)
    scans = [_image_scan(key, paths, root, owners[key[:2]] > 1) for key, paths in images.items()] + volumes
    if not dicom:
        return scans
    from duiit.data.readers import dicom_series  # late: a folder without DICOM need not wait for pydicom

    if single:
        return scans + _single_dicom(dicom[0], root, patient_of)
    series, passed = dicom_series.group_series(dicom, modalities, root, index)
    if passed:
        others = ", ".join(f"{count} {modality}" for modality, count in sorted(passed.items()))
        log.log(logging.INFO if scans or series else logging.WARNING,
                "%s: left out DICOM images of other modalities (%s); wanted %s", root, others,
                " ".join(modalities or ()))
    return scans + _series_scans(series, root, patient_of)


def _kind(path: Path) -> str | None:
    name = path.name.lower()
    if name.endswith(PAIR_ENDINGS) and other_half(path) is not None:
        return "nifti"
    kinds = (("images", IMAGE_ENDINGS), ("numpy", NUMPY_ENDINGS), ("nifti", VOLUME_ENDINGS))
    return next((kind for kind, endings in kinds if name.endswith(endings)), None)


def _is_flat_array(path: Path) -> bool:
    try:
        return numpy_file.is_flat(numpy_file.array_shape(path))
    except UserError:
        return False  # a scan of its own: reading it says what is wrong


def _name(path: Path, root: Path) -> str:
    return (path.parent / stem_of(path)).relative_to(root).as_posix()


def _volume_patient(path: Path, root: Path) -> str:
    relative = path.relative_to(root)
    return relative.parts[0] if len(relative.parts) > 1 else stem_of(path)


def _image_scan(key: tuple[str, Path, str], paths: list[Path], root: Path, shared: bool) -> Scan:
    """shared: other patients' images lie in the folder as well."""
    kind, folder, patient = key
    name = folder.relative_to(root).as_posix()
    if folder == root or shared:
        name = patient if folder == root else f"{name}/{patient}"
    return Scan(name, patient, tuple(paths), kind, root)


def _single_dicom(path: Path, root: Path, patient_of: PatientOf) -> list[Scan]:
    """Exactly the file that was asked for, even a scout view; what is no image is told when it is read."""
    from duiit.data.readers import dicom_series

    try:
        header = dicom_series.read_header(path)
    except Exception:  # whatever a damaged header makes pydicom raise
        header = None
    known = header.patient_id if header and not NOBODY.fullmatch(header.patient_id) else None
    scan = Scan(stem_of(path), patient_of(path) or known or stem_of(path), (path,), "dicom", root)
    several = dicom_series.series_of([header]) if header else []
    return [replace(scan, name=_labelled(scan.name, one), frames=one.frames) for one in several] or [scan]


def _labelled(name: str, one: "Series") -> str:
    return f"{name}_{one.label}" if one.label else name


def _series_scans(series: "list[Series]", root: Path, patient_of: PatientOf) -> list[Scan]:
    series = sorted(series, key=lambda one: (natural_key(_folder(one).relative_to(root)), _series_label(one),
                                             natural_key(one.files[0])))
    # Stacks of one series have labels of their own.
    crowd = Counter(folder for folder, _, _ in {(_folder(one), _series_label(one), "" if one.label else one.files)
                                                for one in series if not one.problem})
    anonymous = _constant_ids(series, root)
    studies = len({one.headers[0].study for one in series if one.headers})
    scans = []
    for one in series:
        folder = _folder(one)
        name = "" if folder == root else folder.relative_to(root).as_posix()
        if one.problem or one.headers[0].frames > 1:
            name = _name(one.files[0], root)
        elif crowd[folder] > 1:
            name = PurePosixPath(name, f"series_{_series_label(one)}").as_posix()
        patient = patient_of(one.files[0]) or _dicom_patient(one, root, anonymous, studies > 1)
        scans.append(Scan(_labelled(name or root.resolve().name, one), patient, one.files, "dicom", root,
                          frames=one.frames))
    return scans


def _folder(series: "Series") -> Path:
    """The deepest folder that holds the whole series."""
    folders = {path.parent for path in series.files}
    folder = min(folders, key=lambda path: len(path.parts))
    while not all(other.is_relative_to(folder) for other in folders):
        folder = folder.parent
    return folder


def _series_label(series: "Series") -> str:
    return (series.headers[0].series_number if series.headers else "") or "0"


def _constant_ids(series: "list[Series]", root: Path) -> set[str]:
    """PatientIDs that stand for nobody: written by anonymisers, or one and the same in several top folders."""
    folders = defaultdict(set)
    for one in series:
        for header in one.headers:
            folders[header.patient_id].add(header.path.relative_to(root).parts[:-1][:1])
    constant = len(folders) == 1 and all(len(tops) > 1 for tops in folders.values())
    return {name for name in folders if constant or NOBODY.fullmatch(name)}


def _dicom_patient(one: "Series", root: Path, anonymous: set[str], several_studies: bool) -> str:
    if one.headers and one.headers[0].patient_id not in anonymous:
        return one.headers[0].patient_id
    relative = one.files[0].relative_to(root)
    if len(relative.parts) > 1:
        return relative.parts[0]
    return one.headers[0].study if one.headers and several_studies else root.resolve().name


def patient_regex(pattern: str) -> re.Pattern[str]:
    """--patient_regex, compiled. Raises UserError for one that cannot be, and for one without a group."""
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--patient_regex {pattern}: is not a regular expression ({error})") from None
    if not regex.groups:
        raise UserError(f"--patient_regex {pattern}: has no group; put the patient's part in brackets: '(sub-[0-9]+)'")
    return regex


def _by_regex(pattern: str | None, files: list[Path], root: Path) -> PatientOf:
    if not pattern:
        return lambda path: None
    regex = patient_regex(pattern)

    def patient_of(path: Path) -> str | None:
        match = regex.search(path.relative_to(root).as_posix())
        return next((group for group in match.groups() if group), None) if match else None
    return patient_of


def _with_unique_names(scans: list[Scan]) -> list[Scan]:
    """Names are unique in a cohort: of `a.png` and `a.nii`, the second becomes `a_nifti`."""
    taken, unique = set(), []
    for scan in scans:
        name, count = scan.name, 1
        while name in taken:
            name, count = f"{scan.name}_{scan.kind}" + (f"_{count}" if count > 1 else ""), count + 1
        taken.add(name)
        unique.append(scan if name == scan.name else replace(scan, name=name))
    return unique
