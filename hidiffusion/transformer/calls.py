"""What one call of a transformer knows: its grid of tokens, its windows and its scales.

Made anew before every call from the call's own arguments and the clock, and gone after it.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hidiffusion.clock import Position, Tick
from hidiffusion.errors import InvalidConfigError, UnsupportedPipelineError
from hidiffusion.transformer.attention import Cut
from hidiffusion.transformer.config import TransformerConfig
from hidiffusion.transformer.families import Family
from hidiffusion.transformer.positions import Scales
from hidiffusion.unet.windows import WindowGrid, window_indices


@dataclass(frozen=True)
class Call:
    """One call of a transformer, in tokens.

    Attributes:
        batch: pictures.
        rows: tokens along the height.
        columns: tokens along the width.
        text: tokens of the text.
        device: where the picture is.
    """

    batch: int
    rows: int
    columns: int
    text: int
    device: torch.device

    @property
    def tokens(self) -> int:
        """Tokens of a picture."""
        return self.rows * self.columns


class Plan(NamedTuple):
    """What acts on a call.

    Attributes:
        grid: number of windows along each axis.
        window: height and width of a window in tokens; of the picture where there are no windows.
        scales: how many native sides attention spans.
        keys: tokens that an image token attends to.
        native_keys: the same in training.
    """

    grid: WindowGrid
    window: tuple[int, int]
    scales: Scales
    keys: int
    native_keys: int

    @property
    def windowed(self) -> bool:
        """Whether attention works in windows."""
        return self.grid.num_windows > 1


class CallReader:
    """Reads the grid of tokens out of the arguments of a call.

    Args:
        family: row of the transformer.
        patch: latents along the side of a token.
    """

    def __init__(self, family: Family, patch: int) -> None:
        self._family = family
        self._patch = patch
        self._ids: tuple[weakref.ref[Tensor], int, tuple[int, int]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What was read of a tensor is not copied: the tensor is not, either."""
        return vars(self) | {"_ids": None}

    def read(self, arguments: dict[str, Any]) -> Call:
        """Return the call.

        Raises:
            UnsupportedPipelineError: the sequence holds more than the picture that is drawn.
        """
        if self._family.positions == "tables":
            return self._lists(arguments)
        sample, text = arguments["hidden_states"], arguments["encoder_hidden_states"]
        if self._family.positions == "learned":
            rows, columns = (int(side) // self._patch for side in sample.shape[-2:])
        elif self._family.positions == "shapes":
            rows, columns = self._shape(arguments["img_shapes"])
        else:
            rows, columns = self._coordinates(arguments["img_ids"], sample.shape[1])
        return Call(sample.shape[0], rows, columns, text.shape[1], sample.device)

    def _lists(self, arguments: dict[str, Any]) -> Call:
        pictures, captions = arguments["x"], arguments["cap_feats"]
        if isinstance(pictures[0], list):
            self._refuse("pictures to start from")
        sizes = {tuple(picture.shape[-2:]) for picture in pictures}
        if len(sizes) > 1:
            self._refuse("pictures of several sizes")
        patch = arguments.get("patch_size", self._patch)
        rows, columns = (side // patch for side in sizes.pop())
        text = max(len(caption) for caption in captions)
        return Call(len(pictures), rows, columns, text, pictures[0].device)

    def _shape(self, shapes: Any) -> tuple[int, int]:
        first = shapes[0] if isinstance(shapes, list) else shapes
        pictures = first if isinstance(first, list) else [first]
        if len(pictures) > 1 or pictures[0][0] > 1:
            self._refuse("reference pictures")
        return pictures[0][1], pictures[0][2]

    def _coordinates(self, ids: Tensor, tokens: int) -> tuple[int, int]:
        """Read a tensor of coordinates once, not in every call: reading waits for the device."""
        known = self._ids
        if known is not None and known[0]() is ids and known[1] == ids._version:
            return known[2]
        flat = ids[0] if ids.dim() == 3 else ids
        last = flat.long().amax(0).tolist()
        rows, columns = (int(last[axis]) + 1 for axis in self._family.axes)
        others = [last[axis] for axis in range(len(last)) if axis not in self._family.axes]
        if any(others) or rows * columns != tokens:
            self._refuse("reference pictures")
        self._ids = weakref.ref(ids), ids._version, (rows, columns)
        return rows, columns

    def _refuse(self, what: str) -> None:
        raise UnsupportedPipelineError(
            f"the sequence of this {self._family.name} holds {what} beside the one that is drawn; "
            "positions and windows are made for text to image: use the method direct"
        )


def plan(config: TransformerConfig, native: int, call: Call, position: Position) -> Plan | None:
    """Tell what acts on a call.

    Args:
        config: what was asked for.
        native: side of the training pictures in tokens.
        call: the call.
        position: where it stands in its run.

    Returns:
        The plan, or None for a picture of native area or less, which the model draws as it is.
    """
    if call.tokens <= native * native:
        return None
    grid = WindowGrid(1, 1)
    if position.step >= config.full_share * position.total - 1e-9:
        grid = _grid(config, native, call)
    window = (-(-call.rows // grid.rows), -(-call.columns // grid.columns))
    return Plan(
        grid,
        window,
        Scales.of(window, native, joint=config.axes == "joint"),
        keys=math.prod(window) + call.text,
        native_keys=native * native + call.text,
    )


def _grid(config: TransformerConfig, native: int, call: Call) -> WindowGrid:
    if config.window_grid == "native":
        return WindowGrid(-(-call.rows // native), -(-call.columns // native))
    return WindowGrid(config.window_grid, config.window_grid)


def cuts(
    config: TransformerConfig,
    call: Call,
    planned: Plan,
    tick: Tick,
    blocks: int,
    *,
    places: bool,
) -> Iterator[Cut]:
    """Yield how each block cuts the picture.

    Args:
        config: what was asked for.
        call: the call.
        planned: its plan.
        tick: where it stands.
        blocks: number of blocks.
        places: whether positions are looked up by the processor.
    """
    size = (call.rows, call.columns)
    found = _places(call, planned) if places else None
    for block in range(blocks):
        shifts = tuple(
            config.shifts(seed=seed, block=block, step=tick.position.step, timestep=tick.timestep)
            for seed in _seeds(config, call.batch)
        )
        made = window_indices(size, planned.grid, shifts, batch=call.batch, device=call.device)
        yield Cut(made.alias(), call.tokens, found)


def _seeds(config: TransformerConfig, batch: int) -> tuple[int, ...]:
    seeds = config.seed if isinstance(config.seed, tuple) else (config.seed or 0,)
    if batch % len(seeds):
        raise InvalidConfigError(
            f"there are {len(seeds)} seeds for a batch of {batch}; give one, or one a sample"
        )
    return seeds


def _places(call: Call, planned: Plan) -> Tensor:
    rows, columns = (torch.arange(side, device=call.device) for side in planned.window)
    return (rows[:, None] * call.columns + columns).flatten().repeat(planned.grid.num_windows)
