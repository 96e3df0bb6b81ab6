"""Windowed attention over a sequence of image and other tokens: what all processors share.

Image tokens attend to their window and to all other tokens, the text's and what pads the picture;
those attend to everything. Windows are folded into the batch and the other keys put before each,
so no mask is needed and any attention backend serves. A processor without windows, as all are
between calls and at native size, is the stock one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hidiffusion.unet.windows import WindowIndices, merge, partition
from hidiffusion.upstream import dispatch_attention_fn


class Cut(NamedTuple):
    """How one block cuts the image tokens of one call.

    Attributes:
        windows: the partition; its windows hold tokens in rows.
        tokens: image tokens of a picture.
        places: int64 [num_windows * n], the token whose position each window token takes: windows
            have the positions of the picture's first one. Only for positions that are looked up.
    """

    windows: WindowIndices
    tokens: int
    places: Tensor | None = None

    @property
    def span(self) -> int:
        """Tokens in all windows of a picture; more than its tokens where windows overlap."""
        return self.windows.gather.shape[0] * self.tokens // self.windows.scatter.shape[0]

    def arrange(self, image: Tensor) -> Tensor:
        """Bring image tokens into the order of the windows: [B, N, C] to [B, span, C]."""
        return partition(image, self.windows.to(image.device)).view(
            image.shape[0], -1, image.shape[-1]
        )

    def restore(self, image: Tensor) -> Tensor:
        """Undo `arrange`."""
        folded = image.reshape(image.shape[0] * self.windows.num_windows, -1, image.shape[-1])
        return merge(folded, self.windows.to(image.device))


class Sequence(NamedTuple):
    """A sequence of image and other tokens.

    Attributes:
        image: [B, span, ...], in the order of the windows.
        other: [B, T, ...].
    """

    image: Tensor
    other: Tensor


class WindowedProcessor:
    """Base of the processors.

    Attributes:
        stock: the processor in whose place it stands, which it calls where there are no windows.
        cut: the windows of the call under way, or None.
    """

    def __init__(self, stock: Any) -> None:
        self.stock = stock
        self.cut: Cut | None = None

    @property
    def _attention_backend(self) -> Any:
        return getattr(self.stock, "_attention_backend", None)

    @_attention_backend.setter
    def _attention_backend(self, backend: Any) -> None:
        self.stock._attention_backend = backend

    @property
    def _parallel_config(self) -> Any:
        return getattr(self.stock, "_parallel_config", None)

    @_parallel_config.setter
    def _parallel_config(self, config: Any) -> None:
        self.stock._parallel_config = config

    def attend(self, cut: Cut, parts: Iterable[Sequence], mask: Sequence | None = None) -> Sequence:
        """Attend in windows.

        Args:
            cut: the windows.
            parts: query, key and value [B, tokens, heads, dim], rotated.
            mask: which keys count, or what is added to their logits, [B, 1, queries or 1, keys]:
                what image tokens see and what other tokens see, keys in the order other, image.

        Returns:
            [B, tokens, heads * dim] of image tokens in the order of the windows, and of the others.
        """
        query, key, value = parts
        num = cut.windows.num_windows
        image = self._dispatch(
            _fold(query.image, num),
            torch.cat([_repeat(key.other, num), _fold(key.image, num)], dim=1),
            torch.cat([_repeat(value.other, num), _fold(value.image, num)], dim=1),
            None if mask is None else _window_mask(mask.image, key.other.shape[1], cut),
        )
        image = image.reshape(query.image.shape[0], query.image.shape[1], -1).to(query.image.dtype)
        if not query.other.shape[1]:
            return Sequence(image, query.other.flatten(2))
        keys, values = (_each_once(x.image, cut) for x in (key, value))
        other = self._dispatch(
            query.other,
            torch.cat([key.other, keys], dim=1),
            torch.cat([value.other, values], dim=1),
            None if mask is None else mask.other,
        )
        return Sequence(image, other.flatten(2).to(query.other.dtype))

    def _dispatch(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        return dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )


def _fold(tokens: Tensor, num: int) -> Tensor:
    """[B, span, heads, dim] to [B * windows, n, heads, dim]."""
    return torch.unflatten(tokens, 1, (num, -1)).flatten(0, 1)


def _repeat(tokens: Tensor, num: int) -> Tensor:
    """[B, T, ...] to [B * windows, T, ...]."""
    return tokens.unsqueeze(1).expand(-1, num, *tokens.shape[1:]).flatten(0, 1)


def _window_mask(mask: Tensor, others: int, cut: Cut) -> Tensor:
    """Image tokens all count alike, so the first ones of the picture stand for a window's."""
    window = cut.span // cut.windows.num_windows
    return _repeat(mask[..., : others + window], cut.windows.num_windows)


def _each_once(tokens: Tensor, cut: Cut) -> Tensor:
    """Return [B, N, heads, dim]; windows that overlap hold tokens twice."""
    if cut.span == cut.tokens:
        return tokens
    return torch.unflatten(cut.restore(tokens.flatten(2)), 2, tokens.shape[2:])


def heads_of(attn: Any, projections: str, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, key and value [B, tokens, heads, dim], the first two normed.

    Args:
        attn: the attention module.
        projections: "" for the image's projections, "add" for the text's.
        tokens: [B, tokens, C].
    """
    added = projections == "add"
    if getattr(attn, "fused_projections", False):
        fused = attn.to_added_qkv if added else attn.to_qkv
        query, key, value = fused(tokens).chunk(3, dim=-1)
    elif added:
        query, key, value = (
            attn.add_q_proj(tokens),
            attn.add_k_proj(tokens),
            attn.add_v_proj(tokens),
        )
    else:
        query, key, value = attn.to_q(tokens), attn.to_k(tokens), attn.to_v(tokens)
    dim = getattr(attn, "head_dim", None) or attn.inner_dim // attn.heads
    query, key, value = (x.unflatten(-1, (-1, dim)) for x in (query, key, value))
    norms = (attn.norm_added_q, attn.norm_added_k) if added else (attn.norm_q, attn.norm_k)
    query, key = (
        x if norm is None else norm(x) for x, norm in zip((query, key), norms, strict=True)
    )
    return query, key, value


def sent_out(attn: Any, tokens: Tensor) -> Tensor:
    """Return what an attention module makes of its result."""
    for layer in attn.to_out:
        tokens = layer(tokens)
    return tokens


def rotate(tokens: Tensor, turns: Tensor) -> Tensor:
    """Turn pairs of dimensions: [B, tokens, heads, dim] by complex [(B,) tokens, dim / 2]."""
    pairs = torch.view_as_complex(torch.unflatten(tokens.float(), -1, (-1, 2)))
    return torch.view_as_real(pairs * turns.unsqueeze(-2)).flatten(3).type_as(tokens)
