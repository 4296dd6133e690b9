"""Several processes that train one run together, each on a device of its own: the one place that knows of ranks.

A process that torchrun (or `duiit train --nproc`) started has its place in the environment; `joined` makes the
connection. Alone, every function here does nothing, or the obvious. Gradients are averaged by hand, in an optimizer's
pre-step hook, and not by torch's DistributedDataParallel: a step here goes backward many times through several
networks, some frozen now and then, which DDP's bookkeeping of "one backward a forward" does not follow.
"""
import datetime
import os
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous

from duiit.util.errors import UserError
from duiit.util.process_failures import explained

PATIENCE = datetime.timedelta(hours=12)     # rank 0 may prepare data for hours; who has died is noticed at once
BUCKET = 8 * 2**20                          # gradients averaged in one go, so that small ones travel together
_words: dist.ProcessGroup | None = None     # the group that small messages between the processes go through
T = TypeVar("T")


def launched() -> bool:
    """True in a process that torchrun started."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def rank() -> int:
    return dist.get_rank() if _joined() else 0


def ranks() -> int:
    return dist.get_world_size() if _joined() else 1


def is_main() -> bool:
    """True for the one process that writes logs and checkpoints."""
    return rank() == 0


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def joined(opt: Namespace) -> Iterator[None]:
    """Connects this process with the others of the run, and gives it a device: sets opt.device and opt.gpu_ids."""
    global _words
    if not launched() or int(os.environ["WORLD_SIZE"]) == 1 or _joined():
        yield
        return
    opt.device, opt.gpu_ids = place(opt.device, opt.gpu_ids)
    number = int(os.environ["RANK"])
    with explained(None, number, opt.device):
        store, number, count = next(rendezvous("env://", timeout=PATIENCE))
    with explained(store, number, opt.device):
        dist.init_process_group("nccl" if opt.gpu_ids else "gloo", store=store, rank=number, world_size=count,
                                timeout=PATIENCE)
    try:
        with explained(store, number, opt.device):
            group = dist.new_group(backend="gloo", timeout=PATIENCE) if opt.gpu_ids else None
            _words = group if isinstance(group, dist.ProcessGroup) else None
            yield
    finally:
        # Gloo's threads may be about to let go of tensors, for which they need Python's lock; the group's end holds it
        # while it waits for them: with torch 2.6 that was for ever, now and then.
        time.sleep(0.2)
        dist.destroy_process_group()
        _words = None


def place(device: str, gpu_ids: list[int]) -> tuple[str, list[int]]:
    """(device, gpu_ids) of this process: the GPU of its number on this machine, where GPUs are used."""
    if not device.startswith("cuda"):
        if device == "mps":
            raise UserError("--device mps: Apple's GPU works for one process only; use --device cpu for several")
        return device, gpu_ids
    number = int(os.environ.get("LOCAL_RANK", 0))
    if number >= torch.cuda.device_count():
        raise UserError(f"process {number} of this machine has no GPU: there are {torch.cuda.device_count()}; start "
                        "as many processes as GPUs, or give --device cpu")
    torch.cuda.set_device(number)
    return f"cuda:{number}", [number]


# -- words between the processes -----------------------------------------------------------------------------------

def agree(*values: int) -> list[int]:
    """The largest of each value among the processes, so that all do the same: whole numbers, True being 1."""
    numbers = [int(v) for v in values]
    if ranks() == 1:
        return numbers
    tensor = torch.tensor(numbers)
    dist.all_reduce(tensor, dist.ReduceOp.MAX, group=_words)
    return tensor.tolist()


def gather(value: T) -> list[T]:
    """[value of each process], in all of them."""
    if ranks() == 1:
        return [value]
    found: list[Any] = [None] * ranks()
    dist.all_gather_object(found, value, group=_words)
    return found


def mean(numbers: dict[str, float]) -> dict[str, float]:
    """{name: number} -> {name: its mean over the processes}."""
    if ranks() == 1:
        return numbers
    tensor = torch.tensor(list(numbers.values()), dtype=torch.float64)
    dist.all_reduce(tensor, group=_words)
    return dict(zip(numbers, (tensor / ranks()).tolist(), strict=True))


def from_main(work: Callable[[], T]) -> T:
    """What `work()` gives in the first process, in all of them. A UserError there ends the others without a word."""
    if ranks() == 1:
        return work()
    answer: list[Any] = [None]
    error = None
    if is_main():
        try:
            answer = [("done", work())]
        except UserError as caught:
            error = caught
    dist.broadcast_object_list(answer, src=0, group=_words)
    if error:
        raise error
    return _unless_failed(answer[0] is None, answer)[0][1]


def first_here(work: Callable[[], T]) -> T:
    """`work()` in every process, those that are first on their machine before the others: for what leaves a cache."""
    if ranks() == 1:
        return work()
    values: list[T] = []
    error = None
    for turn in (True, False):
        if (int(os.environ.get("LOCAL_RANK", 0)) == 0) is turn:
            try:
                values.append(work())
            except UserError as caught:
                error = caught
        failed, = agree(error is not None)
        if error:
            raise error
        _unless_failed(bool(failed), None)
    return values[0]


def _unless_failed(failed: bool, value: T) -> T:
    if failed:
        raise SystemExit(2)             # the process that failed says why
    return value


# -- networks ------------------------------------------------------------------------------------------------------

def synchronise(net: nn.Module) -> None:
    """Makes a network the same in all processes, and its batch normalisation one over all of them."""
    if ranks() == 1:
        return
    for tensor in (*net.parameters(), *net.buffers()):
        dist.broadcast(tensor.detach(), src=0)
    for module in net.modules():
        if type(module) in (nn.BatchNorm2d, nn.BatchNorm1d, nn.BatchNorm3d, nn.SyncBatchNorm):
            module.__class__ = SharedBatchNorm      # the very same weights and keys, another forward


def average(gradients: Iterable[torch.Tensor]) -> None:
    """Replaces each tensor by its mean over the processes."""
    if ranks() == 1:
        return
    for bucket in _buckets(gradients):
        flat = torch.cat([g.reshape(-1) for g in bucket])
        dist.all_reduce(flat)
        flat /= ranks()
        for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(part.view_as(gradient))


def _buckets(tensors: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    bucket: list[torch.Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.numel() > BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket


def share(count: torch.Tensor) -> torch.Tensor:
    """A count's mean over the processes: what a sum over one process's samples is divided by, so that the mean of the
    processes' values is the sum over all samples divided by the count of all."""
    if ranks() == 1:
        return count
    count = count.float()
    dist.all_reduce(count)
    return count / ranks()


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the batches of all processes, on any device (torch's own is for GPUs only)."""

    def _check_input_dim(self, images: torch.Tensor) -> None:
        pass

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or ranks() == 1:
            return super().forward(x)
        mean, variance, count = _moments(x)
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * count / (count - 1))
        shape = (1, -1, *[1] * (x.ndim - 2))
        scale = (variance + self.eps).rsqrt()
        y = (x - mean.view(shape)) * scale.view(shape)
        return (y * self.weight.view(shape) + self.bias.view(shape) if self.affine else y).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(mean (C,), variance (C,), values a channel) of x (N, C, …) over all processes, by one exchange.

    Means and variances travel, not sums of squares, whose difference would lose the digits that matter.
    """
    axes = [0, *range(2, x.ndim)]
    precise = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(precise, axes, correction=0)                        # (C,) each
    count = torch.full_like(mean[:1], x.numel() / x.shape[1])
    mine = torch.cat([mean, variance, count])                                           # (2 C + 1,)
    table = torch.stack([mine if r == rank() else torch.zeros_like(mine) for r in range(ranks())])
    means, variances, counts = _Sum.apply(table).split([x.shape[1], x.shape[1], 1], 1)  # (ranks, C), …, (ranks, 1)
    total = counts.sum()
    mean = (means * counts).sum(0) / total
    variance = ((variances + (means - mean).square()) * counts).sum(0) / total
    return mean, variance, total.detach()
