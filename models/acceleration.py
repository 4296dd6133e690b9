"""How a training step is computed, whatever the model: precision, memory layout, compilation, accumulated batches.

The one place that knows. Networks are handed over where they are set up (BaseModel.setup), and the training loop makes
each step inside `Acceleration.step`, so that models, plug-ins' too, say only what is computed.

Only passes that record gradients are accelerated. Validation, calibration and the images that are shown are computed
in float32 by the same code as everywhere else, so what a run says of itself is what `predict` and `translate` will do.
"""
import logging
import shutil
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from types import MethodType
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from duiit.util.errors import UserError

log = logging.getLogger(__name__)
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve(opt: Namespace) -> None:
    """Replaces each `auto` by what opt.device is quicker with, so that the run remembers the choice.

    A GPU with bfloat16 takes it, with channels last, which its convolutions are made for. A CPU stays in float32: half
    precision is slower there without matrix units (docs/performance.md has the figures).
    """
    on_gpu = opt.device.startswith("cuda")
    if opt.amp == "fp16" and not on_gpu:
        raise UserError("--amp fp16: is for GPUs, and tens of times slower than float32 on a CPU; give --amp off")
    if opt.amp == "auto":
        opt.amp = _half_of_gpu(opt.device) if on_gpu else "off"
    if opt.channels_last == "auto":
        opt.channels_last = "on" if on_gpu and opt.amp != "off" else "off"
    if opt.compile == "auto":
        opt.compile = "off"
    if opt.compile == "on" and (missing := _no_compiler(on_gpu)):
        log.warning("--compile on: %s; the networks are not compiled", missing)
        opt.compile = "off"
    if opt.compile == "on" and opt.amp == "fp16":
        raise UserError("--compile on: does not go with --amp fp16; take --amp bf16, or --compile off")


def _half_of_gpu(device: str) -> str:
    if torch.cuda.get_device_capability(device) >= (8, 0):
        return "bf16"
    return "fp16" if torch.cuda.get_device_capability(device) >= (7, 0) else "off"


def _no_compiler(on_gpu: bool) -> str:
    """What torch.compile would miss; empty where it has all it needs."""
    if on_gpu:
        from torch.utils._triton import has_triton  # late: it looks for the GPU's tools
        return "" if has_triton() else "Triton, with which torch compiles for a GPU, does not work here"
    return "" if shutil.which("g++") or shutil.which("clang++") else "there is no C++ compiler (g++ or clang++)"


class _Quick(nn.Module):
    """Put before the class of a network that was handed over. Not a wrapper round the network: the keys of its state
    dict, its type and deep copies of it stay as they are."""

    acceleration: "Acceleration"

    def forward(self, *inputs: Any, **named: Any) -> Any:
        plain = cast(MethodType, super().forward)       # of the network's own class
        if not torch.is_grad_enabled():
            return plain(*inputs, **named)
        return self.acceleration.call(self, plain.__func__, inputs, named)


class _Exact(nn.Linear):
    """A linear layer outside of autocast: a predictor's answer, in years, would come in steps of a quarter."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        with torch.autocast(values.device.type, enabled=False):
            return super().forward(values.float())


class _Accumulating(torch.optim.Optimizer):
    """Put before the class of an optimizer: gradients of several batches make one step."""

    window: "Acceleration"
    waiting = False                                     # gradients are there that no step was made with

    def step(self, closure: Any = None) -> Any:
        self.waiting = not self.window.completes
        return None if self.waiting else super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        if not self.waiting:
            super().zero_grad(set_to_none)


def _become(thing: Any, kind: type) -> Any:
    """`thing`, whose class has `kind` before it from now on."""
    thing.__class__ = type(type(thing).__name__, (kind, type(thing)), {})
    return thing


@cache
def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """`forward` of a class of networks, all of which share what is compiled."""
    return torch.compile(forward)


class _ScaledBackward(TorchFunctionMode):
    """Inside, `loss.backward()` starts from the scaled loss, whoever calls it."""

    def __init__(self, scaler: torch.amp.GradScaler) -> None:
        super().__init__()
        self.scaler = scaler

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        if func is torch.Tensor.backward:
            args = self.scaler.scale(args[0]), *args[1:]
        return func(*args, **(kwargs or {}))


class Acceleration:
    """How the steps of one training are made. completes: the batch at hand is the last of those that make a step."""

    completes = True

    def __init__(self, opt: Namespace, device: torch.device) -> None:
        self.device, self.dtype = device, TYPES.get(opt.amp)
        self.compiles, self.channels_last = opt.compile == "on", opt.channels_last == "on"
        self.accumulate, self.clip = opt.accumulate, opt.clip_grad
        self.batches = 0                                # of the step at hand
        # The prediction loss is in squared years: torch's own first scale, 64 times this, costs the first steps.
        self.scaler = torch.amp.GradScaler(device.type, init_scale=1024) if self.dtype is torch.float16 else None
        if device.type == "cuda" and "crop" in opt.preprocess:      # images of one size: worth a search for the best
            torch.backends.cudnn.benchmark = True

    def __str__(self) -> str:
        said = [{torch.bfloat16: "bfloat16", torch.float16: "float16", None: "float32"}[self.dtype],
                *(["channels last"] if self.channels_last else []), *(["compiled"] if self.compiles else []),
                *([f"{self.accumulate} batches a step"] if self.accumulate > 1 else [])]
        return ", ".join(said)

    # -- what is handed over -----------------------------------------------------------------------------------

    def prepare(self, net: nn.Module) -> None:
        """Takes over a network, where there is something to do."""
        if self.channels_last:
            net.to(memory_format=torch.channels_last)
        if self.dtype or self.compiles or self.channels_last:
            _become(net, _Quick).acceleration = self
        if self.dtype:
            for layer in net.modules():
                if type(layer) is nn.Linear:
                    layer.__class__ = _Exact

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Takes over an optimizer; to be called before a schedule is put on it."""
        if self.accumulate > 1:
            _become(optimizer, _Accumulating).window = self

    # -- a step ------------------------------------------------------------------------------------------------

    @contextmanager
    def step(self, completes: bool = True) -> Iterator[None]:
        """Inside, a model makes its step with one batch. completes: no more batches belong to the step."""
        self.completes, self.batches = completes, self.batches + 1
        with ExitStack() as stack:
            if self.scaler:
                stack.enter_context(_ScaledBackward(self.scaler))
            yield
        if completes:
            self.batches = 0
            if self.scaler:
                self.scaler.update()

    def call(self, net: nn.Module, plain: Callable[..., Any], inputs: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """One pass through a network by its class's `plain` forward; what it answers is float32."""
        if self.compiles:
            plain = _compiled(plain)
        if self.channels_last:
            inputs = [_last(i) if isinstance(i, torch.Tensor) and i.ndim == 4 else i for i in inputs]
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            answer = plain(net, *inputs, **named)
        return _float(answer)

    def ready(self, optimizer: torch.optim.Optimizer, gradients: Sequence[torch.Tensor]) -> torch.Tensor | None:
        """What every optimizer's step begins with: makes of the gradients those of the step, and clips them. Their
        length before that, or None where float16 ran over: then the step is left out, and the scale falls."""
        if self.scaler:
            self.scaler.unscale_(optimizer)
        if self.batches > 1:
            torch._foreach_div_(list(gradients), self.batches)
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.scaler and not norm.isfinite():
            optimizer.zero_grad(set_to_none=True)       # an optimizer passes over weights without a gradient
            return None
        if self.clip:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
        return norm

    def state_dict(self) -> dict[str, Any]:
        return self.scaler.state_dict() if self.scaler else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.scaler:
            self.scaler.load_state_dict(dict(state))


def _last(images: torch.Tensor) -> torch.Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _float(answer: Any) -> Any:
    """Every tensor of a network's answer in float32."""
    if isinstance(answer, torch.Tensor):
        return answer.float() if answer.is_floating_point() else answer
    if isinstance(answer, (list, tuple)):
        return type(answer)(_float(a) for a in answer)
    return {k: _float(a) for k, a in answer.items()} if isinstance(answer, dict) else answer
