"""Training by several processes, each with batches of its own, under torch's own launcher.

`torchrun --nproc-per-node 2 -m models.train unet` starts two; without it there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch import distributed as dist


def join() -> None:
    """Meets the other processes, if torch's launcher started any."""
    if dist.is_torchelastic_launched():
        dist.init_process_group("gloo")


def several() -> bool:
    """Tells whether there is more than this process."""
    return dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Returns this process's number; the first, nought, writes checkpoints and logs."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def first_alone() -> Iterator[None]:
    """Lets the first process through, and the others after it: they find the files that it made."""
    if several() and rank():
        dist.barrier()
    yield
    if several() and not rank():
        dist.barrier()


def average(tensors: Sequence[Tensor]) -> None:
    """Replaces tensors by their means over all processes, in one exchange.

    Args:
        tensors: The same shapes in every process, of one dtype and device.
    """
    if not several():
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors]) / dist.get_world_size()
    dist.all_reduce(flat)
    sizes = [tensor.numel() for tensor in tensors]
    for tensor, mean in zip(tensors, torch.split(flat, sizes), strict=True):
        tensor.copy_(mean.view_as(tensor))
