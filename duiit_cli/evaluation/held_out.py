"""What `duiit test` does: held-out images through the run's networks, scored and shown.

metrics.json: `predictor` (errors on real target images, by image and by patient, beside those of always answering the
training mean), `label_fidelity` (the predictor's errors on translated images), `images` (translated against the true
target image, where that is known). predictions.csv: one row an image.
"""
import logging
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from duiit.data import create_dataset, readers
from duiit.data.preparing.cohort import Row
from duiit.data.preparing.resampling import UnknownSpacing
from duiit.data.readers.common import stem_of
from duiit.data.readers.slice import HU, Label
from duiit.data.readers.walk import NUMPY_ENDINGS, VOLUME_ENDINGS
from duiit.models import find_model_using_name
from duiit.util import metrics
from duiit.util.errors import UserError
from duiit.util.files import atomic_folder, write_csv, write_json
from duiit.util.html import HTML
from duiit.util.progress import track
from duiit.util.visualizer import save_images
from duiit_cli.evaluation import plugin_runs as plain_testing
from duiit_cli.inference.networks import load_model, read, target_intensity, translate
from duiit_cli.inference.scan_answers import slice_answers

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
        if self.predicts:
            self._target()
        translates = hasattr(self.model, "translator")      # a model may learn from sources and translate none
        translated = [self._source(s) for s in self.dataset.sources] if translates else []
        if not self.rows:
            raise UserError(f"--phase {self.opt.phase}: no image of {self.opt.name} is in this part of the split")
        self._tables()
        for show in translated:
            show()
        write_json(folder / "metrics.json", self.report)
        write_csv(folder / "predictions.csv", self.rows)
        self.page.save()
        return self._summary()

    # -- real target images ------------------------------------------------------------------------------------

    def _target(self) -> None:
        target = self.dataset.target
        member, rows = self.dataset.members[target], self.dataset.target_part(self.opt.phase)
        answers = self._answers([member.cohort.image(r) for r in rows])
        self._record(target, target, rows, answers)
        self.report["predictor"] = {"modality": target, **self._errors(rows, answers), **self._floor(rows)}

    def _answers(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """(N,) labels, or (N, K) class probabilities."""
        return slice_answers(self.model.predictor(), images, self.opt, self.model.device)

    def _record(self, modality: str, seen_as: str, rows: Sequence[Row], answers: Iterable[Any]) -> None:
        for row, answer in zip(rows, answers, strict=True):
            names = self.opt.facts.classes if _is_class(answer) else ()
            chances = {f"p_{c}": float(p) for c, p in zip(names, answer, strict=True)} if names else {}
            self.rows.append({"modality": modality, "image": seen_as, "patient": row.patient, "file": row.file,
                              "slice": row.index + 1, "label": row.label,
                              "prediction": self._prediction_of(answer), **chances})

    def _prediction_of(self, answer: Any) -> float | str | None:
        """A number, or the name of the likeliest class; None where nothing was asked."""
        if answer is None:
            return None
        return self.opt.facts.classes[int(np.argmax(answer))] if _is_class(answer) else float(answer)

    def _errors(self, rows: Sequence[Row], answers: Iterable[Any]) -> dict[str, dict[str, Any]]:
        known = [(r, a) for r, a in zip(rows, answers, strict=True) if r.label is not None]
        labels, answers, patients = [r.label for r, _ in known], [a for _, a in known], [r.patient for r, _ in known]
        means = metrics.by_group(answers, patients)
        if self.opt.task == "classification":
            # A patient whose images have different classes has none of their own.
            of = {p: {lb for lb, q in zip(labels, patients, strict=True) if q == p} for p in means}
            whole = [p for p in means if len(of[p]) == 1]
            return {"by_image": self._class_errors(answers, labels),
                    "by_patient": self._class_errors([means[p] for p in whole], [next(iter(of[p])) for p in whole])}
        truths = metrics.by_group(labels, patients)
        return {"by_image": metrics.regression_errors(answers, labels),
                "by_patient": metrics.regression_errors(list(means.values()), list(truths.values()))}

    def _class_errors(self, chances: Sequence[np.ndarray], labels: Sequence[Label]) -> dict[str, Any]:
        predicted = [self._prediction_of(c) for c in chances]
        return metrics.classification_errors(predicted, labels, chances, self.opt.facts.classes)

    def _floor(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Always answering what the target's training images have on average (or most often)."""
        training = [r.label for r in self.dataset.target_part("train") if r.label is not None]
        if not training:
            return {}
        if self.opt.task == "classification":
            constant = np.asarray([training.count(c) / len(training) for c in self.opt.facts.classes])
        else:
            constant = float(np.mean(training))
        return {"predict_the_mean": self._errors(rows, [constant] * len(rows))}

    # -- translated images -------------------------------------------------------------------------------------

    def _source(self, source: str) -> Callable[[], None]:
        """Translates and scores one source; returns a function that shows the images, below the tables."""
        opt, member = self.opt, self.dataset.members[source]
        rows = member.rows[:int(min(opt.num_test, len(member.rows)))]
        truth = Truth(source, opt)
        net, back = self.model.translator(source), self.model.back_translator(source)
        shown, fakes, errors = [], [], []
        for row in track(rows, f"translating {source}"):
            real = member.cohort.image(row)
            fake = translate(net, [real], opt, self.model.device)[0]
            visuals = {"real_A": real, "fake_B": fake, "rec_A": translate(back, [fake], opt, self.model.device)[0]}
            true = truth.image(row)
            if true is not None:
                visuals["true_B"] = true
                errors.append(truth.errors(fake, true))
            fakes.append(fake)
            shown.append((row, visuals))
        answers = self._answers(fakes) if self.predicts else [None] * len(rows)
        self._record(source, f"{source} as {self.dataset.target}", rows, answers)
        if self.predicts:
            self.report.setdefault("label_fidelity", {})[source] = self._errors(rows, answers)
        if errors:
            means = {k: float(np.mean([e[k] for e in errors])) for k in errors[0]}
            self.report.setdefault("images", {})[source] = {"n": len(errors), **means}
        return lambda: self._show(source, shown, answers)

    def _show(self, source: str, shown: Sequence[tuple[Row, dict[str, np.ndarray]]], answers: Iterable[Any]) -> None:
        import torch

        for (row, visuals), answer in zip(shown, answers, strict=True):
            tensors = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in visuals.items()}
            name = f"{source}/{Path(row.file).with_suffix('')}" + (f"_{row.index + 1:03d}" if _of_volume(row) else "")
            save_images(self.page, tensors, [row.file], self.opt.aspect_ratio, self.opt.display_winsize, name=name)
            answer = self._prediction_of(answer)
            if answer is not None:
                label = "unknown" if row.label is None else _short(row.label)
                self.page.add_text(f"label {label}, read from the translation as {_short(answer)}")

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
        images = [{"source": s, **e} for s, e in self.report.get("images", {}).items()]
        if images:
            self.page.add_header("Translated images against the true ones")
            self.page.add_table(images)

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
        for source, errors in self.report.get("images", {}).items():
            text = ", ".join(f"{k} {_short(v)}" for k, v in errors.items() if k != "n")
            yield f"{source} translated, against the truth ({errors['n']} images): {text}"


class Truth:
    """The true target image of a source image, where a folder with mirrored paths holds it."""

    def __init__(self, source: str, opt: Namespace) -> None:
        folder = Path(opt.truth) if opt.truth else Path(opt.dataroot) / "truth" / source
        if opt.truth and not folder.is_dir():
            raise UserError(f"--truth {opt.truth}: no such folder")
        self.folder = folder if folder.is_dir() else None
        self.opt, self.intensity = opt, target_intensity(opt)
        # Slices of one volume are asked for one by one.
        self._last: tuple[Path | None, list[np.ndarray]] = None, []

    def image(self, row: Row) -> np.ndarray | None:
        """float32 (C, H, W) in [-1, 1] at loading size, or None."""
        if self.folder is None:
            return None
        place = self.folder / row.file
        found = [p for p in sorted(place.parent.glob("*")) if stem_of(p) == stem_of(place)]     # none: no such folder
        if not found:
            return None
        if self._last[0] != found[0]:
            scan = replace(readers.find_scans(found[0])[0], unit=HU if self.intensity.unit == HU else None)
            try:
                self._last = found[0], read(scan, self.opt.target, self.opt.output_nc, self.opt).images
            except UnknownSpacing as error:
                log.warning("%s (translations are not compared with the truth)", error)
                self.folder = None
                return None
        images = self._last[1]
        return images[row.index if len(images) > row.index else 0]

    def errors(self, fake: np.ndarray, true: np.ndarray) -> dict[str, float]:
        """MAE in the target's unit (within the window), PSNR and SSIM on [-1, 1], of the first channel."""
        errors = metrics.image_errors(fake[0].astype(np.float64), true[0].astype(np.float64), 2.0)
        unit = self.intensity.unit
        return {f"mae_{unit}_in_window": errors["mae"] * (self.intensity.high - self.intensity.low) / 2,
                "psnr": errors["psnr"], "ssim": errors["ssim"]}


def _is_class(answer: Any) -> bool:
    return answer is not None and np.ndim(answer) > 0


def _of_volume(row: Row) -> bool:
    return row.file.lower().endswith((*VOLUME_ENDINGS, *NUMPY_ENDINGS, ".img"))


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)
