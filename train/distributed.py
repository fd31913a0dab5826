"""Several processes, on one machine or many, that train as one: what torchrun starts.

Each process has all images in memory and takes its share of every batch; the gradients are averaged, so the weights
stay equal everywhere. Process 0 alone writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from quillrt.runtime.errors import ConfigError

from .devices import choose_device

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among those that train together; alone, it is 0 of 1."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def share(self, items: torch.Tensor) -> torch.Tensor:
        """Return this process's part of ``items`` (N, ...); the parts are disjoint and differ by one item at most."""
        return items[self.rank :: self.size]

    def total(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return the sum of ``numbers`` over all processes."""
        if self.size > 1:
            distributed.all_reduce(numbers)
        return numbers

    def gather(self, item: T) -> list[T]:
        """Return every process's ``item``, in the order of their ranks."""
        if self.size == 1:
            return [item]
        items: list[Any] = [None] * self.size
        distributed.all_gather_object(items, item)
        return items


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that torchrun started, for as long as the ``with`` block lasts; without torchrun, stay alone.

    Args:
        device: as in ``TrainConfig``; GPUs talk by NCCL, CPUs by Gloo.

    Raises:
        BackendUnavailable: a GPU is asked for and there is none.
        ConfigError: this process has no GPU of its own, or the others cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    gpu = choose_device(device).type == "cuda"
    if gpu:
        rank, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if rank >= gpus:
            raise ConfigError(f"expected a GPU for each process of this machine, found {gpus}; lower --nproc-per-node")
        torch.cuda.set_device(rank)
    try:
        distributed.init_process_group("nccl" if gpu else "gloo")
    except (ValueError, RuntimeError, distributed.DistError) as error:
        raise ConfigError(
            f"expected {size} processes to meet at {os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}, "
            f"but {' '.join(str(error).split())[:200]}; start them with torchrun"
        ) from error
    try:
        yield World(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()


def synchronized(module: nn.Module, device: torch.device) -> nn.Module:
    """Return ``module`` with batch norms that see the batch of all processes, as one process would; in place."""
    if device.type == "cuda":
        synced: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return synced
    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            norm.__class__ = _CpuSyncBatchNorm
    return module


class _Total(torch.autograd.Function):
    """The sum over all processes; each one's part has its share in all their losses."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor) -> torch.Tensor:
        total = part.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


class _CpuSyncBatchNorm(_BatchNorm):
    """What torch's SyncBatchNorm does, which wants a GPU: mean and variance over the images of all processes."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the name in nn.Module's signature
        """Return the normalized batch (N, C, ...)."""
        if not self.training or not distributed.is_initialized():
            return super().forward(input)
        x = input.float()
        others, across = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]  # all dimensions but the channels'
        sums = _Total.apply(torch.cat([x.sum(others), x.new_tensor([x.numel() / x.shape[1]])]))
        count, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centred = x - mean.view(across)
        variance = _Total.apply(centred.square().sum(others)) / count
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                share = float(1 / self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * count / (count - 1), share)
        normalized: torch.Tensor = centred * torch.rsqrt(variance + self.eps).view(across)
        if self.weight is not None and self.bias is not None:
            normalized = normalized * self.weight.view(across) + self.bias.view(across)
        return normalized.to(input.dtype)

    def _check_input_dim(self, input: torch.Tensor) -> None:  # noqa: A002
        """Any dimension: the class of which this was made is not known any more."""
