"""What `duiit import` does: every network is read (as plain tensors only), its architecture recognised, loaded into the
model it belongs to and written into a new run, which appears whole or not at all.
"""
import logging
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from duiit.data import splits
from duiit.data.cross_modality_dataset import modality_folders
from duiit.data.modality_dataset import loader_of, typical_range
from duiit.data.preparing.cohort import Row
from duiit.data.preparing.intensity import ct_window
from duiit.data.readers.slice import DISPLAY, GREY, HU
from duiit.data.unaligned_dataset import SIDES
from duiit.models import create_model, networks
from duiit.models.networks import architecture
from duiit.options import run_file
from duiit.options.import_options import networks_in
from duiit.util import checkpoint, provenance
from duiit.util.errors import UserError
from duiit.util.files import atomic_folder
from duiit.util.version import __version__

log = logging.getLogger(__name__)


def import_networks(opt: Namespace) -> int:
    run = Path(opt.checkpoints_dir) / opt.name
    if (run / run_file.NAME).is_file():
        raise UserError(f"--name {opt.name}: {run} already holds a run; give another --name, or remove the folder")
    files = _files(opt)
    states = {name: _state(path) for name, path in files.items()}
    _recognise(opt, states, files)
    _name_sides(opt)
    with atomic_folder(run) as folder:
        taken = _networks(opt, files, states, folder)
        _describe_data(opt, folder)
        run_file.write(folder, _options(opt), __version__)
        provenance.note(folder, "import", opt.words)
    left = sorted(set(files) - set(taken))
    if left:
        log.warning("left aside, since --model %s has none of that name: %s", opt.model, ", ".join(left))
    log.info("imported %s into %s", ", ".join(taken), run)
    return 0


def _files(opt: Namespace) -> dict[str, Path]:
    epoch = f"iter_{opt.load_iter}" if opt.load_iter else opt.epoch
    files = networks_in(opt.from_dir, epoch)
    if not files:
        there = sorted({p.name.split("_net_")[0] for p in Path(opt.from_dir).glob("*_net_*.pth")})
        remedy = f"there are those of --epoch {', '.join(there)}" if there else "no file is named so for any epoch"
        raise UserError(f"--from {opt.from_dir}: holds no {epoch}_net_<name>.pth; {remedy}")
    return files


def _state(path: Path) -> architecture.State:
    state = checkpoint.load(path)
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{path}: holds no state dict of a network")
    return {k.removeprefix("module."): v for k, v in state.items()}


# -- which networks they are ---------------------------------------------------------------------------------------

def _recognise(opt: Namespace, states: Mapping[str, architecture.State], files: Mapping[str, Path]) -> None:
    """Fills in the network options that were not given: from the weights, and where these are silent by default."""
    found = {}
    for name in sorted(states, reverse=True):               # G_A comes last of the generators: its channels count
        if name.startswith("G"):
            found.update(architecture.of_generator(states[name]))
        elif name.startswith("D"):
            found = {**_discriminator(states[name], files[name]), **found}
        elif name == "P":
            found = {**_predictor(opt, states[name], files[name]), **found}
    found.pop("channels", None)
    told = {k: v for k, v in found.items() if getattr(opt, k, None) is None and k in opt.fallbacks}
    log.info("read off the weights: %s", ", ".join(f"{k} {v}" for k, v in told.items()) or "nothing")
    for name, value in {**opt.fallbacks, **told}.items():
        if getattr(opt, name) is None:
            setattr(opt, name, value)


def _discriminator(state: architecture.State, file: Path) -> dict[str, Any]:
    found = architecture.of_discriminator(state)
    if not found:
        first = next(iter(state), "missing")
        raise UserError(f"{file}: holds no discriminator of the toolkit (its first key is {first}); "
                        "test and translate need none: leave the file out")
    return found


def _predictor(opt: Namespace, state: architecture.State, file: Path) -> dict[str, Any]:
    found = architecture.of_predictor(state)
    if not found:
        raise UserError(f"{file}: holds no ResNet with a last layer, as torchvision's or ours (its first key is "
                        f"{next(iter(state), 'missing')})")
    outputs = found.pop("outputs")
    names = opt.classes.split(",") if opt.classes else [str(n) for n in range(outputs)]
    task = opt.task or found["task"]
    if task != found["task"] or (task == "classification" and len(names) != outputs):
        raise UserError(f"{file}: the predictor has {outputs} outputs, which does not go with "
                        + (f"--classes {opt.classes}" if opt.classes else f"--task {task}"))
    if task == "classification":
        opt.facts = replace(opt.facts, classes=tuple(names))
    return {**found, "output_nc": found["channels"]}


def _networks(opt: Namespace, files: Mapping[str, Path], states: Mapping[str, architecture.State],
              folder: Path) -> list[str]:
    """Checks every network by loading it, and writes it into the run's folder; their names."""
    model = create_model(opt)
    missing = [name for name in model.model_names if name not in files]
    if missing:
        raise UserError(f"--from {opt.from_dir}: has no {opt.epoch}_net_{missing[0]}.pth, which --model {opt.model} "
                        f"needs; it has {', '.join(files)}")
    nets = {name: model.net(name) for name in model.model_names}
    for name in sorted(set(files) - set(nets)):
        if name.startswith("D") and any(n.startswith("G") for n in nets):     # for going on with the training
            channels = architecture.of_discriminator(states[name])["channels"]
            nets[name] = networks.define_D(channels, opt.ndf, opt.netD, opt.n_layers_D, opt.norm)
    for name, net in nets.items():
        _load(net, files[name], states[name])
        state = {k: v.detach().cpu() for k, v in net.state_dict().items()}
        checkpoint.save(state, folder / f"latest_net_{name}.pth")
    return list(nets)


def _load(net: torch.nn.Module, file: Path, state: architecture.State) -> None:
    if isinstance(net, networks.PredictorNet) and "backbone.conv1.weight" not in state:
        net.load_pretrained(state, str(file))               # torchvision's keys, and images in ImageNet's units
    else:
        checkpoint.load_weights(net, file)


# -- what they work on ---------------------------------------------------------------------------------------------

def _name_sides(opt: Namespace) -> None:
    """Which images are the source and which the target. Without a word on it they are the toolkit's A and B."""
    if opt.dataset_mode == "unaligned" and (opt.sources or opt.target):
        opt.dataset_mode = "cross_modality"
    if opt.dataset_mode == "unaligned":
        opt.sources, opt.target = ("A", "B") if opt.direction == "AtoB" else ("B", "A")
    opt.target = opt.target or "ct"
    if opt.dataset_mode == "cross_modality" and not opt.sources:
        names = modality_folders(opt.dataroot) if opt.dataroot else ["mri"]
        opt.sources = ",".join(n for n in names if n != opt.target)
    if opt.dataset_mode == "labelled":
        opt.sources = ""


def _describe_data(opt: Namespace, folder: Path) -> None:
    """What training would have noted of its data: the target's range, and who may be tested on."""
    opt.facts = replace(opt.facts, target_range=_range_without_data(opt))
    if not opt.dataroot or opt.dataset_mode not in ("unaligned", "cross_modality", "labelled"):
        return
    rows = {m: _rows(opt, m) for m in (opt.target, *filter(None, opt.sources.split(",")))}
    if opt.target_range is None:
        opt.facts = replace(opt.facts, target_range=typical_range(rows[opt.target]))
    if opt.dataset_mode != "unaligned":                     # there the folders' names say it
        splits.write(folder, rows, {m: ["test"] * len(members) for m, members in rows.items()}, opt.split_by)
        log.warning("everybody in %s counts as test: which of them the networks were trained on is not known here; if "
                    "some were, say so in %s", opt.dataroot, Path(opt.checkpoints_dir, opt.name, splits.NAME))


def _range_without_data(opt: Namespace) -> tuple[float, float, str]:
    """(low, high, unit) as --target_range says, or as is usual for the target."""
    if opt.target_range is not None:
        low, high = opt.target_range
        return low, high, DISPLAY if (low, high) == (0, 255) else GREY
    window = ct_window(opt.ct_window)
    return (window.low, window.high, HU) if opt.target.lower() == "ct" else (0.0, 255.0, DISPLAY)


def _rows(opt: Namespace, modality: str) -> list[Row]:
    channels = opt.output_nc if modality == opt.target else opt.input_nc
    if opt.dataset_mode == "unaligned":
        return SIDES[modality](opt, opt.dataroot, channels).rows
    folder = Path(opt.dataroot) / modality
    if not folder.is_dir():
        raise UserError(f"--dataroot {opt.dataroot}: has no folder {modality}; say --sources and --target")
    return loader_of(modality)(opt, folder, channels).rows


def _options(opt: Namespace) -> Namespace:
    """The options that the run remembers: not those of use to the import alone, nor those that became facts."""
    opt.imported_from = str(Path(opt.from_dir).resolve())
    for name in ("from_dir", "fallbacks", "classes", "target_range"):
        delattr(opt, name)
    return opt
