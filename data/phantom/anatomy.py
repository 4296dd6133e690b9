"""A head as tissue maps: which share of every pixel is bone, grey matter, fluid and so on.

All shapes are smooth functions of the position in millimetres, so a head can be drawn at any number of pixels; a
pixel that an edge runs through gets its share of both sides (partial volume). Age is seen in the width of the
ventricles and of the grooves (sulci) of the cortex, and nowhere else. Positions are in the view of a radiologist:
x to the patient's left, y to posterior, z up, the origin in the middle of the
head, near the floor of the ventricles' bodies.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FIELD_OF_VIEW = 230.0  # mm along a side of every image
COVERED = 40.0         # mm of head that the slices of one patient span
FINEST = 1.8           # mm; images with larger pixels are drawn finer and averaged
PIXELS_AT_ONCE = 2 ** 20   # bounds the memory that large images take

TISSUES = ("air", "skin", "fat", "bone", "marrow", "csf", "grey", "white", "calcium", "blood")

# Person-to-person scatter of brain ageing, in years. What ventricles and sulci share cannot be averaged away; with
# the rest it leaves about 5.5 years of error (1 / (1/4.5^2 + 1/4.5^2) + 4.5^2) even where images are perfect.
SHARED_SCATTER = 4.5
OWN_SCATTER = 4.5
MAX_GROOVES = 30


@dataclass(frozen=True)
class Head:
    """The latent variables of one head. Lengths in mm, angles in radians, ages in years."""
    ventricle_age: float     # label-bearing: the age that the ventricles look like
    sulcus_age: float        # label-bearing: the age that the sulci look like
    half_width: float        # from here on free of the label
    half_length: float
    egg: float               # how much wider the back of the head is than the front
    outline: tuple[tuple[float, float], ...]   # (amplitude, phase) of the 3rd to 5th harmonic of the outline
    skull: float             # thickness
    scalp: float
    roll: float              # rotation in the image
    pitch: float             # tilt of the slices: forehead up
    yaw: float               # tilt of the slices: one ear up
    shift: tuple[float, ...]                # across and down
    level: float             # z of the middle slice
    asymmetry: float         # left ventricle wider (+) or right (-), relative
    ventricle_length: float  # factor
    grooves: int
    groove_widths: tuple[float, ...]
    groove_depths: tuple[float, ...]
    groove_warp: tuple[tuple[float, float], ...]
    calcified: tuple[float, ...]            # sizes of pineal, left and right choroid calcifications; 0 for none


def draw_head(age: float, rng: np.random.Generator) -> Head:
    shared = age + rng.normal(0, SHARED_SCATTER)
    scale = rng.normal(1, 0.035)
    return Head(
        ventricle_age=shared + rng.normal(0, OWN_SCATTER),
        sulcus_age=shared + rng.normal(0, OWN_SCATTER),
        half_width=float(np.clip(66 * scale * rng.normal(1, 0.025), 54, 76)),
        half_length=float(np.clip(82 * scale * rng.normal(1, 0.025), 68, 91)),
        egg=rng.uniform(0.01, 0.07),
        outline=tuple((rng.normal(0, 0.008), rng.uniform(0, 2 * np.pi)) for _ in range(3)),
        skull=rng.uniform(4.5, 8.0),
        scalp=rng.uniform(4.0, 8.0),
        roll=float(np.clip(rng.normal(0, 0.06), -0.25, 0.25)),
        pitch=float(np.clip(rng.normal(0, 0.07), -0.25, 0.25)),
        yaw=float(np.clip(rng.normal(0, 0.03), -0.1, 0.1)),
        shift=tuple(float(s) for s in np.clip(rng.normal(0, 2.0, 2), -6, 6)),
        level=float(np.clip(rng.normal(3, 3), -5, 11)),
        asymmetry=float(np.clip(rng.normal(0, 0.1), -0.3, 0.3)),
        ventricle_length=float(np.clip(rng.normal(1, 0.1), 0.7, 1.3)),
        grooves=int(rng.integers(20, MAX_GROOVES - 2)),
        groove_widths=tuple(float(w) for w in rng.uniform(0.6, 1.4, MAX_GROOVES)),
        groove_depths=tuple(float(d) for d in rng.uniform(7, 20, MAX_GROOVES)),
        groove_warp=tuple((rng.uniform(0, 0.06), rng.uniform(0, 2 * np.pi)) for _ in range(3)),
        calcified=tuple(float(r) for r in rng.uniform(1.5, 3.5, 3) * (rng.uniform(size=3) < 0.45)),
    )


def slice_spacing(slices: int) -> float:
    """mm between neighbouring slices."""
    return COVERED / max(slices, 4)


def slice_levels(head: Head, slices: int) -> np.ndarray:
    """(S,) z of the slices in mm, from foot to head."""
    return head.level + (np.arange(slices) - (slices - 1) / 2) * slice_spacing(slices)


def tissue_maps(head: Head, size: int, slices: int) -> dict[str, np.ndarray]:
    """The share of every tissue in every pixel: {tissue: (S, size, size) float32}, which add up to 1."""
    fold = int(np.ceil(FIELD_OF_VIEW / size / FINEST))
    levels = slice_levels(head, slices)
    together = max(1, PIXELS_AT_ONCE // (size * fold) ** 2)
    parts = [_drawn(head, _Grid(head, size * fold, levels[k:k + together]), fold)
             for k in range(0, slices, together)]
    return {tissue: np.concatenate([part[tissue] for part in parts]) for tissue in TISSUES}


def _drawn(head: Head, grid: "_Grid", fold: int) -> dict[str, np.ndarray]:
    """The maps of the slices of one grid, averaged to the pixels that were asked for."""
    maps: dict[str, np.ndarray] = {}
    remaining = np.float32(1)
    for tissue, cover in reversed(_layers(head, grid)):  # the last layer lies on top
        maps[tissue] = maps.get(tissue, 0) + remaining * cover
        remaining = remaining * (1 - cover)
    maps["air"] = np.asarray(remaining)
    return {tissue: _average(maps[tissue], fold) for tissue in TISSUES}


def _average(fine: np.ndarray, fold: int) -> np.ndarray:
    """(S, n * fold, n * fold) -> (S, n, n)"""
    n = fine.shape[-1] // fold
    return fine.reshape(-1, n, fold, n, fold).mean((2, 4), dtype=np.float32)


class _Grid:
    """The positions of the pixels in the head's own axes, and the two ways to turn a distance into a share."""

    def __init__(self, head: Head, n: int, levels: np.ndarray) -> None:
        self.pixel = np.float32(FIELD_OF_VIEW / n)
        axis = ((np.arange(n) + 0.5) * self.pixel - FIELD_OF_VIEW / 2).astype(np.float32)
        across, down = axis[None, :] - np.float32(head.shift[0]), axis[:, None] - np.float32(head.shift[1])
        c, s = np.float32(np.cos(head.roll)), np.float32(np.sin(head.roll))
        self.x, self.y = c * across + s * down, c * down - s * across                                 # (n, n)
        tilt = np.float32(np.tan(head.yaw)) * self.x - np.float32(np.tan(head.pitch)) * self.y
        self.z = levels.astype(np.float32)[:, None, None] + tilt                                      # (S, n, n)
        self.r, self.angle = np.hypot(self.x, self.y), np.arctan2(self.x, -self.y)                    # 0: forehead

    def inside(self, distance: np.ndarray | np.floating) -> np.ndarray:
        """Share of a pixel inside an edge that lies `distance` mm further out (negative: outside)."""
        return np.clip(distance / self.pixel + np.float32(0.5), 0, 1)

    def strip(self, offset: np.ndarray, half: np.ndarray | np.floating) -> np.ndarray:
        """Share of a pixel in a strip of the given half-width, `offset` mm from its middle line; right for strips
        thinner than a pixel too."""
        half, reach = np.maximum(half, 0), self.pixel / 2
        return (np.clip(offset + half, -reach, reach) - np.clip(offset - half, -reach, reach)) / self.pixel

    def ellipsoid(self, centre: Sequence[float], axes: Sequence[float], turn: float = 0.0) -> np.ndarray:
        """About how many mm inside an ellipsoid's edge, measured in the image; `turn` rotates it about z."""
        c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        dx, dy = self.x - np.float32(centre[0]), self.y - np.float32(centre[1])
        u, v = (c * dx + s * dy) / np.float32(axes[0]), (c * dy - s * dx) / np.float32(axes[1])
        steepness = np.hypot(u / np.float32(axes[0]), v / np.float32(axes[1]))
        w = (self.z - np.float32(centre[2])) / np.float32(axes[2])
        return (1 - (u * u + v * v) - w * w) / (2 * np.maximum(steepness, 0.02))


def _layers(head: Head, grid: _Grid) -> list[tuple[str, np.ndarray]]:
    """(tissue, coverage) from the outside in: each layer hides what comes before it."""
    depth = _depth_below_skull(head, grid)                                                            # (S, n, n)
    wave = 1 + np.float32(0.25) * np.cos(2 * grid.angle)      # forehead and back of the head are thicker
    skull, scalp = np.float32(head.skull) * wave, np.float32(head.scalp) * wave
    groove, to_groove = _grooves(head, grid, depth)
    gap = np.float32(_sulcal(head, 0.4, 3.2))                 # fluid between skull and brain
    white = np.minimum(depth - gap, to_groove) - np.float32(3.5)
    ventricle, calcium = _ventricles(head, grid), _calcifications(head, grid)
    return [
        ("skin", grid.inside(depth + skull + scalp)),
        ("fat", grid.inside(depth + skull + scalp - np.float32(1.8))),
        ("bone", grid.inside(depth + skull)),
        ("marrow", grid.strip(depth + skull / 2, skull * np.float32(0.2))),
        ("csf", grid.inside(depth)),
        ("grey", grid.inside(depth - gap)),
        ("white", grid.inside(white)),
        ("grey", _deep_grey(grid)),
        ("csf", np.maximum(groove, _fissures(head, grid, depth))),
        ("csf", ventricle),
        ("calcium", calcium),
        ("blood", _sinus(head, grid, depth)),
    ]


def _sulcal(head: Head, young: float, growth: float) -> float:
    """A width that grows with the age of the sulci: `young` at 0 years, `young + growth` at 80."""
    return max(young + growth * head.sulcus_age / 80, 0.1)


def _depth_below_skull(head: Head, grid: _Grid) -> np.ndarray:
    """mm below the skull's inner face; negative outside it."""
    edge = 1 / np.hypot(np.sin(grid.angle) / head.half_width, np.cos(grid.angle) / head.half_length)
    edge *= 1 - head.egg * np.cos(grid.angle) * np.abs(np.sin(grid.angle))
    for k, (amplitude, phase) in enumerate(head.outline, start=3):
        edge *= 1 + amplitude * np.cos(k * grid.angle + phase)
    dome = np.sqrt(np.maximum(1 - ((grid.z + 10) / 95) ** 2, 0.01))
    return edge.astype(np.float32) * dome.astype(np.float32) - grid.r


def _grooves(head: Head, grid: _Grid, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sulci all around the cortex: their coverage, and the distance from the nearest one in mm."""
    warp = sum(a * np.sin(k * grid.angle + p) for k, (a, p) in enumerate(head.groove_warp, start=2))
    meander = np.float32(0.02) * np.sin(depth / 4 + 3 * grid.angle)
    turns = (grid.angle + warp) * np.float32(head.grooves / (2 * np.pi)) + meander * head.grooves / 2
    number = np.floor(turns)
    offset = (turns - number - np.float32(0.5)) * (grid.r * np.float32(2 * np.pi / head.grooves))
    number = number.astype(np.intp) % head.grooves
    reach = np.asarray(head.groove_depths, np.float32)[number]
    half = np.asarray(head.groove_widths, np.float32)[number] * np.float32(_sulcal(head, 0.15, 1.6))
    half *= 1 - np.float32(0.5) * np.clip(depth / reach, 0, 1)  # narrower at the bottom
    coverage = grid.strip(offset, half) * grid.inside(reach - depth) * grid.inside(depth)
    return coverage, np.maximum(np.abs(offset) - half, depth - reach)


def _fissures(head: Head, grid: _Grid, depth: np.ndarray) -> np.ndarray:
    """Between the hemispheres in front and behind, and the Sylvian fissure at the sides in lower slices."""
    half = np.float32(_sulcal(head, 0.3, 1.6))
    long = np.abs(grid.y) - np.float32(0.42 * head.half_length) + np.maximum(grid.z - 20, 0) * 2
    middle = grid.strip(grid.x, half) * grid.inside(long)
    side = np.abs(grid.x)
    line = grid.y + 10 + np.float32(0.25) * (side - 45)
    lower = np.clip((8 - grid.z) / 6, 0, 1)
    taper = np.clip((side - np.float32(0.5 * head.half_width)) / 18, 0, 1)
    sylvian = grid.strip(line, np.float32(_sulcal(head, 0.4, 3.4)) * lower * taper)
    return np.maximum(middle, sylvian) * grid.inside(depth)


def _ventricles(head: Head, grid: _Grid) -> np.ndarray:
    """Frontal horns, bodies and atria on both sides, and the third ventricle."""
    age = np.clip(head.ventricle_age / 80, -0.15, 1.5)
    size = np.sqrt(head.half_width / 66 * head.half_length / 82)
    third = grid.ellipsoid((0, 2, -10), (1.2 + 3.2 * age, 12 * size, 14))
    nearest = third
    for side in (-1, 1):
        wide = (1.9 + 6.8 * age) * size * (1 + side * head.asymmetry)
        tall, long = 15 + 5 * age, head.ventricle_length * size * (1 + 0.25 * age)
        for centre, axes, turn in (
                ((side * (4 + wide) * 0.95, -20 * size, 3), (wide, 13 * long, tall), side * 0.3),
                ((side * (5 + wide), 2, 9), (wide, 22 * long, tall - 4), side * -0.1),
                ((side * (15 + wide), 27 * size, 3), (wide * 1.15, 14 * long, tall), side * -0.45)):
            nearest = np.maximum(nearest, grid.ellipsoid(centre, axes, turn))
    return grid.inside(nearest)


def _deep_grey(grid: _Grid) -> np.ndarray:
    """Thalamus, lentiform nucleus and the head of the caudate on both sides."""
    nearest = np.float32(-1e3)
    for side in (-1, 1):
        for centre, axes, turn in (((11, 6, -4), (8, 13, 12), -0.4), ((25, -4, -6), (7, 15, 12), -0.25),
                                   ((13, -17, 0), (5, 9, 12), 0.3)):
            nearest = np.maximum(nearest, grid.ellipsoid((side * centre[0], *centre[1:]), axes, side * turn))
    return grid.inside(nearest)


def _calcifications(head: Head, grid: _Grid) -> np.ndarray:
    """Harmless chalk in the pineal gland and the choroid plexus of some people, whatever their age."""
    nearest = np.float32(-1e3)
    for radius, centre in zip(head.calcified, ((0, 19, -3), (-21, 24, 2), (21, 24, 2)), strict=True):
        if radius:
            nearest = np.maximum(nearest, grid.ellipsoid(centre, (radius, radius, 2.5 * radius)))
    return grid.inside(nearest)


def _sinus(head: Head, grid: _Grid, depth: np.ndarray) -> np.ndarray:
    """The sagittal sinus: a vein at the midline, under the skull, in front (thin) and behind (thick)."""
    half = np.where(grid.y > 0, np.float32(3.5), np.float32(1.5))
    return grid.strip(grid.x, half - np.float32(0.4) * np.clip(depth, 0, 5)) * grid.strip(depth - 3, np.float32(3))
