"""Where one image or frame of a DICOM file lies in the patient."""
import numpy as np
import pydicom

from duiit.data.readers.dicom_series import slice_normal


def functional_group(ds: pydicom.Dataset, frame: int, name: str) -> pydicom.Dataset | None:
    """An item of the multi-frame functional groups (PS3.3 C.7.6.16): the frame's own, else the one that all share."""
    per_frame, shared = ds.get("PerFrameFunctionalGroupsSequence"), ds.get("SharedFunctionalGroupsSequence")
    for group in (per_frame[frame] if per_frame and frame < len(per_frame) else None, shared[0] if shared else None):
        if group is not None and group.get(name):
            return group[name][0]
    return None


def frame_place(ds: pydicom.Dataset, frame: int) -> np.ndarray | None:
    """(4, 3) in LPS mm: steps along columns and rows, slice step, origin (PS3.3 C.7.6.2.1.1); None where not told."""
    plane = functional_group(ds, frame, "PlaneOrientationSequence") or ds
    origin = (functional_group(ds, frame, "PlanePositionSequence") or ds).get("ImagePositionPatient")
    measures = functional_group(ds, frame, "PixelMeasuresSequence") or ds
    try:
        orientation = np.asarray(plane.get("ImageOrientationPatient"), dtype=float)
        row_step, column_step = (float(value) for value in measures.get("PixelSpacing"))
        gap = abs(float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 1.0)) or 1.0
        normal = slice_normal(orientation)
        place = np.stack([orientation[:3] * column_step, orientation[3:] * row_step, normal * gap,
                          np.asarray(origin, dtype=float)])
    except (TypeError, ValueError):
        return None
    return place if np.isfinite(place).all() and min(row_step, column_step) > 0 else None


def depth(place: np.ndarray | None) -> float:
    """mm along the slice normal; 0 where not told, which leaves frames in their order."""
    return 0.0 if place is None else round(float(place[2] @ place[3] / np.linalg.norm(place[2])), 3)
