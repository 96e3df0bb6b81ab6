"""One windowed processor for each kind of stock processor of diffusers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hidiffusion.errors import UnsupportedModelError
from hidiffusion.transformer.attention import (
    Cut,
    Sequence,
    WindowedProcessor,
    heads_of,
    rotate,
    sent_out,
)
from hidiffusion.transformer.upstream import apply_rotary_emb


class FluxWindows(WindowedProcessor):
    """For Flux.1, Chroma and the double blocks of Flux.2: text, then image."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Any:
        """Compute as the stock processor does, in windows."""
        cut = self.cut
        if cut is None:
            return self.stock(
                attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
            )
        text, image = encoder_hidden_states, hidden_states
        single = text is None
        if text is None:
            text, image = _text_first(hidden_states, cut)
        texts = heads_of(attn, "" if single else "add", text)
        images = heads_of(attn, "", cut.arrange(image))
        query, key, value = (torch.cat([t, i], dim=1) for t, i in zip(texts, images, strict=True))
        query, key = _turned(query, key, image_rotary_emb)
        split = text.shape[1]
        parts = (Sequence(x[:, split:], x[:, :split]) for x in (query, key, value))
        out = self.attend(cut, parts, _joint_mask(attention_mask, split))
        image, text = cut.restore(out.image), out.other
        if single:
            return torch.cat([text, image], dim=1)
        return sent_out(attn, image), attn.to_add_out(text)


def _text_first(tokens: Tensor, cut: Cut) -> tuple[Tensor, Tensor]:
    text = tokens.shape[1] - cut.tokens
    return tokens[:, :text], tokens[:, text:]


def _turned(
    query: Tensor, key: Tensor, rotary: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    if rotary is None:
        return query, key
    turned = apply_rotary_emb(query, rotary, sequence_dim=1)
    return turned, apply_rotary_emb(key, rotary, sequence_dim=1)


def _joint_mask(mask: Tensor | None, text: int) -> Sequence | None:
    """Split a mask over text, image [B, 1, queries or 1, keys] by who asks."""
    if mask is None:
        return None
    return Sequence(mask[:, :, -1:], mask[:, :, :text] if mask.shape[2] > 1 else mask)


class Flux2ParallelWindows(WindowedProcessor):
    """For the single blocks of Flux.2, which compute attention and feed-forward side by side."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Compute as the stock processor does, in windows."""
        cut = self.cut
        if cut is None:
            out: Tensor = self.stock(attn, hidden_states, attention_mask, image_rotary_emb)
            return out
        text, image = _text_first(hidden_states, cut)
        fused = attn.to_qkv_mlp_proj(torch.cat([text, cut.arrange(image)], dim=1))
        forward_width = attn.mlp_hidden_dim * attn.mlp_mult_factor
        heads, forward = fused.split([fused.shape[-1] - forward_width, forward_width], dim=-1)
        query, key, value = (x.unflatten(-1, (-1, attn.head_dim)) for x in heads.chunk(3, dim=-1))
        query, key = _turned(attn.norm_q(query), attn.norm_k(key), image_rotary_emb)
        split = text.shape[1]
        parts = (Sequence(x[:, split:], x[:, :split]) for x in (query, key, value))
        attended = self.attend(cut, parts, _joint_mask(attention_mask, split))
        tokens = torch.cat([attended.other, attended.image], dim=1)
        tokens = attn.to_out(torch.cat([tokens, attn.mlp_act_fn(forward)], dim=-1))
        return torch.cat([tokens[:, :split], cut.restore(tokens[:, split:])], dim=1)


class QwenWindows(WindowedProcessor):
    """For Qwen-Image: text and image in streams of their own, complex positions, text mask."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        *,
        encoder_hidden_states: Tensor | None = None,
        encoder_hidden_states_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Any:
        """Compute as the stock processor does, in windows."""
        cut = self.cut
        if cut is None or encoder_hidden_states is None:
            return self.stock(
                attn,
                hidden_states,
                encoder_hidden_states=encoder_hidden_states,
                encoder_hidden_states_mask=encoder_hidden_states_mask,
                attention_mask=attention_mask,
                image_rotary_emb=image_rotary_emb,
            )
        images = heads_of(attn, "", cut.arrange(hidden_states))
        texts = heads_of(attn, "add", encoder_hidden_states)
        query, key, value = (Sequence(i, t) for i, t in zip(images, texts, strict=True))
        if image_rotary_emb is not None:
            turns = Sequence(*image_rotary_emb)
            query, key = (
                Sequence(rotate(x.image, turns.image), rotate(x.other, turns.other))
                for x in (query, key)
            )
        mask = None
        if encoder_hidden_states_mask is not None:
            image_mask = encoder_hidden_states_mask.new_ones(hidden_states.shape[:2])
            keys = torch.cat([encoder_hidden_states_mask, image_mask], dim=1)[:, None, None]
            mask = Sequence(keys, keys)
        out = self.attend(cut, (query, key, value), mask)
        return sent_out(attn, cut.restore(out.image)), attn.to_add_out(out.other)


class ZImageWindows(WindowedProcessor):
    """For Z-Image: image, what pads it, then text, in one sequence with complex positions."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        freqs_cis: Tensor | None = None,
    ) -> Tensor:
        """Compute as the stock processor does, in windows."""
        cut = self.cut
        if cut is None:
            out: Tensor = self.stock(
                attn, hidden_states, encoder_hidden_states, attention_mask, freqs_cis
            )
            return out
        image, other = hidden_states[:, : cut.tokens], hidden_states[:, cut.tokens :]
        query, key, value = heads_of(attn, "", torch.cat([cut.arrange(image), other], dim=1))
        if freqs_cis is not None and cut.places is not None:
            image_turns = freqs_cis.index_select(1, cut.places)
            turns = torch.cat([image_turns, freqs_cis[:, cut.tokens :]], dim=1)
            query, key = rotate(query, turns), rotate(key, turns)
        mask = None
        if attention_mask is not None:
            keys = attention_mask[:, None, None] if attention_mask.dim() == 2 else attention_mask
            # Keys in the order other, image.
            keys = torch.cat([keys[..., cut.tokens :], keys[..., : cut.tokens]], dim=-1)
            mask = Sequence(keys, keys)
        parts = (Sequence(x[:, : cut.span], x[:, cut.span :]) for x in (query, key, value))
        attended = self.attend(cut, parts, mask)
        return sent_out(attn, torch.cat([cut.restore(attended.image), attended.other], dim=1))


class StableDiffusion3Windows(WindowedProcessor):
    """For SD3: joint attention without rotary positions, and its attention of the image alone."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Compute as the stock processor does, in windows."""
        cut = self.cut
        if cut is None:
            return self.stock(
                attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs
            )
        images = heads_of(attn, "", cut.arrange(hidden_states))
        if encoder_hidden_states is None:
            texts = tuple(x[:, :0] for x in images)
        else:
            texts = heads_of(attn, "add", encoder_hidden_states)
        out = self.attend(cut, (Sequence(i, t) for i, t in zip(images, texts, strict=True)))
        image = sent_out(attn, cut.restore(out.image))
        if encoder_hidden_states is None:
            return image
        return image, out.other if attn.context_pre_only else attn.to_add_out(out.other)


#: The processor that stands for each stock one, by the name of its class.
_PROCESSORS: dict[str, type[WindowedProcessor]] = {
    "FluxAttnProcessor": FluxWindows,
    "Flux2AttnProcessor": FluxWindows,
    "Flux2ParallelSelfAttnProcessor": Flux2ParallelWindows,
    "QwenDoubleStreamAttnProcessor2_0": QwenWindows,
    "ZSingleStreamAttnProcessor": ZImageWindows,
    "JointAttnProcessor2_0": StableDiffusion3Windows,
}


def windowed(stock: Any, module: str) -> WindowedProcessor:
    """Return the processor that stands for a stock one.

    Args:
        stock: a processor of diffusers.
        module: name of the attention module that has it.

    Raises:
        UnsupportedModelError: it is none that is known.
    """
    kind = type(stock)
    if kind.__name__ in _PROCESSORS and kind.__module__.startswith("diffusers."):
        return _PROCESSORS[kind.__name__](stock)
    raise UnsupportedModelError(
        f"the attention processor of {module} is {kind.__name__}, in whose place no windows can be "
        "put; take it off (an IP-Adapter with unload_ip_adapter), or use window_grid=1 or the "
        "method positions, which leave processors alone"
    )
