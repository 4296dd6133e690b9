"""Sorts the images of a series into stacks, in each of which every position in the patient occurs once.

A series may hold several images at one position: magnitude and phase, echoes, phases of the heart, points in time, the
same image exported twice. What tells them apart stands in their headers. Knows nothing of files.
"""
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import combinations

import numpy as np

from duiit.util.files import natural_key

TURNED = 1e-3           # direction cosines that differ by less are one direction, as files round them; 0.06 degrees
SAME_SIZE = 1e-3        # and pixel sizes, in parts of the pixel
SAME_PLACE = (1e-3, 1e-2)   # mm; the smaller one where slices are very thin
FLAT = b"flat"          # the content of an image without a picture
MOST_TAGS = 3           # so many tags together may tell images apart
# Where values differ a little from slice to slice (times), their order at each position tells images apart as well.
ORDERED = ("TriggerTime", "NominalCardiacTriggerDelayTime", "FrameReferenceTime", "FrameReferenceDateTime",
           "FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime", "ContentTime")
# What may tell images at one position apart, PS3.6 keywords, the most telling first.
TELLING = ("TemporalPositionIdentifier", "TemporalPositionIndex", "EchoNumbers", "EchoTime", "EffectiveEchoTime",
           "ImageType", "FrameType", "ComplexImageComponent", "DiffusionBValue", "DiffusionGradientOrientation",
           "SequenceName", "InversionTime", "InversionTimes", "FlipAngle", "RepetitionTime", "ConvolutionKernel",
           "FilterType", "KVP", "SliceThickness", "StackID", "AcquisitionNumber", *ORDERED)


@dataclass(frozen=True)
class Place:
    """What one image's header says of where it lies, and of what tells it from others (`told`, by keyword)."""
    orientation: tuple[float, ...] | None = None        # direction cosines of rows and columns, LPS
    origin: tuple[float, ...] | None = None             # mm, LPS
    spacing: tuple[float, ...] | None = None            # mm between rows, between columns
    location: float | None = None                       # SliceLocation, for want of the above
    told: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stack:
    """members: indices of images. label: what tells them from the other stacks at the same positions, such as
    EchoNumbers_2. repeats: how many images were left out as they are among `members` already."""
    members: tuple[int, ...]
    label: str = ""
    repeats: int = 0


def slice_normal(orientation: Sequence[float]) -> np.ndarray:
    """Unit vector (3,) in LPS along which slices are ordered: across the image plane (PS3.3 C.7.6.2.1.1), with the
    sign that makes axial slices go from foot to head, coronal ones to the back and sagittal ones to the left.
    """
    row, column = np.asarray(orientation, dtype=float).reshape(2, 3)
    normal = np.cross(row, column)
    length = np.linalg.norm(normal)
    if not np.isfinite(length) or length < 1e-6:
        raise ValueError("ImageOrientationPatient has no direction")
    return normal / length * np.sign(normal[np.argmax(np.abs(normal))])


def positions(places: Sequence[Place]) -> list[float] | None:
    """mm along the slice normal of the first, growing towards head, left or back; None unless all are told."""
    if not places:
        return None
    first = places[0].orientation
    origins = [place.origin for place in places if place.origin is not None]
    if first is not None and len(origins) == len(places):
        return [float(value) for value in np.asarray(origins, dtype=float) @ slice_normal(first)]
    located = [place.location for place in places if place.location is not None]
    return located if len(located) == len(places) else None


def same_places(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """For each position in mm, the number of its place from 0: those closer than slices ever are share one."""
    order = np.argsort(values, kind="stable")
    gaps = np.diff(np.asarray(values, dtype=float)[order])
    near = float(np.clip(0.05 * gaps.max(), *SAME_PLACE)) if len(gaps) else 0.0
    numbers = np.empty(len(order), int)
    numbers[order] = np.concatenate([[0], np.cumsum(gaps > near)]) if len(order) else []
    return numbers


def alike(places: Sequence[Place]) -> list[list[int]]:
    """Indices of images that can lie in one volume: of one direction and pixel size, or without a position."""
    groups: list[list[int]] = []
    for i, place in enumerate(places):
        for group in groups:
            if _fit(places[group[0]], place):
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def _fit(one: Place, other: Place) -> bool:
    if (one.origin is None) != (other.origin is None):
        return False
    return _close(one.orientation, other.orientation, TURNED) and _close(
        one.spacing, other.spacing, SAME_SIZE * max(one.spacing or (1.0,)))


def _close(one: Sequence[float] | None, other: Sequence[float] | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.abs(np.subtract(one, other)).max() <= tolerance)


def stacks_of(places: Sequence[Place], content: Callable[[int], bytes]) -> list[Stack]:
    """The stacks among images that can lie in one volume.

    content: a digest of an image's pixels, FLAT where all are alike; asked for only where positions repeat.
    Where nothing tells repeated positions apart, the one stack still holds them: no order of it is right.
    """
    where = positions(places)
    if where is None:
        return [Stack(tuple(range(len(places))))]
    numbers = same_places(where)
    everything = tuple(range(len(places)))
    if not _repeats(numbers, everything):
        return [Stack(everything)]
    if _all_alike(numbers, content):
        kept = _first_of_each(numbers, content, everything)
        return [Stack(kept, repeats=len(places) - len(kept))]
    kept = everything
    parts = _told_apart(numbers, places, kept)
    if parts is None:       # some images twice, beside others that differ
        kept = _first_of_each(numbers, content, everything)
        parts = _told_apart(numbers, places, kept) if _repeats(numbers, kept) else {"": kept}
    if parts is None:
        return [Stack(everything)]
    first = len(places) - len(kept)
    return [Stack(members, label, first if n == 0 else 0) for n, (label, members) in enumerate(parts.items())]


def _repeats(numbers: np.ndarray, members: Sequence[int]) -> bool:
    return len(np.unique(numbers[list(members)])) < len(members)


def _all_alike(numbers: np.ndarray, content: Callable[[int], bytes]) -> bool:
    """Whether the images at each position are one and the same, and show something. Stops at the first that are not."""
    first: dict[int, int] = {}
    shown = False
    for i, number in enumerate(map(int, numbers)):
        if first.setdefault(number, i) != i:
            if content(first[number]) != content(i):
                return False
            shown = shown or content(i) != FLAT
    return shown


def _first_of_each(numbers: np.ndarray, content: Callable[[int], bytes], members: Sequence[int]) -> tuple[int, ...]:
    crowd = np.bincount(numbers)
    seen: set[tuple[int, bytes]] = set()
    kept = []
    for i in members:
        key = (int(numbers[i]), content(i) if crowd[numbers[i]] > 1 else b"")
        if key not in seen:
            seen.add(key)
            kept.append(i)
    return tuple(kept)


# -- telling apart -------------------------------------------------------------------------------------------------

def _told_apart(numbers: np.ndarray, places: Sequence[Place],
                members: Sequence[int]) -> dict[str, tuple[int, ...]] | None:
    """{label: members} by the fewest tags whose values leave each position once in each part; None where none do."""
    names = dict.fromkeys([*TELLING, *(name for i in members for name in places[i].told)])
    told = {name: {i: places[i].told.get(name, "") for i in members} for name in names}
    told = {name: values for name, values in told.items() if len(set(values.values())) > 1}
    most = int(np.bincount(numbers[list(members)]).max())
    for parts in _candidates(numbers, told, members):      # as many stacks as there are images at a position
        if len(parts) == most and not any(_repeats(numbers, part) for part in parts.values()):
            return _labelled(parts)
    for name in told:       # more stacks than that where one tag says so: acquisitions that overlap
        parts = _sorted_by([name], told, members)
        if (name not in ORDERED and 2 * len(parts) <= len(members)
                and not any(_repeats(numbers, part) for part in parts.values())):
            return _labelled(parts)
    return None


Values = tuple[tuple[str, str], ...]       # ((keyword, value), …)


def _candidates(numbers: np.ndarray, told: Mapping[str, Mapping[int, str]],
                members: Sequence[int]) -> Iterator[dict[Values, list[int]]]:
    """Ways of sorting images by their tags: by one value, by several, by several and the order of another."""
    for size in range(1, MOST_TAGS + 1):
        for names in combinations(told, size):
            yield _sorted_by(names, told, members)
    for size in range(MOST_TAGS):
        for names in combinations(told, size):
            for name in ORDERED:
                ranked = _in_turn(numbers, _sorted_by(names, told, members), told.get(name, {}), name)
                if ranked:
                    yield ranked


def _sorted_by(names: Sequence[str], told: Mapping[str, Mapping[int, str]],
               members: Sequence[int]) -> dict[Values, list[int]]:
    parts: defaultdict[Values, list[int]] = defaultdict(list)
    for i in members:
        parts[tuple((name, told[name][i]) for name in names)].append(i)
    return dict(sorted(parts.items(), key=lambda part: natural_key("\n".join(value for _, value in part[0]))))


def _in_turn(numbers: np.ndarray, parts: Mapping[Values, list[int]], values: Mapping[int, str],
             name: str) -> dict[Values, list[int]]:
    """Each part once more by the rank of `values` at each position; nothing where counts or values do not allow it."""
    ranked: defaultdict[Values, list[int]] = defaultdict(list)
    for key, part in parts.items():
        here: defaultdict[int, list[int]] = defaultdict(list)
        for i in part:
            here[int(numbers[i])].append(i)
        counts = {len(found) for found in here.values()}
        distinct = all(len({values.get(i, "") for i in found}) == len(found) for found in here.values())
        if len(counts) > 1 or not distinct:
            return {}
        for found in here.values():
            for rank, i in enumerate(sorted(found, key=lambda i: _number(values.get(i, "")))):
                ranked[(*key, (name, str(rank + 1)))].append(i)
    return dict(ranked)


def _number(text: str) -> tuple[Decimal, list[int | str]]:
    try:
        return Decimal(text), []
    except InvalidOperation:
        return Decimal(0), natural_key(text)


def _labelled(parts: Mapping[Values, list[int]]) -> dict[str, tuple[int, ...]]:
    """Labels fit for names. Of values of several words, such as ImageType's, the words that differ."""
    values = list(parts)
    common = [set.intersection(*(set(key[n][1].split("\\")) for key in values)) for n in range(len(values[0]))]
    labelled: dict[str, tuple[int, ...]] = {}
    for key in values:
        words = []
        for (name, value), shared in zip(key, common, strict=True):
            own = [word for word in value.split("\\") if word not in shared]
            words.append("_".join([name, *("".join(c if c.isalnum() or c in ".+-" else "-" for c in word)
                                           for word in own if word)]))
        label = "_".join(words)
        while label in labelled:
            label += "_2"
        labelled[label] = tuple(parts[key])
    return labelled
