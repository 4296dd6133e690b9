"""Opens volume files of any format as nibabel images, whose affine is RAS+ in mm: NIfTI, Analyze and FreeSurfer's MGH
through nibabel, MetaImage and NRRD through SimpleITK. `nifti.py` turns them into slices.
"""
import re
from pathlib import Path, PurePosixPath

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import FileBasedImage
from nibabel.spatialimages import SpatialImage

from duiit.data.readers.common import check_size
from duiit.data.readers.walk import ITK_ENDINGS, VALUES
from duiit.util.errors import UserError

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def open_volume(path: Path) -> FileBasedImage:
    """The file as an image with an affine. Raises UserError, and whatever the libraries raise on damaged files."""
    if path.name.lower().endswith(ITK_ENDINGS):
        return _open_with_itk(path)
    return nib.load(path)


def _open_with_itk(path: Path) -> SpatialImage:
    try:
        import SimpleITK as sitk  # noqa: N813 - its own name for itself
    except ImportError:
        raise UserError(f"{path}: takes SimpleITK to be read; pip install 'duiit[itk]', or convert it to "
                        "NIfTI") from None
    _refuse_values_elsewhere(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    check_size(path, (*(1,) * (3 - reader.GetDimension()), *reversed(reader.GetSize())))
    image = reader.Execute()
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise UserError(f"{path}: holds several frames or components ({image.GetNumberOfComponentsPerPixel()} values a "
                        "voxel); save one volume a file")
    return SpatialImage(sitk.GetArrayFromImage(image).T, _LPS_TO_RAS @ _affine(
        np.array(image.GetDirection()), np.array(image.GetSpacing()), np.array(image.GetOrigin())))


def _refuse_values_elsewhere(path: Path) -> None:
    """A header may name the files that hold its values: those of its own folder, not whatever lies on this machine."""
    with path.open("rb") as file:
        header = file.read(2**16)
    told = VALUES.search(header)
    if told is None or told[1].upper() == b"LOCAL":
        return
    listed = header[told.end():].split(b"\n\n")[0].splitlines() if told[1].upper().startswith(b"LIST") else []
    for name in (told[1], *listed):
        inner = PurePosixPath(name.decode(errors="replace").strip().replace("\\", "/"))
        if inner.is_absolute() or ".." in inner.parts or re.match(r"[A-Za-z]:", str(inner)):
            raise UserError(f"{path}: its values are in {inner}, outside of its folder, which is not read; bring both "
                            "into one folder")


def _affine(direction: np.ndarray, spacing: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """(4, 4) from indices to mm in LPS, of the first three axes; a flat image lies in one plane of 1 mm."""
    given = min(len(spacing), 3)
    affine = np.eye(4)
    affine[:given, :given] = (direction.reshape(len(spacing), -1) * spacing)[:given, :given]
    affine[:given, 3] = origin[:given]
    return affine
