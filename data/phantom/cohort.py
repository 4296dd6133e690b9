"""Draws the people of a cohort: ages, heads and scanner settings, each from the seed, the cohort and the number alone,
so that asking for more patients, slices or pixels does not change the patients that were there before."""
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from duiit.data.phantom.anatomy import Head, draw_head
from duiit.data.phantom.rendering import Scanner, draw_scanner

COHORTS = ("ct", "mri", "pet")  # the order is part of the seeding
AGE_LIMITS = {"ct": (5.0, 80.0), "mri": (20.0, 80.0), "pet": (18.0, 90.0)}
GOLDEN = (5 ** 0.5 - 1) / 2      # steps of it spread evenly over 0..1: even a small cohort covers its range of ages
LATENT, NOISE, TRUTH_NOISE = range(3)  # separate random streams of one person


@dataclass(frozen=True)
class Person:
    """One patient: id as it appears on disk, age in years, and all that was drawn."""
    id: str
    age: float
    sex: str
    head: Head
    scanner: Scanner
    key: tuple[int, ...]

    def rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([*self.key, stream])

    def record(self) -> dict[str, Any]:
        """The row of phantom.json."""
        return {"age": self.age, "sex": self.sex, "seed": list(self.key), "head": asdict(self.head),
                "scanner": asdict(self.scanner)}


def draw_cohort(cohort: str, count: int, age: tuple[float, float], seed: int) -> list[Person]:
    start = np.random.default_rng([seed, COHORTS.index(cohort)]).uniform()
    quantiles = (start + GOLDEN * np.arange(count)) % 1
    return [_draw_person(cohort, number, float(q), age, seed) for number, q in enumerate(quantiles)]


def _draw_person(cohort: str, number: int, quantile: float, age_law: tuple[float, float], seed: int) -> Person:
    key = (seed, COHORTS.index(cohort), number)
    rng = np.random.default_rng([*key, LATENT])
    age = round(_truncated_normal(quantile, *age_law, *AGE_LIMITS[cohort]), 2)
    sex = "MF"[int(rng.uniform() < 0.5)]
    return Person(_name(cohort, number), age, sex, draw_head(age, rng), draw_scanner(rng), key)


def _name(cohort: str, number: int) -> str:
    """The patient's id in the manner of the real data set."""
    return {"ct": f"{49 + number:03d}", "mri": f"PHANTOM_HD_{number + 1:04d}",
            "pet": f"HN-PHANTOM-{number + 1:03d}"}[cohort]


def _truncated_normal(quantile: float, mean: float, sd: float, low: float, high: float) -> float:
    """The `quantile` of a normal law that is cut to [low, high]."""
    if sd == 0:
        return min(max(mean, low), high)
    law = NormalDist(mean, sd)
    below, above = law.cdf(low), law.cdf(high)
    inside = below + quantile * (above - below)
    if not 0 < inside < 1:  # the limits lie so far out that nothing of the law is left between them
        return low if mean < low else high
    return min(max(law.inv_cdf(inside), low), high)
