"""What an evaluation holds grows with the shorter side: allocations are counted, not timed.

A block here is one of the released model's in small, so 32 blocks stand for 4096 pixels.
"""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hidiffusion.inf_dit import InfDiTTransformer

BLOCK = 8
WIDTH = 32


class Held(TorchDispatchMode):
    """Follows how many bytes are alive at most, and the largest storage."""

    def __init__(self, *given: torch.Tensor) -> None:
        super().__init__()
        self.now = self.peak = self.largest = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._seen:
            return
        self._seen.add(storage._cdata)
        size = storage.nbytes()
        self.now += size
        self.peak, self.largest = max(self.peak, self.now), max(self.largest, size)
        weakref.finalize(storage, self._forget, storage._cdata, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def held(height: int, width: int, chunk_blocks: int | None = 2) -> Held:
    """Run one evaluation on a picture of so many blocks."""
    network = InfDiTTransformer(
        num_layers=2,
        num_attention_heads=1,
        attention_head_dim=WIDTH,
        block_size=BLOCK,
        image_embed_dim=None,
    )
    sample = torch.zeros(1, 3, height * BLOCK, width * BLOCK)
    lr = torch.zeros(1, 3, height * BLOCK // 4, width * BLOCK // 4)
    evaluation = network.begin(height * BLOCK, width * BLOCK, chunk_blocks)
    sigma = torch.ones(1)
    with torch.no_grad(), Held(sample, lr) as count:
        for chunk in evaluation.scan:
            part = chunk.crop(sample, BLOCK)
            network(part, sigma, lr=lr, lr_up=part, chunk=chunk, evaluation=evaluation)
    return count


def test_memory_grows_with_the_side_and_not_with_the_area() -> None:
    peaks = [held(side, side).peak for side in (4, 8, 16)]
    # A line of keys and values, of two layers, and nothing else.
    line = 2 * 2 * (BLOCK // 4) ** 2 * WIDTH * 4
    assert peaks[1] - peaks[0] == 4 * line
    assert peaks[2] - peaks[1] == 8 * line


def test_only_the_shorter_side_counts() -> None:
    assert held(4, 16).peak == held(4, 8).peak
    assert held(16, 4).peak == held(8, 4).peak


def test_windows_of_the_small_picture_are_never_made_for_all_blocks() -> None:
    blocks, window = 16, 9
    assert held(blocks, blocks, 1).largest < blocks**2 * window * WIDTH * 4 / 8
