"""Which image belongs to which: two folders of scans whose relative paths mirror one another, in whatever formats.

`duiit translate` turns a slice `p/a/3.tif` into `p/a/3.png`, and the third slice of a volume `p/a.nii` into
`p/a/003.png` or into the third slice of `p/a.nii.gz`. So an image is known by the folder (or the volume) it is in and
by its name there, in which a number is a number, however many zeros stand before it.
"""
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import PurePath

from duiit.data.readers.common import stem_of
from duiit.data.readers.slice import Scan, Slice
from duiit.util.errors import UserError

Key = tuple[str, int]             # the folder, or the volume, and what is the image's name or number there
Place = tuple[int, int]           # number of the scan, position in it
_DICOM_ENDINGS = (".dcm", ".dicom", ".ima")     # other "endings" of DICOM files are the last number of a UID


def keys_of(scan: Scan, slices: Sequence[Slice]) -> list[Key]:
    """One key a slice, the same for images of either folder that belong together."""
    if scan.kind == "nifti" or len({s.path for s in slices}) < len(slices):
        return [(scan.name, s.index + 1) for s in slices]
    return [_key_of_file(s.path.relative_to(scan.root), scan.kind) for s in slices]


def _key_of_file(path: PurePath, kind: str) -> Key:
    whole = kind == "dicom" and path.suffix.lower() not in _DICOM_ENDINGS
    stem = path.name if whole else stem_of(path)
    if stem.isdecimal():
        return path.parent.as_posix(), int(stem)
    return (path.parent / stem).as_posix(), 1


class Index:
    """The images of one folder by their keys. read: number of a scan -> its slices; called again when they are wanted,
    as all images of a folder do not fit into memory."""

    def __init__(self, scans: Sequence[Scan], read: Callable[[int], Sequence[Slice]]) -> None:
        self.scans = scans
        self.places: dict[Key, Place] = {}
        self.by_name: dict[str, tuple[int, int]] = {}       # {name of a scan: its number, how many slices it has}
        self.read = lru_cache(maxsize=2)(read)      # the scans of two mirrored folders come in the same order

    def note(self, number: int, slices: Sequence[Slice]) -> None:
        """Takes the slices of scan `number` into the index."""
        self.by_name[self.scans[number].name] = number, len(slices)
        for position, key in enumerate(keys_of(self.scans[number], slices)):
            self.places.setdefault(key, (number, position))

    def find(self, scan: Scan, slices: Sequence[Slice]) -> Sequence[Place | None]:
        """For each slice of a scan of the other folder its (number, position) here, or None.

        A volume goes with a scan of its name slice by slice in order: its file does not tell how its slices were named
        or numbered in the scan that it was made from.
        """
        number, count = self.by_name.get(scan.name, (None, 0))
        if number is not None and "nifti" in (scan.kind, self.scans[number].kind):
            if count == len(slices):
                return [(number, position) for position in range(count)]
            if scan.kind == "nifti":
                raise UserError(f"{scan.files[0]}: has {len(slices)} slices, and the scan {scan.name} of the other "
                                f"folder {count}; give the --slices that it was made with, or compare whole scans")
        return [self.places.get(key) for key in keys_of(scan, slices)]

    def slice(self, place: Place) -> Slice:
        number, position = place
        return self.read(number)[position]
