"""Ages as medical headers write them (DICOM's Age String), in years."""
import re

_PER_YEAR = {"Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
OLDEST = 130.0  # years; a larger age, such as the 999Y that some archives write, stands for "not told"


def parse_age(text: str | None) -> float | None:
    """Years from a DICOM Age String (PS3.5 6.2, VR AS: `063Y`, `006M`, `038W`, `012D`) or a bare number of years.

    None where it is empty, not an age, or more than anybody's.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([YMWD]?)\s*", str(text or ""), re.IGNORECASE)
    if not match:
        return None
    years = float(match[1]) / _PER_YEAR[match[2].upper() or "Y"]
    return years if years <= OLDEST else None
