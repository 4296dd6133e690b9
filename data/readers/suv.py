"""From a PET header to standardised uptake values by body weight (SUVbw)."""
import math
import re
from datetime import datetime, timedelta

import pydicom

_PHILIPS_SUV, _PHILIPS_BQML = 0x70531000, 0x70531009  # private: factors to SUVbw and to Bq/ml, 0 where not known
_DAY = 86400.0


def suv_factor(ds: pydicom.Dataset) -> tuple[float | None, str]:
    """What to multiply the rescaled values of a PET image by to get SUVbw, or None and the reason why it is not known.

    SUVbw [g/ml] = activity [Bq/ml] * weight [kg] * 1000 / dose at the reference time [Bq], by the tags of PS3.3
    C.8.9.1 (Units (0054,1001), Decay Correction (0054,1102), Corrected Image (0028,0051)), C.8.9.2 (Radionuclide Total
    Dose (0018,1074), Half Life (0018,1075), Radiopharmaceutical Start Time (0018,1072)) and C.7.2.2 (Patient's Weight
    (0010,1030)), following QIBA's vendor-neutral recipe.
    """
    units = str(ds.get("Units") or "").upper()
    if units == "GML":
        kind = str(ds.get("SUVType") or "BW").upper()
        return (1.0, "") if kind == "BW" else (None, f"its SUV is of type {kind}, not by body weight")
    try:
        if units == "CNTS":
            return _from_counts(ds)
        if units == "BQML":
            return _weight(ds) * 1000 / _dose_at_reference(ds), ""
    except _UnknownError as unknown:
        return None, str(unknown)
    return None, f"Units (0054,1001) is '{units or 'empty'}'"


class _UnknownError(Exception):
    """The header does not tell what the conversion needs."""


def _from_counts(ds: pydicom.Dataset) -> tuple[float, str]:
    direct, activity = (float(ds[tag].value or 0) if tag in ds else 0.0 for tag in (_PHILIPS_SUV, _PHILIPS_BQML))
    if direct > 0:
        return direct, ""
    if activity > 0:
        return activity * _weight(ds) * 1000 / _dose_at_reference(ds), ""
    raise _UnknownError("Units (0054,1001) is CNTS and the private factor (7053,1000) is not there")


def _weight(ds: pydicom.Dataset) -> float:
    weight = float(ds.get("PatientWeight") or 0)
    if not 0.5 < weight < 500:
        raise _UnknownError("Patient's Weight (0010,1030) is empty or not a weight in kg")
    return weight


def _dose_at_reference(ds: pydicom.Dataset) -> float:
    """The injected activity in Bq, decayed to the time that the image values were corrected to."""
    tracer = (ds.get("RadiopharmaceuticalInformationSequence") or [pydicom.Dataset()])[0]
    dose, half_life = float(tracer.get("RadionuclideTotalDose") or 0), float(tracer.get("RadionuclideHalfLife") or 0)
    if dose < 1e4:  # less than any scan takes: empty, or in MBq against the standard
        raise _UnknownError("Radionuclide Total Dose (0018,1074) is empty or not in Bq")
    corrected = ds.get("CorrectedImage")
    if corrected is not None and "ATTN" not in corrected:
        raise _UnknownError("Corrected Image (0028,0051) lacks ATTN: not corrected for attenuation")
    correction = str(ds.get("DecayCorrection") or "").upper()
    if correction == "ADMIN":
        return dose
    if correction != "START":
        raise _UnknownError("Decay Correction (0054,1102) is neither START nor ADMIN")
    if half_life <= 0:
        raise _UnknownError("Radionuclide Half Life (0018,1075) is empty")
    waited = _seconds_since_injection(ds, tracer, half_life)
    return dose * 2 ** (-waited / half_life)


def _seconds_since_injection(ds: pydicom.Dataset, tracer: pydicom.Dataset, half_life: float) -> float:
    start = _scan_start(ds, half_life)
    injected = _time(start.strftime("%Y%m%d"), tracer.get("RadiopharmaceuticalStartTime"))
    if injected is None:
        injected = _stamp(tracer.get("RadiopharmaceuticalStartDateTime"))
        if injected is None:
            raise _UnknownError("Radiopharmaceutical Start Time (0018,1072) is empty")
    waited = (start - injected).total_seconds()
    waited += _DAY if -_DAY < waited < 0 else 0  # the time alone, and the scan went past midnight
    if not 0 <= waited < min(_DAY, 20 * half_life):
        raise _UnknownError("Radiopharmaceutical Start Time (0018,1072) does not fit the scan's")
    return waited


def _scan_start(ds: pydicom.Dataset, half_life: float) -> datetime:
    """The reference time of the decay correction: the series' time, unless the series was made after the scan."""
    series = _time(ds.get("SeriesDate"), ds.get("SeriesTime"))
    acquired = _time(ds.get("AcquisitionDate") or ds.get("SeriesDate"), ds.get("AcquisitionTime"))
    if series is not None and (acquired is None or series <= acquired):
        return series
    offset, length = ds.get("FrameReferenceTime"), ds.get("ActualFrameDuration")  # (0054,1300), (0018,1242), in ms
    if acquired is None or offset is None or length is None:
        raise _UnknownError("the time of the scan's start (0008,0031) is not told")
    # FrameReferenceTime names the moment in the frame at which the activity had its mean, counted from the start.
    decay = math.log(2) / half_life * float(length) / 1000
    mean = float(length) / 1000 * math.log(decay / -math.expm1(-decay)) / decay if decay > 1e-9 else 0.0
    return acquired - timedelta(seconds=float(offset) / 1000 - mean)


def _time(date: str | None, time: str | None) -> datetime | None:
    """Values of VR DA and TM; without a date any day will do, as only differences count."""
    return _stamp(f"{date or '19000101'}{time}") if time else None


def _stamp(text: str | None) -> datetime | None:
    digits, _, fraction = re.split(r"[+-]", str(text or "").replace(":", ""))[0].strip().partition(".")
    try:
        stamp = datetime.strptime(digits[:14], "%Y%m%d%H%M%S"[: 6 + len(digits[8:14])])
        return stamp + timedelta(seconds=float(f"0.{fraction or 0}"))   # of 122 s of half-life, one is half a percent
    except ValueError:
        return None
