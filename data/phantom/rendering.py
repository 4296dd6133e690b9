"""Tissue maps to images: CT in Hounsfield units, MRI as three grey channels, FDG-PET in standardised uptake values.

Tables of how each tissue looks, and what each scanner adds: blur, noise, gain, bias field. Nothing here knows the age.
"""
from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy.ndimage import gaussian_filter

from duiit.data.phantom.anatomy import FIELD_OF_VIEW, TISSUES


def _look(*values: float) -> dict[str, float]:
    return dict(zip(TISSUES, values, strict=True))


#                   air   skin   fat  bone  marrow csf   grey  white calcium blood
CT_HU = _look(    -1000,    45,  -95, 1150,  550,    7,   38,   29,   190,   55)
MRI_CHANNELS = {  # on 0..1; the three sequences in the order of the LGG set
    "pre": _look(     0,   .50,  .85,  .05,  .45,  .15,  .42,  .56,   .30,  .30),
    "flair": _look(   0,   .40,  .60,  .04,  .30,  .08,  .56,  .44,   .20,  .15),
    "post": _look(    0,   .60,  .85,  .05,  .48,  .16,  .45,  .58,   .60,  .98),
}
PET_SUV = _look(      0,   .80,  .30,  .40,  .90,  .30,  9.0,  3.2,   1.0,  1.6)

CT_NOISE = 4.0          # HU, standard deviation
CT_BLUR = 0.5           # mm, standard deviation
MRI_NOISE = 0.02        # of the scale of MRI_CHANNELS
PET_BLUR = 6 / 2.355    # mm: 6 mm full width at half maximum
PET_COUNTS = 25.0       # counts in a pixel of SUV 1: sets the Poisson noise


@dataclass(frozen=True)
class Scanner:
    """What the day's scanner does to one patient's images, whatever the age."""
    ct_offset: float          # HU by which the brain's calibration is off
    ct_noise: float           # factor
    mri_gain: tuple[float, ...]                    # of each channel
    mri_contrast: tuple[float, ...]                # exponent on the grey values of each channel
    mri_bias: tuple[tuple[float, ...], ...]        # of each channel: weights of the bias field's waves
    mri_noise: float
    pet_uptake: float         # factor on the whole image
    pet_contrast: float       # factor on grey matter alone
    pet_noise: float
    weight_kg: float
    dose_bq: float
    uptake_s: float           # from injection to scan


def draw_scanner(rng: np.random.Generator) -> Scanner:
    return Scanner(
        ct_offset=float(np.clip(rng.normal(0, 1.0), -3, 3)),
        ct_noise=rng.uniform(0.7, 1.3),
        mri_gain=tuple(float(g) for g in rng.uniform(0.75, 1.1, 3)),
        mri_contrast=tuple(float(c) for c in rng.uniform(0.85, 1.2, 3)),
        mri_bias=tuple(tuple(float(w) for w in rng.normal(0, 0.08, 5)) for _ in range(3)),
        mri_noise=rng.uniform(0.7, 1.5),
        pet_uptake=rng.uniform(0.75, 1.25),
        pet_contrast=rng.uniform(0.85, 1.15),
        pet_noise=rng.uniform(0.8, 1.3),
        weight_kg=round(float(np.clip(rng.normal(75, 13), 45, 120)), 1),
        dose_bq=round(float(rng.uniform(280, 420))) * 1e6,
        uptake_s=float(rng.integers(3000, 4500)),
    )


def render_ct(tissues: dict[str, np.ndarray], scanner: Scanner, rng: np.random.Generator, noise: float) -> np.ndarray:
    """(S, n, n) float32 in HU."""
    soft = tissues["csf"] + tissues["grey"] + tissues["white"]
    image = _blurred(_mix(tissues, CT_HU) + np.float32(scanner.ct_offset) * soft, CT_BLUR)
    image += np.float32(CT_NOISE * scanner.ct_noise * noise) * rng.standard_normal(image.shape, np.float32)
    return np.clip(image, -1024, 3071)


def render_mri(tissues: dict[str, np.ndarray], scanner: Scanner, rng: np.random.Generator, noise: float) -> np.ndarray:
    """(S, n, n, 3) uint8: pre-contrast, FLAIR, post-contrast."""
    channels = []
    for k, look in enumerate(MRI_CHANNELS.values()):
        signal = np.maximum(_mix(tissues, look), 0) ** np.float32(scanner.mri_contrast[k])
        signal *= np.float32(scanner.mri_gain[k]) * _bias_field(signal.shape[-1], scanner.mri_bias[k])
        real, imaginary = (np.float32(MRI_NOISE * scanner.mri_noise * noise)
                           * rng.standard_normal((2, *signal.shape), np.float32))
        channels.append(np.hypot(signal + real, imaginary))  # the magnitude of a noisy complex signal: Rician
    return np.clip(np.rint(255 * np.stack(channels, -1)), 0, 255).astype(np.uint8)


def render_pet(tissues: dict[str, np.ndarray], scanner: Scanner, rng: np.random.Generator, noise: float) -> np.ndarray:
    """(S, n, n) float32 in SUV (body weight)."""
    look = {**PET_SUV, "grey": PET_SUV["grey"] * scanner.pet_contrast}
    image = np.float32(scanner.pet_uptake) * _blurred(_mix(tissues, look), PET_BLUR)
    spread = np.sqrt(np.maximum(image, 0.02) / np.float32(PET_COUNTS)) * np.float32(scanner.pet_noise * noise)
    grain = _blurred(rng.standard_normal(image.shape, np.float32), PET_BLUR / 2)
    return np.maximum(image + spread * grain, 0)


def _mix(tissues: dict[str, np.ndarray], look: dict[str, float]) -> np.ndarray:
    return reduce(np.add, [np.float32(value) * tissues[tissue] for tissue, value in look.items()])


def _blurred(image: np.ndarray, sigma_mm: float) -> np.ndarray:
    """Each slice blurred in its own plane."""
    pixels = sigma_mm * image.shape[-1] / FIELD_OF_VIEW
    return gaussian_filter(image, (0, pixels, pixels), mode="nearest", truncate=3)


def _bias_field(n: int, weights: tuple[float, ...]) -> np.ndarray:
    """(n, n) smooth factor around 1."""
    x = np.linspace(-1, 1, n, dtype=np.float32)[None, :]
    y = x.T
    waves = (x, y, x * y, x * x - np.float32(0.33), y * y - np.float32(0.33))
    return np.exp(sum(np.float32(w) * wave for w, wave in zip(weights, waves, strict=True)))
