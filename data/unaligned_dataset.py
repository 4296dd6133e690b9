"""The toolkit's own layout: trainA, trainB, testA, testB (and valA, valB) under --dataroot, unpaired.

A is the source and B the target, or the other way round under --direction BtoA. Which part an image belongs to is said
by its folder, so no split is drawn. Labels are optional: a labels.csv in --dataroot (file: trainA/007.png, or patient).
8-bit images are scaled from 0..255, as the toolkit does; others as data/preparing/intensity.py says.
"""
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from duiit.data import splits
from duiit.data.cross_modality_dataset import CrossModalityDataset
from duiit.data.modality_dataset import ModalityDataset
from duiit.data.preparing.cohort import Row
from duiit.data.readers.labels import find_labelled_scans
from duiit.data.readers.slice import Scan
from duiit.util.errors import UserError

# The patient is the folder below trainA, or, for images right in it, the name without its last number.
PATIENT = r"^(?:train|val|test)[AB]/(?:([^/]+)/|([^/]+?)(?:[_\-. ]+(?:slice|img|image|s|z)?\d+)?(?:\.nii)?\.\w+$)"


class UnalignedDataset(CrossModalityDataset):
    @staticmethod
    def find_modalities(opt: Namespace) -> tuple[str, list[str]]:
        root = Path(opt.dataroot)
        part = "train" if opt.phase == "val" else opt.phase
        for side in "AB":
            if not (root / f"{part}{side}").is_dir():
                raise UserError(f"--dataroot {root}: no folder {part}{side}; make it, or choose --dataset_mode "
                                "cross_modality for one folder a modality")
        return ("B", ["A"]) if opt.direction == "AtoB" else ("A", ["B"])

    def item_keys(self) -> dict[str, str]:
        return {"A": "A", "B": "B"}     # by folder, as the toolkit's: the model sees to the direction

    def load(self, modality: str, opt: Namespace) -> ModalityDataset:
        channels = opt.output_nc if modality == self.target else opt.input_nc
        return SIDES[modality](opt, opt.dataroot, channels)

    def split(self, opt: Namespace, rows: Mapping[str, list[Row]]) -> splits.Parts:
        parts = {m: [r.file.split("/")[0][:-1] for r in members] for m, members in rows.items()}
        if opt.isTrain and opt.phase == "train":
            splits.write(Path(opt.checkpoints_dir) / opt.name, rows, parts, opt.split_by)
        return parts


class SideA(ModalityDataset):
    """Everything under trainA, valA and testA."""
    modality = "A"

    @classmethod
    def find_scans(cls, root: Path, opt: Namespace) -> list[Scan]:
        folders = {f"{part}{cls.modality}" for part in splits.PARTS}
        scans = [s for s in find_labelled_scans(root, opt, patient_regex=PATIENT) if s.name.split("/")[0] in folders]
        if not scans:
            raise UserError(f"{root}: no images in {', '.join(sorted(folders))}")
        return scans


class SideB(SideA):
    """Everything under trainB, valB and testB."""
    modality = "B"


SIDES = {"A": SideA, "B": SideB}
