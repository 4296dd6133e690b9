"""Lists the files of a cohort's folder that can hold images: what to look at, what to pass over, nothing twice."""
import filecmp
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from duiit.util.errors import UserError
from duiit.util.files import natural_key

log = logging.getLogger(__name__)

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm")
NUMPY_ENDINGS = (".npy", ".npz")
NIFTI_ENDINGS = (".nii", ".nii.gz")
TABLE_ENDINGS = (".csv", ".tsv", ".xlsx")
# Endings that never hold an image: not worth opening to look for a DICOM header.
_OTHER_ENDINGS = (*TABLE_ENDINGS, ".xls", ".ods", ".txt", ".md", ".rst", ".json", ".html", ".htm", ".css", ".js",
                  ".xml", ".pdf", ".zip", ".gz", ".tar", ".7z", ".log", ".toml", ".yaml", ".yml", ".ini", ".py", ".sh",
                  ".pth", ".pt", ".onnx", ".gif", ".svg", ".mp4", ".bval", ".bvec", ".mat", ".h5", ".pkl", ".db")

_MASK_FOLDERS = {"mask", "masks", "__macosx"}
_MASK_STEM = re.compile(r"(_mask|_HGE_Seg)$", re.IGNORECASE)


def is_mask(path: Path) -> bool:
    """Whether the file's own name says that it is a segmentation mask of a known data set, not an image."""
    name = path.name[:-3] if path.name.lower().endswith(".nii.gz") else path.name
    return bool(_MASK_STEM.search(Path(name).stem))


def can_hold_image(path: Path) -> bool:
    """Whether the ending leaves it open that this file is an image (DICOM files may have any ending, or none)."""
    name = path.name.lower()
    return name.endswith((*IMAGE_ENDINGS, *NUMPY_ENDINGS, *NIFTI_ENDINGS)) or not name.endswith(_OTHER_ENDINGS)


def list_files(root: Path, exclude: Iterable[str] = ()) -> list[Path]:
    """All visible files below `root`, at any depth, in natural order; links are followed, each folder is visited once.

    exclude: glob patterns on the path relative to `root`, or on one folder's or file's name.
    Raises UserError for a folder that may not be listed.
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
                if entry.name.lower() not in _MASK_FOLDERS:
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
