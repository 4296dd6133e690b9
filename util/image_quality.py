"""How good images are: distances between two sets of images, and errors of images whose truth is known.

Plain functions on arrays that know nothing of files; torchmetrics does the arithmetic of the distances, scikit-image
that of PSNR and SSIM. What the figures mean and when to trust them: docs/evaluating.md.
"""
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from duiit.util.errors import UserError

CT_LIMITS = (-1024.0, 3000.0)   # HU; SynthRAD2023 clips to them and takes their width for the dynamic range
BODY_HU = -500.0                # halfway between air and water
SSIM_WINDOW = 7                 # pixels; scikit-image's own
KID_SUBSET, KID_SUBSETS = 1000, 100
IS_SPLITS, IS_SPLIT = 10, 50    # at most so many splits, of at least so many images
T = TypeVar("T")


# -- features ------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Features:
    """A network's answer to a set of images. values: float64 (N, F). logits: float64 (N, K), or None."""
    network: str
    values: torch.Tensor
    logits: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)


class FeatureNetwork(Protocol):
    """What gives features of images; those that there are stand in duiit.models.networks.feature_networks."""
    @property
    def name(self) -> str: ...

    @property
    def device(self) -> str | torch.device: ...

    @property
    def extract(self) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]:
        """(N, C, H, W) in [-1, 1] -> features (N, F), and logits (N, K) or None."""


class FeatureCollector:
    """Gathers the features of images that come one by one; those of one size in a row share a batch."""

    def __init__(self, network: FeatureNetwork, batch_size: int = 16) -> None:
        self.network, self.batch_size = network, batch_size
        self._waiting: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._logits: list[torch.Tensor] = []

    def add(self, image: ArrayLike | torch.Tensor) -> None:
        """image: float32 (C, H, W) in [-1, 1], array or tensor."""
        image = torch.as_tensor(np.ascontiguousarray(image, np.float32))
        if self._waiting and (len(self._waiting) == self.batch_size or self._waiting[0].shape != image.shape):
            self._flush()
        self._waiting.append(image)

    @torch.no_grad()
    def _flush(self) -> None:
        values, logits = self.network.extract(torch.stack(self._waiting).to(self.network.device))
        self._values.append(values.cpu())       # in the network's own precision, half as large
        self._logits += [] if logits is None else [logits.cpu()]
        self._waiting = []

    def features(self) -> Features:
        """Features of all images so far."""
        if self._waiting:
            self._flush()
        values = torch.cat(self._values).double() if self._values else torch.zeros(0, 1, dtype=torch.float64)
        return Features(self.network.name, values, torch.cat(self._logits).double() if self._logits else None)


def features_of(images: Iterable[np.ndarray | torch.Tensor], network: FeatureNetwork, batch_size: int = 16) -> Features:
    """Features of an iterable of images, each float32 (C, H, W) in [-1, 1]."""
    collector = FeatureCollector(network, batch_size)
    for image in images:
        collector.add(image)
    return collector.features()


# -- distances between two sets of images --------------------------------------------------------------------------

def metrics_of(network_name: str) -> tuple[str, ...]:
    """The metrics that a network is for. Only with Inception are they called FID, KID and IS."""
    return ("fid", "kid", "is") if network_name == "inception" else (f"fd_{network_name}",)


def distribution_distances(real: Iterable[np.ndarray | torch.Tensor], fake: Iterable[np.ndarray | torch.Tensor],
                           network: FeatureNetwork, metrics: Iterable[str] | None = None,
                           batch_size: int = 16) -> dict[str, dict[str, Any]]:
    """{metric: its figures} for two iterables of images, each float32 (C, H, W) in [-1, 1].

    network: a FeatureNetwork. metrics: some of metrics_of(network.name), by default all.
    Raises UserError for fewer than two images on either side.
    """
    real, fake = features_of(real, network, batch_size), features_of(fake, network, batch_size)
    return {m: distance(m, real, fake) for m in metrics or metrics_of(network.name)}


def distance(metric: str, real: Features, fake: Features) -> dict[str, Any]:
    """The figures {"value", …, "n_real", "n_fake"} of one metric, from the Features of two sets of images.

    Raises UserError for fewer than two images on either side.
    """
    if metric not in metrics_of(real.network) or real.network != fake.network:
        raise ValueError(f"{metric} is not computed on features of {real.network} and {fake.network}")
    if min(len(real), len(fake)) < 2:
        raise UserError(f"{metric} takes two images or more on either side; there are {len(real)} real and "
                        f"{len(fake)} fake")
    count = {"n_real": len(real), "n_fake": len(fake)}
    if metric == "kid":
        return kernel_distance(real.values, fake.values) | count
    if metric == "is":
        if real.logits is None or fake.logits is None:
            raise ValueError(f"{metric} takes a network that gives logits, which {real.network} here does not")
        return {**inception_score(fake.logits), "real": inception_score(real.logits)["value"], **count}
    return frechet_distance(real.values, fake.values) | count


def frechet_distance(real: torch.Tensor, fake: torch.Tensor) -> dict[str, Any]:
    """Fréchet distance of the Gaussians fitted to two sets of features, (N, F) and (M, F) (Heusel et al., 2017).

    `biased`: so few images that a covariance has not full rank. The distance of two samples of the very same
    distribution is then far above 0, the further the fewer they are.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # late: seconds to import

    metric = FrechetInceptionDistance(feature=_AsTheyAre(real.shape[1]))
    metric.update(real, real=True)
    metric.update(fake, real=False)
    value = max(float(metric.compute()), 0.0)                       # a square; below 0 by rounding only
    return {"value": value, "features": real.shape[1], "biased": min(len(real), len(fake)) <= real.shape[1]}


def kernel_distance(real: torch.Tensor, fake: torch.Tensor, seed: int = 0) -> dict[str, Any]:
    """Kernel distance (squared MMD, cubic kernel) of two sets of features (Bińkowski et al., 2018): unbiased.

    Mean and standard deviation over random subsets; one subset, and no deviation, where one holds all images.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(KID_SUBSET, len(real), len(fake))
    subsets = 1 if size == max(len(real), len(fake)) else KID_SUBSETS
    metric = _quietly(KernelInceptionDistance, feature=_AsTheyAre(real.shape[1]), subsets=subsets, subset_size=size)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    value, deviation = _drawn_from(seed, metric.compute)
    return {"value": float(value), "sd": float(deviation) if subsets > 1 else None, "subset_size": size,
            "subsets": subsets}


def inception_score(logits: torch.Tensor, seed: int = 0) -> dict[str, Any]:
    """Inception Score (Salimans et al., 2016) of logits (N, K): mean and standard deviation over splits.

    Ten splits are the custom; there are fewer where they would hold less than 50 images.
    """
    from torchmetrics.image.inception import InceptionScore

    splits = max(1, min(IS_SPLITS, len(logits) // IS_SPLIT))
    metric = _quietly(InceptionScore, feature=_AsTheyAre(logits.shape[1]), splits=splits)
    metric.update(logits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                             # the deviation of one split
        value, deviation = _drawn_from(seed, metric.compute)
    return {"value": float(value), "sd": float(deviation) if splits > 1 else None, "splits": splits}


class _AsTheyAre(torch.nn.Identity):
    """What torchmetrics takes for a network: here the features are computed already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width


def _quietly(kind: Callable[..., T], **settings: object) -> T:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # that it keeps all features in memory, which is meant
        return kind(**settings)


def _drawn_from(seed: int, draw: Callable[[], T]) -> T:
    """draw() with torch's random numbers begun at `seed`, and the caller's left as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return draw()


# -- errors where the truth is known -------------------------------------------------------------------------------

def body_mask(hu: ArrayLike) -> np.ndarray:
    """The body in CT slices (H, W) or (N, H, W), bool: what is above -500 HU, of each slice the largest connected
    piece (which leaves out the couch), with its holes (airways, sinuses) filled."""
    hu = np.asarray(hu)
    if hu.ndim == 3:
        return np.stack([body_mask(one) for one in hu])
    pieces, count = ndimage.label(hu > BODY_HU)
    if not count:
        return np.zeros(hu.shape, bool)
    largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return ndimage.binary_fill_holes(pieces == largest)


def masked_errors(fake: ArrayLike, true: ArrayLike, mask: ArrayLike | None = None,
                  limits: tuple[float, float] = CT_LIMITS, unit: str = "hu", volume: bool = False) -> dict[str, Any]:
    """Errors of one image (H, W), or of the slices of one scan (N, H, W), after SynthRAD2023's `image_metrics.py`.

    mask: bool, same shape: the voxels that count (default: all). Returns {} where there is none, else
        mae_<unit>  mean of |fake - true| over the mask, in the images' unit, nothing clipped;
        psnr        dB, over the mask, both clipped to `limits`, whose width is the peak; infinite where they agree;
        ssim        both clipped, and set to the lower limit outside the mask; mean of the map over the mask, without a
                    border of 3 pixels. Windows of 7x7 within a slice; None for images too small for them;
        ssim_3d     with `volume` only: the same with windows of 7x7x7, for neighbouring slices, from seven on. This
                    is what the challenge reports;
        voxels      in the mask.
    """
    fake, true = np.atleast_3d(np.asarray(fake, np.float64).T).T, np.atleast_3d(np.asarray(true, np.float64).T).T
    mask = np.ones(true.shape, bool) if mask is None else np.asarray(mask, bool).reshape(true.shape)
    if fake.shape != true.shape:
        raise ValueError(f"images of unlike sizes: {fake.shape} and {true.shape}")
    if not mask.any():
        return {}
    mae = float(np.mean(np.abs(fake[mask] - true[mask])))
    low, width = limits[0], limits[1] - limits[0]
    fake, true = (np.clip(image, *limits) - low for image in (fake, true))          # SSIM wants no negative values
    errors: dict[str, Any] = {f"mae_{unit}": mae, "psnr": _psnr(fake[mask], true[mask], width)}
    fake, true = np.where(mask, fake, 0), np.where(mask, true, 0)
    errors["ssim"] = _mean_ssim([(f, t, m) for f, t, m in zip(fake, true, mask, strict=True)], width)
    if volume:
        errors["ssim_3d"] = _mean_ssim([(fake, true, mask)], width)
    return errors | {"voxels": int(mask.sum())}


def _psnr(fake: np.ndarray, true: np.ndarray, width: float) -> float:
    if not np.any(fake != true):
        return float("inf")
    return float(peak_signal_noise_ratio(true, fake, data_range=width))


def _mean_ssim(parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], width: float) -> float | None:
    """Mean of the SSIM maps of (fake, true, mask) over all their masks; None where no window fits into the mask."""
    if min(parts[0][0].shape) < SSIM_WINDOW:
        return None
    inside = (slice(SSIM_WINDOW // 2, -(SSIM_WINDOW // 2)),) * parts[0][0].ndim     # windows that lie in the image
    values = [structural_similarity(true, fake, data_range=width, win_size=SSIM_WINDOW, full=True)[1][inside]
              [mask[inside]] for fake, true, mask in parts if mask[inside].any()]
    return float(np.mean(np.concatenate(values))) if values else None
