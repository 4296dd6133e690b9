"""The ImageNet policy of AutoAugment (Cubuk et al. 2019, table 9), for batches of 8-bit images.

torchvision has it an image at a time, with choices of its own random generator; here they are the caller's, and images
to which the same is to be done are taken together. What the operations do is torchvision's.
"""
import math
from collections.abc import Sequence

import numpy as np
import torch

Operation = tuple[str, float | None]
Choices = list[Operation]

# Two operations each: name, probability, and which of ten strengths, 0 to 9, where it has one.
SUB_POLICIES = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
    (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
    (("shear", 0.6, 5), ("equalize", 1.0, 0)),
    (("color", 0.4, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
)
SIGNED = ("rotate", "shear", "color", "contrast", "sharpness")          # of either sign, with equal chances


def draw(rng: np.random.Generator) -> Choices:
    """The operations to be done to one image, up to two: (name, strength in the operation's own unit)."""
    chosen = SUB_POLICIES[int(rng.integers(len(SUB_POLICIES)))]
    chances, signs = rng.random(2), rng.integers(2, size=2) * 2 - 1
    return [(name, _strength(name, number, int(sign)))
            for (name, probability, number), chance, sign in zip(chosen, chances, signs, strict=True)
            if chance < probability]


def _strength(name: str, number: int, sign: int) -> float | None:
    """Degrees to rotate or shear by, factor of colour, contrast and sharpness, bits left, threshold."""
    share = number / 9
    return {"rotate": sign * 30 * share, "shear": sign * math.degrees(math.atan(0.3 * share)),
            "posterize": 8 - round(4 * share), "solarize": 255 * (1 - share),
            **dict.fromkeys(("color", "contrast", "sharpness"), 1 + sign * 0.9 * share)}.get(name)


def apply(images: torch.Tensor, choices: Sequence[Choices]) -> torch.Tensor:
    """uint8 (N, C, H, W) with C 1 or 3 -> the same, each image with the operations chosen for it, in their order."""
    images = images.clone()
    for place in range(2):
        together: dict[Operation, list[int]] = {}
        for number, operations in enumerate(choices):
            for operation in operations[place:place + 1]:
                together.setdefault(operation, []).append(number)
        for operation, numbers in together.items():
            images[numbers] = _done(images[numbers], *operation)
    return images


def _done(images: torch.Tensor, name: str, strength: float | None) -> torch.Tensor:
    from torchvision.transforms.v2 import InterpolationMode  # late: torchvision takes long, and few ask for a policy
    from torchvision.transforms.v2 import functional as V

    bilinear = {"interpolation": InterpolationMode.BILINEAR, "fill": 0}
    match name:
        case "rotate":
            return V.rotate(images, strength, **bilinear)
        case "shear":
            return V.affine(images, 0.0, [0, 0], 1.0, [strength, 0.0], center=[0, 0], **bilinear)
        case "posterize":
            return V.posterize(images, strength)
        case "solarize":
            return V.solarize(images, strength)
        case "color":
            return V.adjust_saturation(images, strength)
        case "contrast":
            return V.adjust_contrast(images, strength)
        case "sharpness":
            return V.adjust_sharpness(images, strength)
    return {"autocontrast": V.autocontrast, "equalize": V.equalize, "invert": V.invert}[name](images)
