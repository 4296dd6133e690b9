"""What the header of a DICOM file says of its frames: where each lies in the patient, and what tells it from others."""
from collections.abc import Mapping
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.tag import Tag

from duiit.data.readers.dicom_stacks import TELLING, Place, positions, slice_normal

# Private ones: b-values of Siemens, GE and Philips.
PRIVATE = {"Siemens_b": 0x0019100C, "GE_b": 0x00431039, "Philips_b": 0x20011003}
_TELLING_TAGS = {Tag(PRIVATE.get(name, name)): name for name in (*TELLING, *PRIVATE)}
FUNCTIONAL = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence")
_POSITIONS = {"ImagePositionPatient", "InStackPositionNumber"}     # dimensions that count the positions themselves


def functional_group(ds: pydicom.Dataset, frame: int, name: str) -> pydicom.Dataset | None:
    """An item of the multi-frame functional groups (PS3.3 C.7.6.16): the frame's own, else the one that all share."""
    per_frame, shared = ds.get("PerFrameFunctionalGroupsSequence"), ds.get("SharedFunctionalGroupsSequence")
    for group in (per_frame[frame] if per_frame and frame < len(per_frame) else None, shared[0] if shared else None):
        if group is not None and group.get(name):
            return group[name][0]
    return None


def frame_place(ds: pydicom.Dataset, frame: int) -> np.ndarray | None:
    """(4, 3) in LPS mm: steps along columns and rows, slice step, origin (PS3.3 C.7.6.2.1.1); None where not told."""
    place = place_of(ds, frame, telling=False)
    measures = functional_group(ds, frame, "PixelMeasuresSequence") or ds
    if place.orientation is None or place.origin is None or place.spacing is None:
        return None
    try:
        gap = abs(float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 1.0)) or 1.0
        orientation, (row_step, column_step) = np.asarray(place.orientation), place.spacing
        steps = np.stack([orientation[:3] * column_step, orientation[3:] * row_step,
                          slice_normal(place.orientation) * gap, np.asarray(place.origin)])
    except (TypeError, ValueError):
        return None
    return steps if np.isfinite(steps).all() and min(row_step, column_step) > 0 else None


def place_of(ds: pydicom.Dataset, frame: int = 0, telling: bool = True) -> Place:
    """The Place of one image, or of one frame of several. telling: whether what tells it from others is wanted."""
    plane = functional_group(ds, frame, "PlaneOrientationSequence") or ds
    origin = functional_group(ds, frame, "PlanePositionSequence") or ds
    measures = functional_group(ds, frame, "PixelMeasuresSequence") or ds
    if int(ds.get("NumberOfFrames") or 1) > 1:      # one position for the file cannot be that of each of its frames
        origin = pydicom.Dataset() if origin is ds else origin
    orientation = _numbers(plane.get("ImageOrientationPatient"), 6)
    try:
        slice_normal(orientation or ())
    except ValueError:
        orientation = None
    corner = _numbers(origin.get("ImagePositionPatient"), 3) if orientation else None
    location = _numbers([ds.get("SliceLocation")], 1)
    return Place(orientation, corner, _numbers(measures.get("PixelSpacing"), 2), location[0] if location else None,
                 _told(ds, frame) if telling else {})


def frame_order(ds: pydicom.Dataset) -> list[int]:
    """The frames of a file by position; as they are stored where one has none."""
    places = [place_of(ds, i, telling=False) for i in range(int(ds.get("NumberOfFrames") or 1))]
    depths = positions(places) if all(place.origin for place in places) else None
    return sorted(range(len(places)), key=lambda i: (round(depths[i], 3) if depths else 0.0, i))


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(part) for part in value)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else None


# -- what tells one from another -----------------------------------------------------------------------------------

def _told(ds: pydicom.Dataset, frame: int) -> Mapping[str, str]:
    told: dict[str, str] = {}
    groups = ds.get("PerFrameFunctionalGroupsSequence")
    if groups and frame < len(groups):
        told |= _dimensions(ds, groups[frame])
        _gather(groups[frame], told)
    _gather(ds, told, deep=False)
    return told


def _dimensions(ds: pydicom.Dataset, group: pydicom.Dataset) -> dict[str, str]:
    """Dimension Index Values (0020,9157) of one frame under the names of what they count, PS3.3 C.7.6.17."""
    content = group.get("FrameContentSequence") or [pydicom.Dataset()]
    values = content[0].get("DimensionIndexValues")
    values = [values] if isinstance(values, int) else list(values or [])
    dimensions = ds.get("DimensionIndexSequence") or []
    names = [keyword_for_tag(item.get("DimensionIndexPointer") or 0) for item in dimensions]
    named = {}
    for n, value in enumerate(values):
        name = (names[n] if n < len(names) else "") or f"Dimension{n + 1}"
        if name not in _POSITIONS:
            named[f"{name}Index" if name in TELLING else name] = str(value)
    return named


def _gather(ds: pydicom.Dataset, told: dict[str, str], deep: bool = True) -> None:
    """Adds the values of TELLING tags anywhere in a data set, as text; a damaged one is as good as none."""
    for tag in list(ds.keys()):
        name = _TELLING_TAGS.get(tag)
        if not (deep or name) or name in told:
            continue
        try:
            element = ds[tag]
        except Exception:  # each type of value fails in its own way
            continue
        if name:
            several = element.VM > 1 and not isinstance(element.value, (str, bytes))
            told[name] = "\\".join(map(str, element.value)) if several else str(element.value)
        elif element.VR == "SQ":
            for item in element.value:
                _gather(item, told)
