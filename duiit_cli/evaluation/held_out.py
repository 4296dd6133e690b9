"""What `duiit test` does: held-out images through the run's networks, scored and shown.

metrics.json: `predictor` (errors on real target images, by image and by patient, beside those of always answering the
training mean), `label_fidelity` (the predictor's errors on XX. predictions.csv: one row an image.
"""
import logging
import math
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from duiit.data import create_dataset
from duiit.data.preparing.cohort import Row
from duiit.data.readers.walk import NUMPY_ENDINGS, VOLUME_ENDINGS
from duiit.models import find_model_using_name
from duiit.util.errors import UserError
from duiit.util.files import atomic_folder, write_csv, write_json
from duiit.util.html import HTML
from duiit.util.problems import counted
from duiit.util.progress import track
from duiit.util.visualizer import save_images
from duiit_cli.evaluation import plugin_runs as plain_testing
from duiit_cli.evaluation.label_errors import Errors, errors_of_constant, errors_of_rows, named
from duiit_cli.evaluation.scan_errors import errors_in, in_words
from duiit_cli.evaluation.truth import TranslationErrors, Truth
from duiit_cli.inference.networks import in_batches, load_model, predict, translate

log = logging.getLogger(__name__)


def test(opt: Namespace) -> int:
    """Tests the run that `opt` names. Returns 0."""
    if plain_testing.is_needed(opt):
        return plain_testing.test(opt)
    model = load_tested(opt)                        # before its images are read, which may take long
    write_results(create_dataset(opt).dataset, model, opt,
                  Path(opt.results_dir) / opt.name / f"{opt.phase}_{opt.epoch}")
    return 0


def load_tested(opt: Namespace) -> Any:
    """The run's model, with all that it is tested for."""
    return load_model(opt, "translator" if hasattr(find_model_using_name(opt.model), "translator") else "predictor")


def write_results(dataset: Any, model: Any, opt: Namespace, where: Path) -> None:
    """Tests a model of `load_tested` on the images that `dataset` serves (of opt.phase) into `where`."""
    with atomic_folder(where, force=True) as folder:
        summary = Test(opt, dataset, model, HTML(folder, f"{opt.name}: {opt.phase} images, {opt.epoch}")).go(folder)
    for line in summary:
        log.info("%s", line)
    log.info("results are in %s", where / "index.html")


class Test:
    __test__ = False

    def __init__(self, opt: Namespace, dataset: Any, model: Any, page: HTML) -> None:
        self.opt, self.dataset, self.model, self.page = opt, dataset, model, page
        self.predicts = hasattr(model, "predictor")
        self.rows: list[dict[str, Any]] = []
        self.report: dict[str, Any] = {"name": opt.name, "model": opt.model, "epoch": opt.epoch, "phase": opt.phase}

    def go(self, folder: Path) -> Iterator[str]:
        """Fills `folder`; returns lines that sum it up."""
        pictures = HTML(folder, "")                         # below the tables, which are known at the end
        if self.predicts:
            self._target()
        if hasattr(self.model, "translator"):               # a model may learn from sources and translate none
            for source in self.dataset.sources:
                self._source(source, pictures)
        if not self.rows:
            raise UserError(f"--phase {self.opt.phase}: no image of {self.opt.name} is in this part of the split")
        self._tables()
        self.page.append(pictures)
        write_json(folder / "metrics.json", self.report)
        write_csv(folder / "predictions.csv", self.rows)
        self.page.save()
        return self._summary()

    # -- real target images ------------------------------------------------------------------------------------

    def _target(self) -> None:
        target = self.dataset.target
        member, rows = self.dataset.members[target], self.dataset.target_part(self.opt.phase)
        answers: list[Any] = []
        for some in in_batches(rows, self.opt.batch_size):
            answers += self._answers([member.cohort.image(r) for r in some])
        self._record(target, target, rows, answers)
        self.report["predictor"] = {"modality": target, **errors_of_rows(rows, answers, self.opt), **self._floor(rows)}

    def _answers(self, images: Sequence[np.ndarray]) -> list[Any]:
        """A label an image, or class probabilities (K,)."""
        return list(predict(self.model.predictor(), images, self.opt, self.model.device))

    def _record(self, modality: str, seen_as: str, rows: Sequence[Row], answers: Iterable[Any]) -> None:
        for row, answer in zip(rows, answers, strict=True):
            names = self.opt.facts.classes if np.ndim(answer) else ()
            chances = {f"p_{c}": float(p) for c, p in zip(names, answer, strict=True)} if names else {}
            self.rows.append({"modality": modality, "image": seen_as, "patient": row.patient, "file": row.file,
                              "slice": row.index + 1, "label": row.label,
                              "prediction": named(answer, self.opt), **chances})

    def _floor(self, rows: Sequence[Row]) -> dict[str, Errors]:
        """Always answering what the target's training images have on average (or most often)."""
        training = [r.label for r in self.dataset.target_part("train") if r.label is not None]
        known = [r for r in rows if r.label is not None]
        if not training or not known:
            return {}
        if self.opt.task == "classification":
            constant = np.asarray([training.count(c) / len(training) for c in self.opt.facts.classes])
        else:
            constant = float(np.mean(training))
        return {"predict_the_mean": errors_of_constant(constant, [r.label for r in known], [r.patient for r in known],
                                                       self.opt)}

    # -- translated images -------------------------------------------------------------------------------------

    def _source(self, source: str, pictures: HTML) -> None:
        """Translates, scores and shows one source, batch by batch."""
        member = self.dataset.members[source]
        rows = member.rows[:int(min(self.opt.num_test, len(member.rows)))]
        truth = Truth(source, self.opt)
        errors = TranslationErrors(truth)
        answers: list[Any] = []
        batches = math.ceil(len(rows) / self.opt.batch_size)
        for some in track(in_batches(rows, self.opt.batch_size), f"translating {source}", batches, "batches"):
            shown = self._visuals(source, some, truth, errors)
            found = self._answers([v["fake_B"] for v in shown]) if self.predicts else [None] * len(some)
            for row, visuals, answer in zip(some, shown, found, strict=True):
                self._show(source, row, visuals, answer, pictures)
            answers += found
        self._record(source, f"{source} as {self.dataset.target}", rows, answers)
        if self.predicts:
            self.report.setdefault("label_fidelity", {})[source] = errors_of_rows(rows, answers, self.opt)
        if paired := errors.report():
            self.report.setdefault("paired", {})[source] = paired

    def _visuals(self, source: str, rows: Sequence[Row], truth: Truth,
                 errors: TranslationErrors) -> list[dict[str, np.ndarray]]:
        """What the page shows of each image; its translation is compared with the truth on the way."""
        opt, model = self.opt, self.model
        real = [self.dataset.members[source].cohort.image(row) for row in rows]
        fake = translate(model.translator(source), real, opt, model.device)
        back = translate(model.back_translator(source), fake, opt, model.device)
        shown = [{"real_A": r, "fake_B": f, "rec_A": b} for r, f, b in zip(real, fake, back, strict=True)]
        for row, visuals in zip(rows, shown, strict=True):
            true = truth.image(row)
            if true is not None:
                visuals["true_B"] = true
                errors.take(row, visuals["fake_B"])
        return shown

    def _show(self, source: str, row: Row, visuals: Mapping[str, np.ndarray], answer: Any, pictures: HTML) -> None:
        import torch

        tensors = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in visuals.items()}
        name = f"{source}/{Path(row.file).with_suffix('')}" + (f"_{row.index + 1:03d}" if _of_volume(row) else "")
        save_images(pictures, tensors, [row.file], self.opt.aspect_ratio, self.opt.display_winsize, name=name)
        said = named(answer, self.opt)
        if said is not None:
            label = "unknown" if row.label is None else _short(row.label)
            pictures.add_text(f"label {label}, read from the translation as {_short(said)}")

    # -- what it comes to --------------------------------------------------------------------------------------

    def _tables(self) -> None:
        rows: list[dict[str, Any]] = []
        for title, part in self._parts():
            for unit in ("by_image", "by_patient"):
                if part.get(unit):
                    rows.append({"what": title, "error": unit.replace("_", " "), **part[unit]})
        if rows:
            self.page.add_header("Predicted labels")
            widest: dict[str, Any] = max(rows, key=len)
            self.page.add_table(rows, list(widest))
        for source, paired in self.report.get("paired", {}).items():
            self.page.add_header(f"{source} translated, against the truth: {in_words(paired)}")
            self.page.add_table([{"error": name, **found} for name, found in errors_in(paired).items()],
                                ["error", "mean", "sd", "n"])
            self.page.add_text(f"Over patients: {_extent(paired)}. What each figure is: docs/evaluating.md.")

    def _parts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if "predictor" in self.report:
            part = self.report["predictor"]
            yield f"real {part['modality']}", part
            yield "always the training mean", part.get("predict_the_mean", {})
        for source, part in self.report.get("label_fidelity", {}).items():
            yield f"{source} as {self.dataset.target}", part

    def _summary(self) -> Iterator[str]:
        for title, part in self._parts():
            errors = part.get("by_patient") or part.get("by_image")
            if errors:
                unit = "patients" if part.get("by_patient") else "images"
                text = ", ".join(f"{k} {_short(v)}" for k, v in errors.items()
                                 if k not in ("n", "bias") and v is not None)
                yield f"{title} ({errors['n']} {unit}): {text}"
        for source, paired in self.report.get("paired", {}).items():
            text = ", ".join(f"{k} {_short(v['mean'])}" for k, v in errors_in(paired).items() if v["mean"] is not None)
            yield f"{source} translated, against the truth ({_extent(paired)}; {in_words(paired)}): {text}"


def _extent(paired: Mapping[str, Any]) -> str:
    return f"{counted(paired['n']['patients'], 'patient')}, {counted(paired['n']['images'], 'image')}"


def _of_volume(row: Row) -> bool:
    return row.file.lower().endswith((*VOLUME_ENDINGS, *NUMPY_ENDINGS, ".img"))


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)
