"""The predictor P: a ResNet that reads a label (an age, a class) from a target image.

It takes what the generators make, images in [-1, 1], and answers in the label's own unit.
"""
import logging
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from duiit.models.networks.losses import TASKS
from duiit.util.errors import UserError

SMALL = "resnet10_small"
# netP: torchvision's block, and the number of blocks at each of the four sizes. All but the first two are its own
# networks.
_ARCHITECTURES = {
    SMALL: ("BasicBlock", (1, 1, 1, 1)),
    "resnet10": ("BasicBlock", (1, 1, 1, 1)),
    "resnet18": ("BasicBlock", (2, 2, 2, 2)),
    "resnet34": ("BasicBlock", (3, 4, 6, 3)),
    "resnet50": ("Bottleneck", (3, 4, 6, 3)),
    "resnet101": ("Bottleneck", (3, 4, 23, 3)),
}
_EXPANSION = {"BasicBlock": 1, "Bottleneck": 4}         # channels that a block answers with, by those that it works in
PREDICTORS = tuple(_ARCHITECTURES)

# Mean and deviation of red, green and blue over ImageNet, for images in [0, 1].
_IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406])
_IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225])

if TYPE_CHECKING:
    from torchvision.models import ResNet

logger = logging.getLogger(__name__)


def define_P(netP: str, input_nc: int, task: str = "regression", num_classes: int | None = None,
             label_mean: float = 0.0, label_std: float = 1.0,
             weights: str | PathLike[str] | None = None) -> "PredictorNet":
    """A predictor: (N, input_nc, H, W) in [-1, 1] -> (N,) in label units, or (N, num_classes) logits.

    `weights`: None (a fresh network), `imagenet` (torchvision fetches them), or a file with a state dict of
    torchvision's ResNet or of another PredictorNet. The head is taken over only where its size fits.
    """
    net = PredictorNet(netP, input_nc, task, num_classes, label_mean, label_std)
    if weights == "imagenet":
        net.load_pretrained(_download(netP), "the ImageNet weights", announce=False)
    elif weights is not None:
        net.load_pretrained(_read(weights), str(weights))
    return net


def check_predictor_size(height: int, width: int, batch_size: int) -> None:
    """UserError where training the predictor would meet a batch norm with a single value a channel.

    Images of up to 32x32 are one pixel at the network's last size, so a batch of one has no spread there.
    """
    if batch_size == 1 and max(height, width) <= 32:
        raise UserError(f"the predictor cannot train on single images of {height}x{width}: use --batch_size 2 or more, "
                        "or --crop_size above 32")


class PredictorNet(nn.Module):
    """A ResNet body, a linear head, and the numbers that tie them to the image's and the label's units.

    For regression the head works in standard scores, so its first answers are near the mean label and its gradients do
    not depend on the unit; `forward` turns scores into label units. All numbers are buffers and travel in the state
    dict: `label_mean`, `label_std` (scalars), `image_mean`, `image_std` (1, C, 1, 1).
    """

    # Networks of a model are initialised together in its setup. This one is not: its body has its own scheme (He for
    # ReLU nets with batch norm; N(0, 0.02) would all but silence it), or pretrained weights that must not be wiped.
    keeps_own_init = True
    image_mean: torch.Tensor
    image_std: torch.Tensor
    label_mean: torch.Tensor
    label_std: torch.Tensor

    def __init__(self, netP: str, input_nc: int, task: str = "regression", num_classes: int | None = None,
                 label_mean: float = 0.0, label_std: float = 1.0) -> None:
        super().__init__()
        if netP not in _ARCHITECTURES:
            raise UserError(f"--netP {netP} is not known: use one of {', '.join(PREDICTORS)}")
        if task not in TASKS:
            raise UserError(f"--task {task} is not known: use one of {', '.join(TASKS)}")
        if task == "classification" and (num_classes is None or num_classes < 2):
            raise UserError(f"--task classification needs two classes or more, the labels have {num_classes or 'none'}")
        self.netP, self.task, self.input_nc = netP, task, input_nc
        self.num_classes = num_classes if task == "classification" else None
        self.backbone = _body(netP, input_nc)
        self.feature_nc = (128 if netP == SMALL else 512) * _EXPANSION[_ARCHITECTURES[netP][0]]
        self.head = nn.Linear(self.feature_nc, self.num_classes or 1)
        self.register_buffer("image_mean", torch.zeros(1, input_nc, 1, 1))
        self.register_buffer("image_std", torch.ones(1, input_nc, 1, 1))
        self.register_buffer("label_mean", torch.tensor(0.0))
        self.register_buffer("label_std", torch.tensor(1.0))
        self.set_label_stats(label_mean, label_std)

    def set_label_stats(self, mean: float, std: float) -> None:
        """Tell the head what a standard score is: mean and deviation of the training labels, in label units.

        Labels that are all alike (deviation 0, or NaN for a single one) get a unit of 1, so that the network can still
        answer something else.
        """
        if not math.isfinite(mean):
            raise UserError(f"the training labels have no mean ({mean}): check that they are numbers")
        if not (math.isfinite(std) and std > 0):
            logger.warning("the training labels do not differ (deviation %s): scores are taken as label units", std)
            std = 1.0
        self.label_mean.fill_(float(mean))
        self.label_std.fill_(float(std))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the head reads: (N, C, H, W) in [-1, 1] -> (N, feature_nc)."""
        return self.backbone((images - self.image_mean) / self.image_std)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.answer(self.features(images))

    def answer(self, features: torch.Tensor) -> torch.Tensor:
        """The head alone, for models that use the features twice: (N, feature_nc) -> what `forward` gives."""
        answers = self.head(features)
        if self.task == "classification":
            return answers  # (N, num_classes)
        # In full precision also under autocast: half precision near 70 years has steps of 1/16.
        return answers.squeeze(1).float() * self.label_std + self.label_mean  # (N,)

    # ---- pretrained weights -----------------------------------------------------------------------------------------

    def load_pretrained(self, state: Mapping[str, torch.Tensor], source: str, announce: bool = True) -> None:
        """Take over body, image units and (where it fits) head from `state`; `source` names it in messages.

        The label's mean and deviation are not taken over: they belong to the labels that this network is to learn.
        torchvision's names mean a network trained on ImageNet's units, so images are brought into those.
        """
        own = self.state_dict()
        if "backbone.conv1.weight" not in state:
            state = _from_torchvision(state)
        state = {key: value for key, value in state.items() if key not in ("label_mean", "label_std")}
        self._fit_channels(state)
        if any(key.startswith("head.") and state[key].shape != own[key].shape for key in own if key in state):
            (logger.warning if announce else logger.debug)(
                "%s: its last layer has another size and is left out; the head starts anew", source)
            state = {key: value for key, value in state.items() if not key.startswith("head.")}
        self._refuse_misfits(state, own, source)
        self.load_state_dict(state, strict=False)

    def _fit_channels(self, state: dict[str, torch.Tensor]) -> None:
        """Bring first convolution and image units to this network's number of channels.

        Each channel gets the sum over the stored ones divided by the number of channels: n equal channels then give
        the response that the stored network gives to its channels being equal, one grey channel the plain sum.
        """
        weight = state.get("backbone.conv1.weight")
        if weight is None or weight.ndim != 4 or weight.shape[1] == self.input_nc:
            return
        n = self.input_nc
        state["backbone.conv1.weight"] = weight.sum(1, keepdim=True).repeat(1, n, 1, 1) / n
        for key in ("image_mean", "image_std"):
            if key in state:
                state[key] = state[key].mean().expand(1, n, 1, 1).clone()

    def _refuse_misfits(self, state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], source: str) -> None:
        optional = ("head.", "image_", "label_")
        # num_batches_tracked: absent from old files, and without effect at batch norm's fixed momentum.
        missing = [key for key in own
                   if key not in state and not key.startswith(optional) and not key.endswith("num_batches_tracked")]
        unknown = [key for key in state if key not in own]
        resized = [key for key in own if key in state and state[key].shape != own[key].shape]
        kinds = (("lacks", missing), ("has the unknown", unknown), ("has another size of", resized))
        problems = [f"{what} {', '.join(keys[:3])}" + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
                    for what, keys in kinds if keys]
        if problems:
            raise UserError(f"{source} does not fit --netP {self.netP}: it {'; it '.join(problems)}. "
                            "Use the --netP that the weights were made with")


def _body(netP: str, input_nc: int) -> "ResNet":
    """torchvision's ResNet without its last layer: (N, input_nc, H, W) -> (N, features)."""
    from torchvision.models import resnet  # late: it takes as long as torch itself, and help need not wait for it

    block, layers = _ARCHITECTURES[netP]
    body = resnet.ResNet(getattr(resnet, block), list(layers))
    body.fc = nn.Identity()
    if netP == SMALL:
        _keep_small_images_large(body, layers, input_nc)
    elif input_nc != 3:
        body.conv1 = nn.Conv2d(input_nc, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision draws it
    return body


def _keep_small_images_large(body: "ResNet", layers: Sequence[int], input_nc: int) -> None:
    """For images of some 32 to 64 pixels, of which a ResNet's first layers leave 8 to 16: a first convolution that
    keeps their size, no pooling, and a quarter of the channels, so that a pass costs what it did."""
    from torchvision.models.resnet import BasicBlock

    body.inplanes = 16
    body.conv1 = nn.Conv2d(input_nc, 16, kernel_size=3, padding=1, bias=False)
    body.bn1, body.maxpool = nn.BatchNorm2d(16), nn.Identity()
    for number, (channels, blocks) in enumerate(zip((16, 32, 64, 128), layers, strict=True), 1):
        setattr(body, f"layer{number}", body._make_layer(BasicBlock, channels, blocks, stride=1 if number == 1 else 2))
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _from_torchvision(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our keys for torchvision's, with the image units of ImageNet, brought from [0, 1] to [-1, 1]."""
    renamed = {f"head.{key[3:]}" if key.startswith("fc.") else f"backbone.{key}": value for key, value in state.items()}
    renamed["image_mean"] = (2 * _IMAGENET_MEAN - 1).reshape(1, 3, 1, 1)
    renamed["image_std"] = (2 * _IMAGENET_STD).reshape(1, 3, 1, 1)
    return renamed


def _download(netP: str) -> dict[str, torch.Tensor]:
    """torchvision's ImageNet weights. The first edition, because it exists for all sizes and fine-tunes well."""
    import torchvision

    editions = torchvision.models.get_model_weights(netP) if netP in torchvision.models.list_models() else None
    if editions is None:
        raise UserError(f"there are no ImageNet weights for --netP {netP}: use resnet18, resnet34, resnet50 or "
                        "resnet101")
    try:
        return editions["IMAGENET1K_V1"].get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network; a file that arrived damaged
        raise UserError(f"the ImageNet weights for --netP {netP} could not be fetched ({error}): fetch "
                        f"{editions['IMAGENET1K_V1'].url} elsewhere and give the file instead of `imagenet`") from error


def _read(path: str | PathLike[str]) -> dict[str, torch.Tensor]:
    """The state dict in a file, without running anything that the file might hold."""
    if not Path(path).is_file():
        raise UserError(f"predictor weights {path}: there is no such file (give a file, or `imagenet`)")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError here, and advises to trust it
        raise UserError(f"predictor weights {path} cannot be read: the file is damaged, or holds more than tensors "
                        "(save it with torch.save(net.state_dict(), file))") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"predictor weights {path} hold no state dict: save it with torch.save(net.state_dict(), file)")
    return {key.removeprefix("module."): value for key, value in state.items()}
