"""Ages as medical headers write them (DICOM's Age String), in years."""
import re
from collections.abc import Iterable, Sequence
from statistics import median

from duiit.data.readers.common import notice

PER_YEAR = {"Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
OLDEST = 130.0  # years; a larger age, such as the 999Y that some archives write, stands for "not told"
INFANT = 2.0    # years; only where ages are mostly below it can an age of 0 days, weeks or months be meant


def parse_age(text: str | None) -> float | None:
    """Years from a DICOM Age String (PS3.5 6.2, VR AS: `063Y`, `006M`, `038W`, `012D`) or a bare number of years.

    None where it is empty, not an age, more than anybody's, or no years at all (`000Y`): an infant's age is written
    in months, weeks or days, and anonymisers fill in zeros. `000D` is 0, which only `ages_of` can judge.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([YMWD]?)\s*", str(text or ""), re.IGNORECASE)
    if not match:
        return None
    unit = match[2].upper() or "Y"
    years = float(match[1]) / PER_YEAR[unit]
    return None if years > OLDEST or (years == 0 and unit == "Y") else years


def ages_of(texts: Sequence[str | None], where: object) -> list[float | None]:
    """Years of one cohort's Age Strings. An age of 0 counts only among infants. Fillers are missing, with a notice
    that begins with `where`."""
    ages = without_fillers([parse_age(text) for text in texts])
    tell_fillers([text for text, age in zip(texts, ages, strict=True) if age is None and text and str(text).strip()],
                 len(texts), where)
    return ages


def without_fillers(ages: Iterable[float | None]) -> list[float | None]:
    """The ages, with None for 0 unless most of those that are above 0 are infants'."""
    ages = list(ages)
    known = [age for age in ages if age]
    infants = bool(known) and median(known) < INFANT
    return ages if infants else [age or None for age in ages]


def tell_fillers(texts: Sequence[object], count: int, where: object) -> None:
    if texts:
        shown = ", ".join(sorted({str(text).strip() for text in texts})[:3])
        notice(f"{where}: {len(texts)} of {count} ages are no ages but fillers ({shown}), taken as missing; give the "
               "true ones in a table of labels where they are known")
