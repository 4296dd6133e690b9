"""What `duiit evaluate` does: real and translated images are read scan by scan, each once (real ones again where they
are compared), and give features, errors and answers, which come together in one report.

Distances between the two sets of images: util/image_quality.py; errors of each image: paired_errors.py; labels read off
translated images: label_fidelity.py. A figure that cannot be had is left out with a line that says why, and the others
go on.
"""
import logging
from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from duiit.data.modality_dataset import loader_of
from duiit.data.preparing import resampling, transforms
from duiit.data.preparing.intensity import ct_window
from duiit.data.readers.slice import Scan, Slice
from duiit.models import find_model_using_name
from duiit.models.networks import feature_networks
from duiit.options.evaluate_options import DISTRIBUTION, METRICS, OF_A_RUN, PAIRED
from duiit.util import threads
from duiit.util.errors import UserError
from duiit.util.files import write_json
from duiit.util.image_quality import FeatureCollector, distance, metrics_of
from duiit.util.pipeline import Helpers, in_order
from duiit.util.problems import counted
from duiit.util.progress import track
from duiit.util.version import __version__
from duiit_cli.evaluation.label_fidelity import LabelFidelity
from duiit_cli.evaluation.paired_errors import PairedErrors, mask_index
from duiit_cli.evaluation.pairing import Index
from duiit_cli.evaluation.report import show
from duiit_cli.inference.networks import PreparedScan, load_model, read

log = logging.getLogger(__name__)
SIDES = ("real", "fake")
NOT_FETCHED = ("the Inception weights are not here; --metrics fid,kid,is fetches them (96 MB), once, and --fid_weights "
               "names a file that holds them")


def evaluate(opt: Namespace) -> int:
    """Exit status 0, or 2 where a metric that was asked for (by name, or by --fid_weights) is not among the figures."""
    opt.target = opt.target or "ct"
    for side in SIDES:
        if not Path(getattr(opt, side)).exists():
            raise UserError(f"--{side} {getattr(opt, side)}: no such folder")
    return Evaluation(opt).go()


class Evaluation:
    def __init__(self, opt: Namespace) -> None:
        self.opt = opt
        self.left_out: dict[str, str] = {}              # {metric: why}
        self.metrics = opt.asked or self._all_that_can_be_had()
        self.model: Any = load_model(opt, "predictor") if set(OF_A_RUN) & set(self.metrics) else None
        self.collectors: dict[str, list[FeatureCollector]] = {side: [] for side in SIDES}
        self._prepare_networks()
        self.scans = {side: self._find(side) for side in SIDES}
        self.masks = mask_index(opt.mask, opt) if opt.mask else None
        self.fidelity = LabelFidelity(opt, self.model) if "label_fidelity" in self.metrics else None
        self.counts = {side: {"scans": len(self.scans[side]), "images": 0, "left_out": 0} for side in SIDES}

    def _find(self, side: str) -> list[Scan]:
        """The scans of one side. A run's names of columns hold for its own tables, not for that of translations."""
        opt = Namespace(**vars(self.opt))
        if side == "real":
            vars(opt).update({key: value for key, value in opt.run_tables.items()
                              if value is not None and getattr(opt, key) is None})
        return loader_of(opt.target).find_scans(Path(getattr(opt, side)), opt)

    def _all_that_can_be_had(self) -> tuple[str, ...]:
        opt = self.opt
        names = [m for m in METRICS if (opt.paired or m not in PAIRED) and (opt.name or m not in OF_A_RUN)]
        if not feature_networks.has_efficientnet():
            names.remove("fd_efficientnet_lite0")
        if not feature_networks.has_inception(opt.fid_weights):
            # Nobody asked for them, and where there is no internet each call would wait for it in vain.
            self.left_out |= dict.fromkeys(metrics_of("inception"), NOT_FETCHED)
            names = [m for m in names if m not in self.left_out]
        if opt.name and not hasattr(find_model_using_name(opt.model), "predictor"):
            log.info("--name %s: a run of --model %s has no predictor; %s left out", opt.name, opt.model,
                     " and ".join(OF_A_RUN))
            names = [m for m in names if m not in OF_A_RUN]
        return tuple(names)

    # -- networks ----------------------------------------------------------------------------------------------

    def _prepare_networks(self) -> None:
        """One collector of features a network and side, for the networks that can be had."""
        makers = {"inception": lambda: feature_networks.inception(self.opt.fid_weights, self.opt.device),
                  "efficientnet_lite0": lambda: feature_networks.efficientnet_lite0(self.opt.device),
                  "predictor": self._predictor_network}
        for name, make in makers.items():
            wanted = [m for m in metrics_of(name) if m in self.metrics]
            if not wanted:
                continue
            try:
                network = make()
            except UserError as error:
                self.left_out |= dict.fromkeys(wanted, str(error))
                continue
            for side in SIDES:
                self.collectors[side].append(FeatureCollector(network, self.opt.batch_size))
        self._say_why(self.left_out, nothing=set(self.metrics) <= set(self.left_out))

    def _say_why(self, left_out: Mapping[str, str], nothing: bool) -> None:
        """A line a reason for what is left out now. Where nothing is left: an error, which a lone reason is itself."""
        reasons = set(self.left_out.values())
        if nothing and len(reasons) == 1:
            raise UserError(f"no figure could be had: {reasons.pop()}")
        for reason in dict.fromkeys(left_out.values()):
            level = logging.INFO if reason == NOT_FETCHED and not nothing else logging.WARNING
            log.log(level, "left out: %s (%s)", ", ".join(m for m, r in left_out.items() if r == reason), reason)
        if nothing:
            raise UserError("no figure could be had, see above")

    def _predictor_network(self) -> feature_networks.FeatureNetwork:
        opt, net = self.opt, self.model.predictor()
        if not hasattr(net, "features"):
            raise UserError(f"--name {opt.name}: the predictor of --model {opt.model} shows no features")
        suffix = f"iter_{opt.load_iter}" if opt.load_iter > 0 else opt.epoch
        return feature_networks.own("predictor", net.features, self.model.device,
                                    Path(opt.checkpoints_dir, opt.name, f"{suffix}_net_P.pth"))

    # -- reading -----------------------------------------------------------------------------------------------

    def _read(self, side: str, number: int) -> PreparedScan:
        """A PreparedScan with images (3, H, W) of the files' own size. Of --fake every slice counts: it holds those
        that --slices chose."""
        opt = Namespace(**{**vars(self.opt), "preprocess": "none", "spacing": None})
        if side == "fake":
            opt.slices = "all"
        return read(self.scans[side][number], self.opt.target, 3, opt)

    def _read_ahead(self, side: str) -> Iterator[PreparedScan]:
        """All scans of one side in order; the next ones are read while networks and errors are at work on one."""
        numbers, what = range(len(self.scans[side])), {"real": "real", "fake": "translated"}[side]
        with Helpers(threads.helpers()) as readers:
            found = in_order(readers, partial(self._read, side), numbers, lambda prepared: 2 * prepared.weight)
            yield from track(found, f"reading {what} images", len(numbers), "scans")

    def go(self) -> int:
        opt = self.opt
        index = Index(self.scans["real"], lambda number: self._read("real", number).slices)
        for number, prepared in enumerate(self._read_ahead("real")):
            index.note(number, prepared.slices)
            self._take("real", prepared)
        pairs = PairedErrors(opt, index, self.masks) if set(PAIRED) & set(self.metrics) else None
        for prepared in self._read_ahead("fake"):
            kept = self._take("fake", prepared)
            if self.fidelity:
                self.fidelity.take(prepared, kept, self._as_in_training)
            if pairs:
                pairs.compare(prepared.scan, prepared.slices)
        self._say_left_out()
        return self._finish(pairs)

    def _take(self, side: str, prepared: PreparedScan) -> list[int]:
        """Features of the images that show something; returns their positions."""
        kept = [i for i, empty in enumerate(prepared.empty) if self.opt.keep_empty or not empty]
        for collector in self.collectors[side]:
            own = collector.network.name == "predictor"
            for i in kept:
                image = prepared.images[i]
                collector.add(self._as_in_training(image, prepared.slices[i]) if own else image)
        self.counts[side]["images"] += len(kept)
        self.counts[side]["left_out"] += len(prepared.images) - len(kept)
        return kept

    def _as_in_training(self, image: np.ndarray, s: Slice) -> np.ndarray:
        """(3, H, W) of a slice -> the run's channels and loading size."""
        try:
            return resampling.to_loading_size(transforms.to_channels(image, self.opt.output_nc), s, self.opt)
        except resampling.UnknownSpacing:
            raise UserError(f"{s.path}: tells no pixel spacing, which --spacing needs, and the predictor of --name "
                            f"{self.opt.name} with it; give NIfTI or DICOM, or --metrics without "
                            f"{' and '.join(OF_A_RUN)}") from None

    def _say_left_out(self) -> None:
        for side in SIDES:
            if not self.counts[side]["images"]:
                raise UserError(f"--{side} {getattr(self.opt, side)}: every image is constant or almost empty; "
                                "--keep_empty takes them all the same")
        if self.counts["fake"]["left_out"]:
            log.warning("constant or almost empty, and left out of the distances: %s of --fake; --keep_empty counts "
                        "them", counted(self.counts["fake"]["left_out"], "image"))

    # -- the report --------------------------------------------------------------------------------------------

    def _finish(self, pairs: PairedErrors | None) -> int:
        opt = self.opt
        paired = {"paired": _only(pairs.report(), self.metrics)} if pairs else {}
        told = set(self.left_out)
        distances = self._distances()
        labels = self._labels()
        self._say_why({m: why for m, why in self.left_out.items() if m not in told},
                      nothing=not (distances or paired or labels))
        report = {"duiit_version": __version__, "real": str(opt.real), "fake": str(opt.fake),
                  "settings": self._settings(), "n": self.counts, "distribution": distances, **paired, **labels,
                  "left_out": self.left_out}
        if opt.output:
            write_json(opt.output, report)
        show(report)
        if opt.output:
            log.info("figures written to %s", opt.output)
        wanted = {*opt.asked, *(metrics_of("inception") if opt.fid_weights else ())}
        return 2 if wanted & set(self.left_out) else 0

    def _labels(self) -> dict[str, Any]:
        try:
            return {"label_fidelity": self.fidelity.report()} if self.fidelity else {}
        except UserError as error:
            self.left_out["label_fidelity"] = str(error)
            return {}

    def _distances(self) -> dict[str, dict[str, Any]]:
        done = {}
        for real, fake in zip(*self.collectors.values(), strict=True):
            network = real.network
            sides = real.features(), fake.features()
            for metric in (m for m in metrics_of(network.name) if m in self.metrics):
                try:
                    done[metric] = {**distance(metric, *sides), "network": network.name, **network.weights}
                except UserError as error:
                    self.left_out[metric] = str(error)
        for metric in (m for m in done if done[m].get("biased")):
            log.warning("%s: %d real and %d fake images are too few for its %d features: the figure is far too high, "
                        "and comparable only with figures of as many images", metric, done[metric]["n_real"],
                        done[metric]["n_fake"], done[metric]["features"])
        return {m: done[m] for m in DISTRIBUTION if m in done}

    def _settings(self) -> dict[str, Any]:
        opt, window = self.opt, ct_window(self.opt.ct_window)
        settings = {"target": opt.target, "metrics": list(self.metrics), "ct_window": opt.ct_window,
                    "pet_window": opt.pet_window,
                    "window_hu": [window.low, window.high], "slices": opt.slices, "keep_empty": opt.keep_empty,
                    "mask": opt.mask, "device": str(opt.device)}
        if opt.name:
            settings["run"] = {key: getattr(opt, key) for key in ("name", "model", "epoch", "load_iter", "task")}
        return settings


def _only(paired: Mapping[str, Any], metrics: Collection[str]) -> Mapping[str, Any]:
    """The paired report without the errors that were not asked for."""
    unwanted = tuple(m for m in PAIRED if m not in metrics)
    return {key: value for key, value in paired.items() if not key.startswith(unwanted)} if unwanted else paired
