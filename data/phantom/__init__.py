"""A seeded digital head: MRI, CT and PET cohorts whose ages are known, laid out on disk as the real data sets are.

`anatomy` turns a person (age, head shape, ...) into tissue maps, `rendering` turns the maps into CT, MRI and PET
images, `layouts` puts them into folders, and this file draws the cohorts and holds the two names that others use:
`PhantomSpec` and `write_phantom`. What is modelled, and what is not, is told in docs/phantom.md.
"""
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path

from duiit.data.phantom.anatomy import FIELD_OF_VIEW
from duiit.data.phantom.cohort import COHORTS, Person, draw_cohort
from duiit.data.phantom.layouts import write_ct, write_mri, write_pet
from duiit.util.errors import UserError
from duiit.util.files import atomic_folder

__all__ = ["PhantomSpec", "PhantomSummary", "write_phantom"]

VERSION = 1  # of the phantom: the same version, spec and seed give the same files; stands in phantom.json
MANIFEST = "phantom.json"

log = logging.getLogger(__name__)
Progress = Callable[[list[Person], int, str], Iterable[Person]]


@dataclass(frozen=True)
class PhantomSpec:
    """What to generate. Each field is an option of `duiit data phantom` under the same name.

    Ages are (mean, standard deviation) in years of a normal law, cut to the ages found in the real cohort
    (`data.phantom.cohort.AGE_LIMITS`). Few younger CT patients and many older MRI patients is the setting of the
    paper: CT is what a label is wanted for, the other cohorts are what can be borrowed.
    """
    size: int = 64                                # pixels along a side of every image
    slices: int = 8                               # axial slices a patient, spread over 40 mm
    ct_patients: int = 40
    mri_patients: int = 60
    pet_patients: int = 40
    ct_age: tuple[float, float] = (38.0, 24.0)
    mri_age: tuple[float, float] = (55.0, 16.0)
    pet_age: tuple[float, float] = (60.0, 12.0)
    noise: float = 1.0                            # factor on the noise of every scanner; 0 for none
    seed: int = 0

    def __post_init__(self) -> None:
        self._require("size", 16 <= self.size <= 1024, "between 16 and 1024")
        self._require("slices", 1 <= self.slices <= 200, "between 1 and 200")
        self._require("noise", 0 <= self.noise <= 100, "between 0 and 100")
        self._require("seed", self.seed >= 0, "0 or a positive whole number")
        for cohort in COHORTS:
            patients, age = f"{cohort}_patients", f"{cohort}_age"
            self._require(patients, 0 <= getattr(self, patients) <= 9000, "between 0 and 9000")
            self._require_age(age, getattr(self, age))
        if not any(self.patients(cohort) for cohort in COHORTS):
            raise UserError("--ct_patients, --mri_patients and --pet_patients are all 0: ask for at least one patient")

    def patients(self, cohort: str) -> int:
        return getattr(self, f"{cohort}_patients")

    def age(self, cohort: str) -> tuple[float, float]:
        return getattr(self, f"{cohort}_age")

    def _require_age(self, name: str, age: tuple[float, float]) -> None:
        ok = len(age) == 2 and 0 <= age[0] <= 100 and 0 <= age[1] <= 100
        self._require(name, ok, "MEAN,SD in years, both between 0 and 100")

    def _require(self, name: str, condition: bool, wanted: str) -> None:
        if not condition:
            raise UserError(f"--{name} {_shown(getattr(self, name))}: must be {wanted}")


@dataclass(frozen=True)
class PhantomSummary:
    """What was written: the folder, and patients and images (slices) by cohort."""
    output: Path
    patients: dict[str, int] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)


def write_phantom(output: Path, spec: PhantomSpec, progress: Progress | None = None,
                  force: bool = False) -> PhantomSummary:
    """Write the cohorts of `spec` into the folder `output`, whole or not at all.

    progress: wraps the loop over patients, called as progress(iterable, total, description).
    force: replace `output` if it holds an earlier phantom; a folder with anything else in it is never replaced.
    """
    output = Path(output).resolve()
    _refuse_occupied(output, force)
    people = {cohort: draw_cohort(cohort, spec.patients(cohort), spec.age(cohort), spec.seed) for cohort in COHORTS}
    with atomic_folder(output, force=True) as draft:        # nothing half-written stays behind, after Ctrl-C either
        _fill(draft, spec, people, progress or (lambda iterable, total, description: iterable))
    patients = {cohort: len(drawn) for cohort, drawn in people.items() if drawn}
    log.info("phantom written to %s: %s patients", output, patients)
    return PhantomSummary(output, patients, {cohort: n * spec.slices for cohort, n in patients.items()})


def _fill(draft: Path, spec: PhantomSpec, people: dict[str, list[Person]], progress: Progress) -> None:
    writers = {"ct": write_ct, "mri": write_mri, "pet": write_pet}
    for cohort, drawn in people.items():
        if drawn:
            each = partial(_followed, progress=progress, description=f"{cohort} patients")
            writers[cohort](draft, spec, drawn, each)
    patients = [{"id": p.id, "cohort": cohort, **p.record()} for cohort, drawn in people.items() for p in drawn]
    manifest = {"version": VERSION, "spec": {f.name: getattr(spec, f.name) for f in fields(spec)},
                "field_of_view_mm": FIELD_OF_VIEW, "patients": patients}
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _followed(people: list[Person], progress: Progress, description: str) -> Iterable[Person]:
    return progress(people, len(people), description)


def _refuse_occupied(output: Path, force: bool) -> None:
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: is a file; name a folder with --output")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not force:
        raise UserError(f"{output}: is not empty; choose another --output, or replace an old phantom with --force")
    if not (output / MANIFEST).is_file():
        raise UserError(f"{output}: holds no {MANIFEST}, so it is not a phantom and --force will not replace it")


def _shown(value: object) -> str:
    return ",".join(f"{v:g}" for v in value) if isinstance(value, tuple | list) else f"{value}"
