"""How good a translator's images are, on one split: how much of the label survives, how far they are from the truth
where it is known, how far as a set from real images, and a few examples to look at.

The judge of labels is the PURE-CT network of the same split: it has seen real target images only, and none of the
patients on which its own error is measured.
"""
import logging
import math
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from duiit.data import create_dataset
from duiit.data.preparing.cohort import Row
from duiit.models.networks import feature_networks
from duiit.options import TestOptions
from duiit.util import image_quality
from duiit.util.errors import UserError
from duiit.util.progress import track
from duiit.util.util import save_image, tensor2im
from duiit_cli.evaluation.label_errors import errors_of_rows
from duiit_cli.evaluation.truth import TranslationErrors, Truth
from duiit_cli.experiments.planning import plan
from duiit_cli.experiments.reporting import safety
from duiit_cli.experiments.reporting.safety import Measured
from duiit_cli.inference.networks import in_batches, load_model, predict, target_intensity, translate

log = logging.getLogger(__name__)
MOST = 2000             # images of one kind that are judged, evenly spread: figures do not change beyond


def assess(root: str | PathLike[str], task: plan.Task) -> dict[str, Any]:
    """The contents of quality.json."""
    return Assessment(Path(root), task).go()


class Assessment:
    def __init__(self, root: Path, task: plan.Task) -> None:
        self.root, self.task = root, task
        self.asked, self.tasks = task.about["asked"], plan.read(root)
        self.opt = self._options(task.needs[0])
        judge = self._options(task.about["judge"])
        self.judge_file = Path(judge.checkpoints_dir) / judge.name / f"{judge.epoch}_net_P.pth"
        self.judge_opt, self.judge = judge, load_model(judge, "predictor")
        self.model = load_model(self.opt, "translator")

    def _options(self, task_id: str, phase: str = "test") -> Namespace:
        task = self.tasks[task_id]
        epoch = self.asked["epoch"] if task.kind == plan.CELL else "latest"
        return TestOptions().parse([*task.run_words(self.root), f"--phase={phase}", f"--epoch={epoch}"])

    def go(self) -> dict[str, Any]:
        parts = {phase: create_dataset(self._options(self.task.needs[0], phase)).dataset for phase in ("train", "test")}
        target = parts["train"].members[parts["train"].target]
        rows = _spread([r for d in parts.values() for r in d.members[d.target].rows])
        networks = self._networks()
        real = {n.name: image_quality.features_of(map(target.cohort.image, rows), n, self.opt.batch_size)
                for n in networks}
        return {"translator": self.task.name, "asked": self.asked,
                "sources": {s: self._source(s, parts, real, networks) for s in self.task.about["sources"]}}

    def _networks(self) -> list[feature_networks.FeatureNetwork]:
        """What distances are computed with: the judge always, the others where their weights are."""
        net, device = self.judge.predictor(), self.judge.device
        found = [feature_networks.own("predictor", net.features, device, self.judge_file)]
        if feature_networks.has_efficientnet():
            found.append(feature_networks.efficientnet_lite0(device))
        if self.asked["fid_weights"]:
            try:
                found.append(feature_networks.inception(self.asked["fid_weights"], device))
            except UserError as error:
                log.warning("no FID and Inception Score: %s", error)
        return found

    # -- one source --------------------------------------------------------------------------------------------

    def _source(self, source: str, parts: Mapping[str, Any], real: Mapping[str, image_quality.Features],
                networks: Sequence[feature_networks.FeatureNetwork]) -> dict[str, Any]:
        truth, net = Truth(source, self.opt), self.model.translator(source)
        collectors = [image_quality.FeatureCollector(n, self.opt.batch_size) for n in networks]
        fidelity: dict[str, Any] = {}
        paired: dict[str, Any] = {}
        widths: dict[str, list[Measured]] = {}
        for phase, title in (("test", "held_out"), ("train", "trained_on")):
            member = parts[phase].members[source]
            rows = _spread(member.rows)
            errors, answers, widths[title] = TranslationErrors(truth), [], []
            size = self.judge_opt.batch_size
            for some in track(in_batches(rows, size), f"{source}, {title}", math.ceil(len(rows) / size), "batches"):
                fakes = translate(net, map(member.cohort.image, some), self.opt, self.model.device)
                answers += list(predict(self.judge.predictor(), fakes, self.judge_opt, self.judge.device))
                for row, fake in zip(some, fakes, strict=True):
                    widths[title] += self._widths(truth, row, fake)
                    for collector in collectors:
                        collector.add(fake)
                    if phase == "test":
                        errors.take(row, fake)
            fidelity[title] = errors_of_rows(rows, answers, self.judge_opt)
            paired = paired or errors.report()
        return {"label_fidelity": fidelity, "paired": paired, "ventricles": self._ventricles(truth, widths),
                "distribution": _distances(real, collectors), "examples": self._examples(source, parts, truth, net)}

    def _widths(self, truth: Truth, row: Row, fake: np.ndarray) -> list[Measured]:
        """[(row, widths of the ventricles)] where they are seen in the translation and in its truth."""
        intensity, true = target_intensity(self.opt), truth.image(row)
        pair = None if true is None or safety.cannot(intensity) else safety.widths(fake, true, intensity)
        return [(row, pair)] if pair else []

    def _ventricles(self, truth: Truth, widths: Mapping[str, Sequence[Measured]]) -> dict[str, Any]:
        """What the translator does to the ventricles, on patients it was not trained on and on those it was."""
        reason = safety.cannot(target_intensity(self.opt))
        if reason is None and truth.folder is None:
            reason = "the true target images of the source patients are not known"
        return {"not_measured": reason} if reason else safety.ventricle_errors(widths)

    def _examples(self, source: str, parts: Mapping[str, Any], truth: Truth,
                  net: torch.nn.Module) -> list[dict[str, Any]]:
        """The middle slices of the first held-out patients, the same for every translator of the split."""
        held_out = parts["test"].members[source]
        member = held_out if held_out.rows else parts["train"].members[source]
        by_patient: dict[str, list[Row]] = {}
        for row in member.rows:
            by_patient.setdefault(row.patient, []).append(row)
        examples = []
        for number, own in enumerate(list(by_patient.values())[:self.asked["examples"]]):
            row = own[len(own) // 2]
            image = member.cohort.image(row)
            shown = {"source": image, "translated": translate(net, [image], self.opt, self.model.device)[0]}
            true = truth.image(row)
            shown |= {} if true is None else {"truth": true}
            examples.append({"patient": row.patient, "file": row.file, "slice": row.index + 1, "label": row.label,
                             "images": {k: self._save(v, f"{source}_{number}_{k}.png") for k, v in shown.items()}})
        return examples

    def _save(self, image: np.ndarray, name: str) -> str:
        """Writes (C, H, W) in [-1, 1] as 8 bits; returns its path relative to --output."""
        folder = self.root / self.task.needs[0] / "examples"
        save_image(tensor2im(torch.from_numpy(np.ascontiguousarray(image))), folder / name)
        return str((folder / name).relative_to(self.root))


def _distances(real: Mapping[str, image_quality.Features],
               collectors: Iterable[image_quality.FeatureCollector]) -> dict[str, Any]:
    """{metric: value}, as flat as a table's row; {} where there are too few images."""
    found: dict[str, Any] = {}
    for collector in collectors:
        name, fake = collector.network.name, collector.features()
        for metric in image_quality.metrics_of(name):
            try:
                figures = image_quality.distance(metric, real[name], fake)
            except UserError as error:
                log.warning("%s", error)
                continue
            found |= {"n_real": figures["n_real"], "n_fake": figures["n_fake"]}
            found |= {f"{metric}_mean": figures["value"], f"{metric}_std": figures["sd"]} if metric in ("kid", "is") \
                else {metric: figures["value"]}
    return found


def _spread(rows: Iterable[Row]) -> list[Row]:
    """At most MOST of the rows, evenly spread."""
    rows = list(rows)
    return rows if len(rows) <= MOST else [rows[i] for i in np.linspace(0, len(rows) - 1, MOST).astype(int)]
