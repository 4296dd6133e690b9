"""The scans of an experiment's modalities: looked for once, for all that is asked of them before trainings begin."""
from argparse import Namespace
from pathlib import Path

from duiit.data.modality_dataset import loader_of
from duiit.data.readers.slice import Scan


class Survey:
    def __init__(self, opt: Namespace) -> None:
        self.opt = opt
        self._found: dict[str, list[Scan]] = {}

    def folder(self, modality: str) -> Path:
        return Path(self.opt.dataroot) / modality

    def scans(self, modality: str) -> list[Scan]:
        """With their labels, in natural order. Raises UserError where there are none."""
        if modality not in self._found:
            self._found[modality] = loader_of(modality).find_scans(self.folder(modality), self.opt)
        return self._found[modality]

    def labelled(self, modality: str) -> list[Scan]:
        """Those of which some image has a label."""
        return [s for s in self.scans(modality) if s.label is not None or any(v is not None
                                                                              for v in s.file_labels.values())]
