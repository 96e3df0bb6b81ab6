"""Hooks that give a transformer's position module positions of windows and of larger pictures.

They change what the module is asked or what it answers, so its own tables and caches stay as they
are. One class a kind of position, see `Family.positions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from hidiffusion.errors import InvalidConfigError
from hidiffusion.transformer.calls import Call, Plan
from hidiffusion.transformer.config import TransformerConfig
from hidiffusion.transformer.positions import (
    Axis,
    Scales,
    entropy_temperature,
    frequencies,
    yarn_temperature,
)


class Positions:
    """Base: what is common to all kinds of positions.

    Args:
        transformer: the model.
        config: what was asked for.
        native: side of the training pictures in tokens.
        axes: which axes of the embedding are the rows and the columns.
    """

    def __init__(
        self, transformer: Any, config: TransformerConfig, native: int, axes: tuple[int, int]
    ) -> None:
        self.transformer = transformer
        self.config = config
        self.native = native
        self.axes = axes
        self.plan: Plan | None = None

    def hooks(self) -> Iterator[RemovableHandle]:
        """Attach to the position module."""
        return iter(())

    def begin(self, arguments: dict[str, Any], call: Call, planned: Plan) -> dict[str, Any]:
        """Prepare a call.

        Returns:
            Its arguments, changed where positions are an argument.
        """
        del call
        self.plan = planned
        return arguments

    def finish(self) -> None:
        """Forget the call."""
        self.plan = None

    @property
    def scaled(self) -> Plan | None:
        """The plan, if positions reach beyond the training size and are to be brought back."""
        planned = self.plan
        if planned is None or planned.scales.native:
            return None
        idle = self.config.positions == "none" and self.config.sharpening == "none"
        return None if idle else planned

    def angles(self, axis: int, dim: int, theta: float, places: Tensor, scale: float) -> Tensor:
        """Return the angles of places along an axis, [places, dim / 2].

        In float64, which bfloat16 and float32 positions are too coarse for; float32 where the
        device has no better.
        """
        del axis
        turns = frequencies(Axis(dim, theta, self.native), scale, self.config.positions)
        wide = torch.float32 if places.device.type in {"mps", "npu"} else torch.float64
        return torch.outer(places.to(wide), turns.to(places.device, wide))

    def factors(self, planned: Plan) -> tuple[Scales, float]:
        """Return the factors of queries and keys: of the dimensions of each axis, and of all."""
        sharpening = self.config.sharpening
        if sharpening == "yarn":
            return Scales(*map(yarn_temperature, planned.scales)), 1.0
        if sharpening == "entropy":
            return Scales(1.0, 1.0), entropy_temperature(planned.keys, planned.native_keys)
        return Scales(1.0, 1.0), 1.0


class IdPositions(Positions):
    """Flux.1, Chroma, Flux.2: coordinates are an argument, the module answers cosines and sines."""

    def hooks(self) -> Iterator[RemovableHandle]:
        """Attach to the position module."""
        yield self.transformer.pos_embed.register_forward_hook(self._scale)

    def begin(self, arguments: dict[str, Any], call: Call, planned: Plan) -> dict[str, Any]:
        """Let every window have the coordinates of the picture's first one."""
        arguments = super().begin(arguments, call, planned)
        if not planned.windowed:
            return arguments
        ids = arguments["img_ids"]
        ids = ids[0] if ids.dim() == 3 else ids
        height, width = planned.window
        window = ids.unflatten(0, (call.rows, call.columns))[:height, :width].flatten(0, 1)
        return arguments | {"img_ids": window.repeat(planned.grid.num_windows, 1)}

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _scale(
        self, module: Any, args: tuple[Any, ...], output: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor] | None:
        planned = self.scaled
        if planned is None:
            return None
        ids, (cosines, sines) = args[0], (part.clone() for part in output)
        temperatures, every = self.factors(planned)
        for axis, side, scale, temperature in zip(
            self.axes, planned.window, planned.scales, temperatures, strict=True
        ):
            dims = list(module.axes_dim)
            begin = sum(dims[:axis])
            span = slice(begin, begin + dims[axis])
            places = torch.arange(side, device=ids.device)
            angles = self.angles(axis, dims[axis], module.theta, places, scale)
            rows = ids[:, axis].long()
            for part, turned in ((cosines, angles.cos()), (sines, angles.sin())):
                table = (turned * temperature).repeat_interleave(2, dim=1).to(part.dtype)
                part[:, span] = table.index_select(0, rows)
        return cosines * every, sines * every


class ShapePositions(Positions):
    """Qwen-Image: the module is asked for a grid, whose positions it centres, and for text."""

    def hooks(self) -> Iterator[RemovableHandle]:
        """Attach to the position module."""
        module = self.transformer.pos_embed
        yield module.register_forward_pre_hook(self._ask, with_kwargs=True)
        yield module.register_forward_hook(self._answer)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _ask(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        del module
        if self.plan is None or not self.plan.windowed:
            return None
        window = [(1, *self.plan.window)]
        if args:
            return ([window], *args[1:]), kwargs
        return args, kwargs | {"video_fhw": [window]}

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _answer(
        self, module: Any, args: tuple[Any, ...], output: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor] | None:
        del args
        if self.plan is None:
            return None
        image, text = output
        if self.scaled is not None:
            image, text = self._scaled(module, self.scaled, image, text)
        return image.repeat(self.plan.grid.num_windows, 1), text

    def _scaled(
        self, module: Any, planned: Plan, image: Tensor, text: Tensor
    ) -> tuple[Tensor, Tensor]:
        image, text = image.clone(), text.clone()
        height, width = planned.window
        grid = image.view(height, width, -1)
        temperatures, every = self.factors(planned)
        halves = [dim // 2 for dim in module.axes_dim]
        for axis, side, scale, temperature in zip(
            self.axes, planned.window, planned.scales, temperatures, strict=True
        ):
            begin = sum(halves[:axis])
            span = slice(begin, begin + halves[axis])
            places = torch.arange(side, device=image.device) - (side - side // 2)
            angles = self.angles(axis, module.axes_dim[axis], module.theta, places, scale)
            turns = torch.polar(torch.full_like(angles, temperature), angles).to(image.dtype)
            grid[:, :, span] = turns[:, None] if axis == self.axes[0] else turns[None]
            text[:, span] *= temperature
        return image * every, text * every


class TablePositions(Positions):
    """Z-Image: coordinates are made inside and looked up in tables of no module."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._stock: list[Any] = []  # what stood there, while a call is under way
        self._made: tuple[Any, list[Tensor]] | None = None

    def begin(self, arguments: dict[str, Any], call: Call, planned: Plan) -> dict[str, Any]:
        """Put tables of the scaled positions in the place of the model's."""
        arguments = super().begin(arguments, call, planned)
        embedder = self.transformer.rope_embedder
        sides = (call.rows, call.columns)
        lengths = [embedder.axes_lens[axis] for axis in self.axes]
        longer = any(side > length for side, length in zip(sides, lengths, strict=True))
        if self.scaled is not None or longer:
            self._stock = [embedder.freqs_cis]
            embedder.freqs_cis = self._tables(embedder, call, planned)
        return arguments

    def finish(self) -> None:
        """Give the model its tables back."""
        super().finish()
        if self._stock:
            self.transformer.rope_embedder.freqs_cis = self._stock.pop()

    def _tables(self, embedder: Any, call: Call, planned: Plan) -> list[Tensor]:
        key = (call.rows, call.columns, planned, call.device)
        if self._made is None or self._made[0] != key:
            made = embedder.precompute_freqs_cis(
                embedder.axes_dims, embedder.axes_lens, theta=embedder.theta
            )
            temperatures, every = self.factors(planned)
            sides = (call.rows, call.columns)
            for axis, side, scale, temperature in zip(
                self.axes, sides, planned.scales, temperatures, strict=True
            ):
                places = torch.arange(max(side, embedder.axes_lens[axis]))
                dim = embedder.axes_dims[axis]
                angles = self.angles(axis, dim, embedder.theta, places, scale)
                radii = torch.full_like(angles, temperature)
                made[axis] = torch.polar(radii, angles).to(torch.complex64)
            self._made = key, [(table * every).to(call.device) for table in made]
        return list(self._made[1])


class LearnedPositions(Positions):
    """SD3: a table of positions, of which the model adds the centre of the picture's size."""

    def begin(self, arguments: dict[str, Any], call: Call, planned: Plan) -> dict[str, Any]:
        """Let the model add the native centre of the table, resampled to the picture's size."""
        arguments = super().begin(arguments, call, planned)
        embed = self.transformer.pos_embed
        longest = max(call.rows, call.columns)
        if self.config.positions != "none":
            embed.cropped_pos_embed = lambda *_: self._resampled(embed, call)
        elif longest > embed.pos_embed_max_size:
            raise InvalidConfigError(
                f"the picture is {call.rows}x{call.columns} tokens, but this model's table of "
                f"positions ends at {embed.pos_embed_max_size}; use positions other than none, or "
                f"at most {embed.pos_embed_max_size * 16} pixels a side"
            )
        return arguments

    def finish(self) -> None:
        """Give the model its own table back."""
        super().finish()
        vars(self.transformer.pos_embed).pop("cropped_pos_embed", None)

    def _resampled(self, embed: Any, call: Call) -> Tensor:
        full = embed.pos_embed_max_size
        extent = (call.rows, call.columns)
        scales = Scales.of(extent, self.native, joint=self.config.axes == "joint")
        sides = [max(1, round(side / scale)) for side, scale in zip(extent, scales, strict=True)]
        top, left = ((full - side) // 2 for side in sides)
        table = embed.pos_embed.view(full, full, -1)
        crop = table[top : top + sides[0], left : left + sides[1]]
        planes = crop.permute(2, 0, 1)[None].float()
        resampled = functional.interpolate(planes, extent, mode="bicubic", align_corners=False)
        return resampled.flatten(2).transpose(1, 2).to(table.dtype)


#: The class for each of `Family.positions`.
KINDS: dict[str, type[Positions]] = {
    "ids": IdPositions,
    "shapes": ShapePositions,
    "tables": TablePositions,
    "learned": LearnedPositions,
}
