"""Weights and training states on disk: written whole or not at all, read without running anything in them.

Every file ends in a checksum of what stands before it, so that a bit that turned on the disk is found. It is the
comment of the zip archive that torch writes: other programs read the file as ever.
"""
import hashlib
import os
import pickle
import random
import sys
import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
import torch

from duiit.util.errors import UserError
from duiit.util.files import atomic_path, natural_key

MARK = b"duiit sha256 "
COMMENT = len(MARK) + 64


def save(value: object, path: str | PathLike[str]) -> None:
    """Saves tensors, numbers, text, lists and dicts of these. The same values make the same bytes."""
    with atomic_path(path) as part, part.open("w+b") as file:
        hashing = _Hashing(file)            # given a name, torch writes it into the file: the same weights would differ
        torch.save(_canonical(value), cast("IO[bytes]", hashing))     # which has of a file what torch uses
        # The archive's last two bytes are the length of its comment, which was none.
        file.seek(-2, os.SEEK_END)
        file.write(COMMENT.to_bytes(2, "little") + MARK + hashing.digest.hexdigest().encode())


class _Hashing:
    """A file that is hashed as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest, self.flush = file, hashlib.sha256(), file.flush

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.file.write(data)


def _canonical(value: Any) -> Any:
    """The same values in new containers: pickle writes an object that turns up twice as a reference, and which objects
    are one depends on whether a run was resumed."""
    if isinstance(value, dict):
        return {_canonical(k): _canonical(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_canonical(v) for v in value])
    if isinstance(value, str):
        return sys.intern(value)
    return value.detach() if isinstance(value, torch.Tensor) else value


def sealed(path: str | PathLike[str]) -> bool | None:
    """True where the file's checksum is right, False where it is wrong, None where it has none (other programs')."""
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < COMMENT + 2:
            return None
        file.seek(-COMMENT, os.SEEK_END)
        comment = file.read()
        if not comment.startswith(MARK):
            return None
        file.seek(0)
        digest, left = hashlib.sha256(), size - COMMENT - 2
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
        digest.update(b"\0\0")
    return digest.hexdigest().encode() == comment[len(MARK):]


def load(path: str | PathLike[str], device: str | torch.device = "cpu") -> Any:
    """What `save` wrote, onto `device`. Raises UserError where the file is missing, damaged or not plain data."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; {_instead_of(path)}")
    try:
        if sealed(path) is False:
            raise ValueError("its checksum is wrong: the file was damaged after it was written")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")     # of what it then refuses in words that are ours
            return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(f"{path}: not readable as a checkpoint (it is damaged, or holds more than tensors and plain "
                        "values, which could run as a program and was not opened); use another file") from None
    except Exception as error:              # torch and zipfile each raise their own kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not readable as a checkpoint ({reason[:120]}); use another epoch's") from None


def _instead_of(path: Path) -> str:
    """Which weights a run's folder holds, or how they come about."""
    network = path.stem.partition("_net_")[2]
    there = {p.name.partition("_net_")[0] for p in path.parent.glob(f"*_net_{network}.pth")} if network else set()
    if there:
        return f"--epoch says which weights to load; there are {', '.join(sorted(there, key=natural_key))}"
    if any(path.parent.glob("*_net_*.pth")):
        return "its run has no such network"
    return "nothing was saved yet: train first, or go on with `duiit train --name … --continue_train`"


def load_weights(net: torch.nn.Module, path: str | PathLike[str], device: str | torch.device = "cpu") -> None:
    """Loads a plain state dict into `net`. Raises UserError that names the first key that does not fit.

    A `module.` that a DataParallel wrapper left before the keys is taken off.
    """
    state = load(path, device)
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{path}: holds no state dict of a network")
    state = {k.removeprefix("module."): v for k, v in state.items()}
    obsolete = _obsolete(net)
    state = {k: v for k, v in state.items() if k not in obsolete}
    own = net.state_dict()
    wrong = [f"{k} is missing" for k in own if k not in state]
    wrong += [f"{k} is unknown" for k in state if k not in own]
    wrong += [f"{k} is {tuple(state[k].shape)} instead of {tuple(v.shape)}"
              for k, v in own.items() if k in state and state[k].shape != v.shape]
    if wrong:
        raise UserError(f"{path}: a checkpoint of another architecture: {wrong[0]} (and {len(wrong) - 1} more); "
                        "give the network options it was trained with")
    net.load_state_dict(state)


def _obsolete(net: torch.nn.Module) -> set[str]:
    """Keys that instance norms had in checkpoints of PyTorch before 0.4, and that nothing reads."""
    return {f"{name}.{key}" for name, module in net.named_modules()
            if isinstance(module, torch.nn.modules.instancenorm._InstanceNorm) and not module.track_running_stats
            for key in ("running_mean", "running_var", "num_batches_tracked")}


def random_state(device: str | torch.device = "cpu") -> dict[str, Any]:
    """The state of every global generator a training step may draw from."""
    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    numbers = np.random.get_state(legacy=False)         # noqa: NPY002
    kind, twister = numbers["bit_generator"], numbers["state"]
    state["numpy"] = [kind, torch.from_numpy(twister["key"].astype(np.int64)), twister["pos"], numbers["has_gauss"],
                      numbers["gauss"]]
    device = torch.device(device)
    if device.type != "cpu":
        state[device.type] = torch.get_device_module(device).get_rng_state(*_numbered(device))
    return state


def set_random_state(state: Mapping[str, Any], device: str | torch.device = "cpu") -> None:
    """Goes on where `state` was taken; a device of another kind than then keeps its own generator."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    torch.set_rng_state(state["torch"].cpu())
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))      # noqa: NPY002
    device = torch.device(device)
    if device.type in state and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state[device.type].cpu(), *_numbered(device))


def _numbered(device: torch.device) -> tuple[torch.device, ...]:
    return (device,) if device.type == "cuda" else ()


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)                    # noqa: NPY002
    torch.manual_seed(seed)
