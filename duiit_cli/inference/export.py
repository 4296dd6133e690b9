"""What `duiit export` does: a network with its unit mapping becomes one file, is loaded again, compared with the
original, and only then given its name, with a description beside it.
"""
import logging
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from duiit.data.preparing import transforms
from duiit.data.preparing.intensity import BY_SCAN, PERCENTILES, Intensity, fixed_windows
from duiit.data.readers.slice import DISPLAY, HU
from duiit.models import networks
from duiit.util.errors import UserError
from duiit.util.files import atomic_path, write_json
from duiit.util.version import __version__
from duiit_cli.inference.networks import PreparedScan, load_model, own_scans, read, target_intensity

log = logging.getLogger(__name__)
TOLERANCE = 1e-3            # of the largest value: more means that the file does not hold the same network
SAMPLES = 4
SMALLEST_P = 33             # below, the ResNet ends in a single pixel, of which torch.export makes another program
NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime")}


def export(opt: Namespace) -> int:
    missing = [package for package in NEEDED.get(opt.format, ()) if find_spec(package) is None]
    if missing:
        raise UserError(f"--format {opt.format}: {missing[0]} is not installed; pip install \"duiit[export]\"")
    opt.device, opt.gpu_ids = "cpu", []                     # where every file it writes runs
    model = load_model(opt, "translator" if opt.net == "G" else "predictor")
    part = _translator(model, opt) if opt.net == "G" else _predictor(model, opt)
    beside = Path(opt.output).with_suffix(".json")
    with atomic_path(opt.output) as file, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")                     # of exporters, about their own future
        _write(part, opt.format, file)
        checked = _compare(part, opt.format, file)
        write_json(beside, {"duiit_version": __version__, "run": opt.name, "model": opt.model, "epoch": opt.epoch,
                            "network": opt.net, "format": opt.format, **part.about, "checked": checked})
    log.info("compared on %s: max abs difference %.3g (relative %.3g)", checked["images"],
             checked["max_abs_difference"], checked["max_relative_difference"])
    log.info("%s written, and %s, which says what it takes and gives", opt.output, beside)
    return 0


@dataclass
class Part:
    """A network ready to be written: with its mapping, the sizes that it takes, images to compare it on (each
    (C, H, W) in its input's unit, of a size it takes), where these come from, and the description for the user."""
    graph: nn.Module
    channels: int
    multiple: int
    smallest: int
    output: str
    samples: list[np.ndarray]
    origin: str
    about: dict[str, Any]


# -- networks with their units -------------------------------------------------------------------------------------

class Translator(nn.Module):
    """A source image in [-1, 1] -> the target image in its own unit: (N, C, H, W) both."""

    def __init__(self, net: nn.Module, intensity: Intensity) -> None:
        super().__init__()
        self.net, self.low, self.reach = net, intensity.low, (intensity.high - intensity.low) / 2

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (self.net(image) + 1) * self.reach + self.low


class Reader(nn.Module):
    """A target image (N, C, H, W), in its own unit where there is an `intensity` and else in [-1, 1], -> labels (N,),
    or probabilities of the classes (N, K)."""

    def __init__(self, net: nn.Module, intensity: Intensity | None, classes: Sequence[str]) -> None:
        super().__init__()
        self.net, self.intensity, self.classes = net, intensity, classes

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.intensity is not None:
            low, high = self.intensity.low, self.intensity.high
            image = ((image - low) * (2 / (high - low)) - 1).clamp(-1, 1)
        answer = self.net(image)
        return answer.softmax(1) if self.classes else answer


def _translator(model: Any, opt: Namespace) -> Part:
    source, intensity = _source(opt), target_intensity(opt)
    multiple = networks.size_multiple(opt.netG)
    smallest = max(2 * multiple, 8)
    images, origin = _real_images(opt, source, opt.input_nc)
    samples = [_padded(i, multiple, smallest) for i in images.images] if images else []
    about = {
        "input": {"name": "image", "dtype": "float32", "shape": ["batch", opt.input_nc, "height", "width"],
                  "modality": source, "unit": "scaled", "range": [-1, 1], "size_multiple_of": multiple,
                  "smallest": smallest, "prepare": [*_scaling(opt, source), _resizing(opt),
                  f"pad with {transforms.BACKGROUND:g} to multiples of {multiple}, crop the result back"],
                  **_settings(opt)},
        "output": {"name": "translated", "shape": ["batch", opt.output_nc, "height", "width"], "modality": opt.target,
                   "unit": intensity.unit, "range": [intensity.low, intensity.high]}}
    return Part(Translator(model.translator(source), intensity).eval(), opt.input_nc, multiple, smallest, "translated",
                samples, origin, about)


def _predictor(model: Any, opt: Namespace) -> Part:
    images, origin = _real_images(opt, opt.target, opt.output_nc)
    intensity = _fixed_scale(opt, images)
    classes = list(opt.facts.classes) if opt.task == "classification" else []
    samples = [_padded(i, 1, SMALLEST_P) for i in images.images] if images else []
    samples = [intensity.restore(i) if intensity else i for i in samples]
    scaling = [f"clip to {intensity.low:g} to {intensity.high:g} {intensity.unit}, which must come before resizing"] \
        if intensity else _scaling(opt, opt.target)
    about: dict[str, Any] = {
        "input": {"name": "image", "dtype": "float32", "shape": ["batch", opt.output_nc, "height", "width"],
                  "modality": opt.target, "unit": intensity.unit if intensity else "scaled",
                  "range": [intensity.low, intensity.high] if intensity else [-1, 1], "smallest": SMALLEST_P,
                  "prepare": [*scaling, _resizing(opt)], **_settings(opt)},
        "output": {"name": "probabilities", "shape": ["batch", len(classes)], "classes": classes} if classes else
                  {"name": "label", "shape": ["batch"], "unit": "as in the labels table",
                   "training_labels": {"mean": float(model.netP.label_mean), "std": float(model.netP.label_std)}}}
    return Part(Reader(model.predictor(), intensity, classes).eval(), opt.output_nc, 1, SMALLEST_P,
                about["output"]["name"], samples, origin, about)


def _source(opt: Namespace) -> str:
    sources = opt.sources.split(",") if opt.sources else []
    source = opt.source or (sources[0] if len(sources) == 1 else None)
    if source is None or source not in sources:
        raise UserError(f"--source {source}: the run translates {', '.join(sources)}" if source else
                        f"--source is missing: the run translates {', '.join(sources)}")
    return source


def _fixed_scale(opt: Namespace, images: PreparedScan | None) -> Intensity | None:
    """The target's Intensity where it is the same for every scan (HU, SUV, 8-bit display values), else None."""
    intensity = target_intensity(opt) if opt.facts.target_range else images and images.intensity
    return intensity if intensity and intensity.unit in (HU, DISPLAY, *fixed_windows(opt)) else None


# -- what the user is told -----------------------------------------------------------------------------------------

def _scaling(opt: Namespace, modality: str) -> list[str]:
    low, high = PERCENTILES
    suv = "" if opt.pet_window == BY_SCAN else f"SUV images: the same with --pet_window {opt.pet_window}; "
    return [f"HU images: clip to --ct_window {opt.ct_window} and map it to [-1, 1]; {suv}8-bit images that are no "
            f"MRI: 0..255 to [-1, 1]; all others ({modality} in grey values, …): scan by scan, its {low} and {high} "
            "percentiles over all slices to -1 and 1, clipped"]


def _resizing(opt: Namespace) -> str:
    if opt.spacing is not None:
        around = ""
        if opt.preprocess == "resize_and_crop":
            around = f"pad with {transforms.BACKGROUND:g} or crop to {opt.load_size}x{opt.load_size} about the centre, "
        return f"resample to square pixels of {opt.spacing:g} mm (linear, anti-aliased), {around}do not crop at random"
    size = {"resize_and_crop": f"{opt.load_size}x{opt.load_size}", "crop": "no other size", "none": "no other size"}
    return f"resize to {size.get(opt.preprocess, f'a width of {opt.load_size}')} (bilinear, anti-aliased), do not crop"


def _settings(opt: Namespace) -> dict[str, Any]:
    names = ("preprocess", "load_size", "crop_size", "spacing", "ct_window", "pet_window", "mri_channel", "slices")
    return {"settings": {name: getattr(opt, name) for name in names}, "percentiles": list(PERCENTILES)}


# -- writing and comparing -----------------------------------------------------------------------------------------

def _write(part: Part, kind: str, file: Path) -> None:
    height, width = (transforms.round_up(n, part.multiple) for n in (part.smallest + 8, part.smallest + 24))
    example = torch.zeros(2, part.channels, height, width).normal_(generator=torch.Generator().manual_seed(0))
    try:
        if kind == "torchscript":
            torch.jit.trace(part.graph, example).save(str(file))
            return
        program = torch.export.export(part.graph, (example,), dynamic_shapes=(_free(part),), strict=False)
        if kind == "onnx":
            torch.onnx.export(program, (), str(file), dynamo=True, external_data=False, verbose=False,
                              input_names=["image"], output_names=[part.output])
        else:
            with open(file, "wb") as stream:
                torch.export.save(program, stream)
    except (OSError, UserError):
        raise
    except Exception as error:                              # the exporters have many kinds, some private
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"--format {kind}: torch {torch.__version__} cannot export this network ({reason})") from error


def _free(part: Part) -> dict[int, Any]:
    """Which sides of the input may be of any length, and of which multiples."""
    step, fewest = part.multiple, -(-part.smallest // part.multiple)
    sides = (torch.export.Dim(name, min=fewest) for name in ("height", "width"))
    height, width = (side if step == 1 else step * side for side in sides)
    return {0: torch.export.Dim("batch", min=1), 2: height, 3: width}


def _compare(part: Part, kind: str, file: Path) -> dict[str, Any]:
    """Runs the file and the original on the same images; UserError where their answers differ."""
    run = {"onnx": _onnx, "torchscript": _torchscript, "pt2": _pt2}[kind](file)
    absolute = relative = 0.0
    for batch in _batches(part):
        wanted, got = part.graph(batch).numpy(), np.asarray(run(batch))
        if wanted.shape != got.shape:
            raise UserError(f"--format {kind}: the exported network answers {got.shape} instead of {wanted.shape}; "
                            "nothing was written")
        difference = float(np.abs(wanted - got).max())
        difference = difference if np.isfinite(got).all() else float("inf")
        absolute = max(absolute, difference)
        relative = max(relative, difference / max(float(np.abs(wanted).max()), 1e-12))
    if relative > TOLERANCE:
        raise UserError(f"--format {kind}: the exported network's answers differ from the original's by {absolute:.3g} "
                        f"({relative:.2g} of the largest); nothing was written")
    return {"images": part.origin, "max_abs_difference": absolute, "max_relative_difference": relative}


def _batches(part: Part) -> Iterator[torch.Tensor]:
    """The real images, together and alone, and noise of two other sizes."""
    if part.samples:
        same = [s for s in part.samples if s.shape == part.samples[0].shape]
        yield torch.from_numpy(np.stack(same))
        yield torch.from_numpy(np.ascontiguousarray(part.samples[-1][None]))
    low, high = part.about["input"]["range"]
    drawn = torch.Generator().manual_seed(1)
    for number, more in ((1, 0), (3, 40)):
        size = [transforms.round_up(part.smallest + n, part.multiple) for n in (more, 2 * more)]
        yield torch.rand(number, part.channels, *size, generator=drawn) * (high - low) + low


def _onnx(file: Path) -> Callable[[torch.Tensor], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"image": batch.numpy()})[0]


def _torchscript(file: Path) -> Callable[[torch.Tensor], Any]:
    return torch.jit.load(str(file))


def _pt2(file: Path) -> Callable[[torch.Tensor], Any]:
    with open(file, "rb") as stream:
        return torch.export.load(stream).module()


# -- images to compare on ------------------------------------------------------------------------------------------

def _real_images(opt: Namespace, modality: str, channels: int) -> tuple[PreparedScan | None, str]:
    """(a PreparedScan of the run's data cut to a few images, where it comes from); (None, "seeded noise") without."""
    noise = None, "seeded noise"
    if not opt.dataroot or not Path(opt.dataroot).is_dir():
        return noise
    try:
        found = read(own_scans(opt, modality)[0], modality, channels, opt)
    except (UserError, OSError, KeyError) as error:
        log.warning("no real images to compare on: %s", error)
        return noise
    found.images = [i for i, empty in zip(found.images, found.empty, strict=True) if not empty][:SAMPLES]
    return (found, f"{len(found.images)} real images of {found.scan.root} and seeded noise") if found.images else noise


def _padded(image: np.ndarray, multiple: int, smallest: int) -> np.ndarray:
    return transforms.pad_to(image, *(transforms.round_up(max(n, smallest), multiple) for n in image.shape[-2:]))
