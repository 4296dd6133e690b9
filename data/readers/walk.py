"""Lists the files of a cohort's folder that can hold images: what to look at, what to pass over, nothing twice."""
import filecmp
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from duiit.data.readers.common import notice
from duiit.util.errors import UserError
from duiit.util.file_index import FileIndex
from duiit.util.files import natural_key
from duiit.util.problems import counted

log = logging.getLogger(__name__)

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm")
NUMPY_ENDINGS = (".npy", ".npz")
NIFTI_ENDINGS = (".nii", ".nii.gz")
ITK_ENDINGS = (".mha", ".mhd", ".nrrd", ".nhdr")
VOLUME_ENDINGS = (*NIFTI_ENDINGS, ".mgz", ".mgh", *ITK_ENDINGS)
PAIR_ENDINGS = (".img", ".hdr")             # Analyze and NIfTI in two files: a volume only where both are there
# Images in formats that are not read: left out, but not without a word.
UNREAD_ENDINGS = (".gif", ".webp", ".jp2", ".j2k", ".jpx", ".jxl", ".heic", ".heif", ".avif", ".tga", ".psd", ".exr",
                  ".dcm.gz", ".dicom.gz", ".ima.gz", ".img.gz", ".hdr.gz", ".mha.gz", ".nrrd.gz", ".nii.bz2",
                  ".nii.zst", ".mnc", ".mnc.gz", ".gipl", ".gipl.gz", ".brik", ".brik.gz", ".rec", ".par", ".ecat",
                  ".vtk", ".vti", ".svs", ".ndpi", ".czi", ".nd2", ".lsm", ".h5", ".hdf5", *PAIR_ENDINGS)
DICOM_ENDINGS = (".dcm", ".dicom", ".dic", ".ima")
TABLE_ENDINGS = (".csv", ".tsv", ".xlsx")
# Endings that never hold an image: not worth opening to look for a DICOM header.
_OTHER_ENDINGS = (*TABLE_ENDINGS, ".xls", ".ods", ".txt", ".md", ".rst", ".json", ".html", ".htm", ".css", ".js",
                  ".xml", ".pdf", ".zip", ".gz", ".tar", ".7z", ".log", ".toml", ".yaml", ".yml", ".ini", ".py", ".sh",
                  ".pth", ".pt", ".onnx", ".svg", ".mp4", ".bval", ".bvec", ".mat", ".pkl", ".db")

# Where a header names the file that holds its values: MetaImage's way, and NRRD's.
VALUES = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)[ \t]*(\S[^\r\n]*?)\s*$", re.IGNORECASE | re.MULTILINE)

_NOT_VISITED = {"mask", "masks", "__macosx"}


def can_hold_image(path: Path) -> bool:
    """Whether the ending leaves it open that this file is an image (DICOM files may have any ending, or none)."""
    name = path.name.lower()
    return name.endswith((*IMAGE_ENDINGS, *NUMPY_ENDINGS, *VOLUME_ENDINGS, *UNREAD_ENDINGS)) \
        or not name.endswith(_OTHER_ENDINGS)


def tell_unread(files: list[Path], root: Path) -> None:
    """One line on images that nobody here can read, with their number and endings."""
    endings = Counter(next(ending for ending in sorted(UNREAD_ENDINGS, key=len, reverse=True)
                           if path.name.lower().endswith(ending)) for path in files)
    if endings:
        what = ", ".join(f"{count} {ending}" for ending, count in endings.most_common())
        notice(f"{root}: left out images in formats that are not read ({what}, such as "
               f"{files[0].relative_to(root)}); convert them to PNG, TIFF or NIfTI, or unpack them")


def other_half(path: Path) -> Path | None:
    """Of a volume in two files, header and values, the other file; None where there is none."""
    name = path.name.lower()
    if name.endswith((".img", ".hdr")):
        ending = ".hdr" if name.endswith(".img") else ".img"
        return _first_file(path.with_suffix(ending), path.with_suffix(ending.upper()))
    if name.endswith((".mhd", ".nhdr")):
        try:
            with path.open("rb") as file:
                told = VALUES.search(file.read(2**16))
        except OSError:
            return None
        return _first_file(path.parent / told[1].decode(errors="replace")) if told else None
    return None


def tell_sideless(volumes: list[Path], root: Path) -> None:
    """One line on volumes whose headers do not say which side is left."""
    found = [path for path in volumes if _is_sideless(path)]
    if found:
        notice(f"{root}: the headers of {counted(len(found), 'volume')} do not say which side is left (Analyze, or "
               f"NRRD without a space, such as {found[0].relative_to(root)}), and the first axis is taken to run to "
               "the patient's left; give NIfTI where that is not so")


def _is_sideless(path: Path) -> bool:
    """By the header: Analyze lacks NIfTI's magic, and NRRD says `space` where it knows the patient's axes."""
    name = path.name.lower()
    try:
        if name.endswith(PAIR_ENDINGS):
            header = path if name.endswith(".hdr") else other_half(path)
            return header is not None and header.read_bytes()[344:347] not in (b"ni1", b"n+1")
        if name.endswith((".nrrd", ".nhdr")):
            with path.open("rb") as file:
                return re.search(rb"^space:", file.read(2**16).split(b"\n\n")[0], re.MULTILINE) is None
    except OSError:                     # reading it will say what is wrong
        return False
    return False


def _first_file(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def list_files(root: Path, exclude: Iterable[str] = (), masks: bool = False) -> list[Path]:
    """All visible files below `root`, at any depth, in natural order; links are followed, each folder is visited once.

    exclude: glob patterns on the path relative to `root`, or on one folder's or file's name.
    masks: whether to go into folders of that name too. Raises UserError for a folder that may not be listed.
    """
    root, patterns = Path(root), tuple(exclude)
    home = root.resolve()
    seen: set[Path] = set()
    files: list[Path] = []
    folders = [root]
    links: list[Path] = []
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)  # real folders first, so that their own path is kept
        target = folder.resolve()
        if target in seen or (folder != root and home.is_relative_to(target)):
            continue  # seen already, or a link back up to a folder that holds the whole cohort
        seen.add(target)
        for entry in _entries(folder):
            path = folder / entry.name
            if entry.name.startswith((".", "~$")) or _excluded(path.relative_to(root), patterns):
                continue
            if _is_dir(entry):
                if entry.name.lower() not in _NOT_VISITED or (masks and "mask" in entry.name.lower()):
                    (links if entry.is_symlink() else folders).append(path)
            else:
                files.append(path)
    return sorted(files, key=lambda path: natural_key(path.relative_to(root)))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: cannot list this folder ({error.strerror}); change its access rights") from None


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself
        return False


def _excluded(relative: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(relative.name, pattern) or fnmatch(relative.as_posix(), pattern) for pattern in patterns)


def drop_second_copies(files: list[Path], root: Path) -> list[Path]:
    """`files` without those that repeat another one deeper in the tree: `a/b/1.tif` again as `x/a/b/1.tif`.

    Archives carry such copies (the LGG MRI set comes with itself in a subfolder). A folder counts as a copy where
    path tails and sizes agree for a file and its bytes do for one file per folder; reading all would take too long.
    """
    known = {path.relative_to(root).parts: path for path in files}
    pairs: dict[tuple[Path, Path], list[tuple[Path, Path]]] = defaultdict(list)
    for parts, path in known.items():
        first = _first_copy(parts, known)
        if first is not None and first.stat().st_size == path.stat().st_size:
            pairs[first.parent, path.parent].append((first, path))
    copies = {copy for group in pairs.values() if _same_bytes(*group[0]) for _, copy in group}
    if copies:
        example = min(copies, key=lambda path: natural_key(path.relative_to(root)))
        log.warning("%s: %d files lie there a second time and are left out (such as %s)",
                    root, len(copies), example.relative_to(root))
    return [path for path in files if path not in copies]


def _first_copy(parts: tuple[str, ...], known: dict[tuple[str, ...], Path]) -> Path | None:
    # At least folder/file has to repeat: plain names such as 1.png recur in every folder.
    return next((known[parts[i:]] for i in range(1, len(parts) - 1) if parts[i:] in known), None)


def _same_bytes(first: Path, second: Path) -> bool:
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:
        return False


def looks_like_dicom(path: Path, index: FileIndex) -> bool:
    """By content: the `DICM` prefix of PS3.10 7.1, or, without a preamble, a data set that starts with group 2 or 8.

    A file that may not be opened, or whose ending says DICOM, counts too: reading it will say what is wrong.
    """
    if path.name.lower().endswith(DICOM_ENDINGS):
        return True
    try:
        return index.recall(path, "dicom", _starts_like_dicom)
    except PermissionError:
        return not path.suffix
    except OSError:  # a link to nowhere, or to itself
        return False


def _starts_like_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or (start[:2] in (b"\x02\x00", b"\x08\x00") and start[3:4] == b"\x00")
