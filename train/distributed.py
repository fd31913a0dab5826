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

from quillrt.runtime.errors import ConfigError

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
        ConfigError: the other processes cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if gpu and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
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
        if isinstance(norm, nn.BatchNorm2d):
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


class _CpuSyncBatchNorm(nn.BatchNorm2d):
    """What torch's SyncBatchNorm does, which wants a GPU: mean and variance over the images of all processes."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the name in nn.Module's signature
        """Return the normalized batch (N, C, H, W)."""
        if not self.training or self.running_mean is None or self.running_var is None:
            return super().forward(input)
        x = input.float()
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = _Total.apply(torch.cat([x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), count]))
        mean, square = (sums[:-1] / sums[-1]).chunk(2)
        variance = square - mean.square()
        with torch.no_grad():
            momentum = self.momentum or 0.0
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * (sums[-1] / (sums[-1] - 1)), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        normalized: torch.Tensor = x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
        return normalized.to(input.dtype)
