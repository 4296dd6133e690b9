"""Weights and training states on disk: written whole or not at all, read without running anything in them."""
import random
from pathlib import Path

import numpy as np
import torch

from util.errors import UserError
from util.files import atomic_path


def save(value, path):
    """Saves tensors, numbers, text, lists and dicts of these."""
    with atomic_path(path) as part, part.open("wb") as file:
        torch.save(value, file)             # given a name, torch writes it into the file: the same weights would differ


def load(path, device="cpu"):
    """What `save` wrote, onto `device`. Raises UserError where the file is missing, damaged or not plain data."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; --epoch says which weights to load")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:              # torch, pickle and zipfile each raise their own kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not readable as a checkpoint ({reason[:120]}); use another epoch's") from None


def load_weights(net, path, device="cpu"):
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


def _obsolete(net):
    """Keys that instance norms had in checkpoints of PyTorch before 0.4, and that nothing reads."""
    return {f"{name}.{key}" for name, module in net.named_modules()
            if isinstance(module, torch.nn.modules.instancenorm._InstanceNorm) and not module.track_running_stats
            for key in ("running_mean", "running_var", "num_batches_tracked")}


def random_state():
    """The state of every global generator a training step may draw from."""
    state = {"python": random.getstate(), "torch": torch.get_rng_state()}
    kind, keys, position, has_gauss, gauss = np.random.get_state()      # noqa: NPY002
    state["numpy"] = [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss]
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state):
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    torch.set_rng_state(state["torch"].cpu())
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))      # noqa: NPY002
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)                    # noqa: NPY002
    torch.manual_seed(seed)
