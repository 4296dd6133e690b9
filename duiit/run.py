"""A trained run in Python: its options, its data's facts, its networks at work on arrays, files and image objects."""
import os
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pydicom
from nibabel.spatialimages import SpatialImage

from duiit.data.modality_dataset import loader_of
from duiit.data.preparing.intensity import Intensity
from duiit.data.readers.numpy_file import array_shape, is_flat
from duiit.data.readers.slice import Scan, Slice
from duiit.data.writing.images import as_volume, save_nifti
from duiit.options import PredictOptions, TranslateOptions
from duiit.options.test_options import RunOptions
from duiit.util.errors import UserError
from duiit.util.files import atomic_path
from duiit_cli.inference import networks
from duiit_cli.inference.prediction import predictions, write_rows
from duiit_cli.inference.translation import source_of, translate_scan, translate_scans

Image = np.ndarray | str | os.PathLike[str] | SpatialImage | pydicom.Dataset | list[pydicom.Dataset]


# What `load` takes and a single call does not, and what of `duiit translate` is about the files that it writes.
OF_THE_RUN = {"name", "checkpoints_dir", "epoch", "load_iter", "device", "gpu_ids", "plugins", "suffix"}
OF_FILES = {"input", "format", "force", "resume", "keep_identity", "for_training", "keep_network_size", "keep_empty"}


@dataclass(frozen=True)
class Translation:
    """A synthetic target image, or a volume of them.

    values: float32 in `unit` (HU for CT). Of an array or an image file its own shape; of a DICOM series
        (slice, row, column); of a NIfTI volume (i, j, k) as it is stored.
    affine: (4, 4), from the indices of `values` to mm in RAS+ (NIfTI's convention); None where the source has none.
    """
    values: np.ndarray
    unit: str
    affine: np.ndarray | None = None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes .npy, or .nii and .nii.gz where there is an affine (HU as whole numbers)."""
        _check_ending(path)
        with atomic_path(path) as part:
            if str(path).lower().endswith(".npy"):
                np.save(part, self.values)
            elif self.affine is not None:
                save_nifti(part, self.values, self.affine, self.unit)
            else:
                raise UserError(f"{path}: NIfTI says where a volume lies, but this image has no affine; save as .npy")
        return Path(path)


def _check_ending(path: str | os.PathLike[str]) -> None:
    if not str(path).lower().endswith((".npy", ".nii", ".nii.gz")):
        raise UserError(f"{path}: give a name that ends in .npy, .nii or .nii.gz (translate_folder writes others)")


class Run:
    """A trained run. `duiit.load` makes one.

    options: what the run was trained with, and what `load` was given over it. facts: what its data said
    (util/facts.py).
    """

    def __init__(self, **given: Any):
        given["checkpoints_dir"] = Path(given.get("checkpoints_dir") or "checkpoints").resolve()
        self._given = given
        self.options = self._options(RunOptions, {})
        self.facts = self.options.facts
        self._model = networks.load_model(self.options, None)       # with a translator, a predictor, or both

    def __repr__(self) -> str:
        return f"<duiit run {self.options.name}: {self.options.model}>"

    def _options(self, kind: type, asked: Mapping[str, Any], **values: Any) -> Namespace:
        """The options of one call, of which `asked` are the caller's."""
        for name in OF_THE_RUN & set(asked):
            raise UserError(f"{name}: chooses the run, its weights or its place; give it to duiit.load")
        return kind().parse_values({**self._given, **asked, **values})

    def translate(self, image: Image, output: str | os.PathLike[str] | None = None, **options: Any) -> Translation:
        """One scan of the source modality as the target's: every slice of it, at its own size.

        image: a NumPy array (H, W) or (N, H, W) in the source's unit, the path of an image, a volume or a folder that
            holds one scan, a nibabel image, or pydicom's data set(s) of one series.
        output: a .npy, .nii or .nii.gz file to write besides.
        options: those of `duiit translate`, such as source="pet", slice_blend=1.
        Raises UserError for what cannot be read and for several scans (see translate_folder).
        """
        networks.refuse_without(self._model, "translator", self.options)
        for name in OF_FILES & set(options):
            raise UserError(f"{name}: is about files that are written; give it to translate_folder")
        if output is not None:
            _check_ending(output)
        with TemporaryDirectory() as scratch:
            path = _on_disk(image, Path(scratch))
            opt = self._options(TranslateOptions, options, input=path, output=Path(scratch) / "unused",
                                keep_empty=True)
            source = source_of(opt)
            scans = loader_of(source).find_scans(path, opt)
            if len(scans) > 1:
                raise UserError(f"{path}: holds {len(scans)} scans; translate_folder writes them all")
            slices, images = translate_scan(self._model.translator(source), scans[0], source, opt, self._model.device)
            made = _translation(scans[0], slices, images, networks.target_intensity(opt))
        if output is not None:
            made.save(output)
        return made

    def translate_folder(self, folder: str | os.PathLike[str], output: str | os.PathLike[str], **options: Any) -> Path:
        """What `duiit translate` does, with its options: every scan under `folder`, and labels.csv, into `output`."""
        networks.refuse_without(self._model, "translator", self.options)
        translate_scans(self._options(TranslateOptions, options, input=folder, output=output), self._model)
        return Path(output)

    def predict(self, image: Image, output: str | os.PathLike[str] | None = None, **options: Any) -> pd.DataFrame:
        """The label of target scans: the table of `duiit predict`, a row a scan (docs/predicting.md names the columns).

        image: as for `translate`, in the target's unit (HU), or a folder of any number of scans. output: a .csv or
        .json file to write besides. options: those of `duiit predict`, such as interval=0.8, per_slice=True.
        """
        networks.refuse_without(self._model, "predictor", self.options)
        with TemporaryDirectory() as scratch:
            opt = self._options(PredictOptions, options, input=_on_disk(image, Path(scratch)), output=output)
            rows, _, _ = predictions(opt, self._model)
        for row in rows:
            if Path(row["file"]).is_relative_to(scratch):
                row["file"] = None                      # it was an object, not a file of the caller's
        if output is not None:
            write_rows(rows, str(output))
        return pd.DataFrame(rows)


def _on_disk(image: Image, folder: Path) -> Path:
    """The image as a file: read from there it means what it means to the commands, down to the last bit."""
    if isinstance(image, (str, os.PathLike)):
        return Path(image)
    if isinstance(image, np.ndarray):
        np.save(folder / "array.npy", image)
        return folder / "array.npy"
    if isinstance(image, SpatialImage):
        name = Path(image.get_filename() or "volume").name.partition(".nii")[0]
        nibabel.save(_plain(image), folder / f"{name}.nii")
        return folder / f"{name}.nii"
    series = list(image) if isinstance(image, (list, tuple)) else [image]
    if not series or not all(isinstance(s, pydicom.Dataset) for s in series):
        raise UserError(f"{type(image).__name__}: give a NumPy array, a path, or an image of nibabel or pydicom")
    (folder / "series").mkdir()
    for number, dataset in enumerate(series):
        try:
            dataset.save_as(folder / "series" / f"{number:05d}.dcm", enforce_file_format=True)
        except Exception as error:          # whatever pydicom finds missing
            raise UserError(f"pydicom data set {number + 1} of {len(series)}: cannot be written as a file ({error}); "
                            "give one that was read from a file, or its path") from error
    return folder / "series"


def _plain(image: SpatialImage) -> nibabel.Nifti1Image:
    """The image's values as they are, in its place. nibabel.save on the image itself would tie the caller's object to
    our file, and scale whole numbers anew where its header has a slope."""
    values = np.asanyarray(image.dataobj)
    values = values.astype(np.int32) if values.dtype == np.int64 else values        # which NIfTI readers do not know
    plain = nibabel.Nifti1Image(values, image.affine, dtype=values.dtype)
    if hasattr(image.header, "get_xyzt_units"):
        plain.header.set_xyzt_units(*image.header.get_xyzt_units())
    return plain


def _translation(scan: Scan, slices: list[Slice], images: list[np.ndarray], intensity: Intensity) -> Translation:
    if scan.kind == "nifti" and images[0].shape[0] > 1:
        raise UserError(f"{scan.name}: the target has several channels, which a volume cannot hold; translate_folder "
                        "writes them with format='npy'")
    if len({i.shape for i in images}) > 1:
        raise UserError(f"{scan.name}: its images have unlike sizes; translate_folder writes each at its own")
    if scan.kind == "nifti":
        values, affine = as_volume(slices, images, intensity)
        return Translation(np.ascontiguousarray(values), intensity.unit, affine)
    values = np.moveaxis(intensity.restore(np.stack(images)), 1, -1)                        # (N, H, W, C)
    values = values[..., 0] if values.shape[-1] == 1 else values
    if scan.kind == "dicom" and slices[0].geometry is not None:
        _, affine = as_volume(slices, [i[:1] for i in images], intensity)                   # (column, row, slice)
        return Translation(values, intensity.unit, affine[:, [2, 1, 0, 3]])
    flat = scan.kind == "images" or (scan.kind == "numpy" and is_flat(array_shape(scan.files[0])))
    return Translation(values[0] if flat and len(values) == 1 else values, intensity.unit)
