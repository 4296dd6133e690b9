"""What a run's data said, apart from its options, which are what the user said.

A data set says it once, when training begins, as `opt.facts`; models read it there. It is kept in the run's folder as
facts.json (options/run_file.py), for test, translate, predict and the others.
"""
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from os import PathLike
from typing import Any

from duiit.util.errors import UserError


@dataclass(frozen=True)
class Facts:
    """None is what the data set did not say: one written for the toolkit says nothing.

    labels_known: training images that have a label.
    label_mean, label_std: of those labels, in label units (regression).
    label_stats: {modality: {"known": images with a label, "mean": …, "std": …}}, the last two in a regression.
    classes: names, in the order of the predictor's outputs (classification).
    target_range: (low, high, unit) that -1 and 1 of a target image stand for.
    batches_in_epoch: training steps in an epoch.
    file: where they were read.
    """
    labels_known: int | None = None
    label_mean: float | None = None
    label_std: float | None = None
    label_stats: Mapping[str, Mapping[str, Any]] | None = None
    classes: tuple[str, ...] | None = None
    target_range: tuple[float, float, str] | None = None
    batches_in_epoch: int | None = None
    file: str | None = field(default=None, compare=False)

    def need(self, name: str) -> Any:
        """The fact of that name. Raises UserError where it is not known."""
        value = getattr(self, name)
        if value is None and self.file:
            raise UserError(f"{self.file}: does not say {name}, which this needs; restore the file, or train anew on a "
                            "data set that says it")
        if value is None:
            raise UserError(f"--dataset_mode: the data set does not say {name}, which this model needs; choose one of "
                            "DUIIT's own, or see docs/plugins.md on opt.facts")
        return value

    def said(self) -> dict[str, Any]:
        """{name: value} of what is known, as JSON has it."""
        values = {k: v for k, v in asdict(self).items() if v is not None and k != "file"}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


NAMES = tuple(f.name for f in fields(Facts) if f.name != "file")


def from_json(values: Mapping[str, Any], file: str | PathLike[str]) -> Facts:
    """What `said` gave, and was written into `file` among other `values`."""
    known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in NAMES}
    return Facts(**known, file=str(file))
