"""The network of Inf-DiT and its preconditioning, whole or chunk by chunk.

Numbers without another source are the released model's (THUDM/Inf-DiT, Apache-2.0).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from hidiffusion.inf_dit.attention import BlockAttention, NearbyAttention
from hidiffusion.inf_dit.blocks import Block, Embedding, Modulation
from hidiffusion.inf_dit.chunks import Chunk, Edges, Evaluation, Scan
from hidiffusion.inf_dit.positions import rotary, sinusoid


class InfDiTTransformer(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The denoiser of Inf-DiT: noisy picture, enlarged and small picture in, clean picture out.

    Args:
        num_layers: layers.
        num_attention_heads: heads of every attention.
        attention_head_dim: width of a head, a multiple of 4.
        mlp_ratio: width of the feed-forward layers in widths of the tokens.
        patch_size: pixels along the side of a token.
        block_size: pixels along the side of a block of the large picture.
        lr_patch_size: pixels along the side of a token of the small picture.
        sr_scale: sides of the large picture in sides of the small one.
        image_embed_dim: numbers of the vector that describes the picture; `None` for a model
            that takes none.
        time_channels: numbers that a noise level is embedded as.
        rope_theta: base of the rotary frequencies.
        rope_modulo: length in tokens of the table of positions that the model was trained with.
        nearby_lr: whether the first layer looks at the small picture.
        block_embed: whether keys carry which of the four blocks they are from.
        qk_norm: whether queries and keys are normalised.
        norm_eps: of the norms.
        sigma_data: deviation of the data, of the preconditioning (Karras et al., arXiv 2206.00364).
    """

    config: Any
    # A cast is a cast: nothing is kept in float32, as in the authors' program.
    _keep_in_fp32_modules = None

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        *,
        num_layers: int = 28,
        num_attention_heads: int = 16,
        attention_head_dim: int = 80,
        mlp_ratio: float = 4.0,
        patch_size: int = 4,
        block_size: int = 128,
        lr_patch_size: int = 2,
        sr_scale: int = 4,
        image_embed_dim: int | None = 768,
        time_channels: int = 192,
        rope_theta: float = 10000.0,  # noqa: ARG002
        rope_modulo: int = 1024,  # noqa: ARG002
        nearby_lr: bool = True,
        block_embed: bool = True,
        qk_norm: bool = True,
        norm_eps: float = 1e-6,
        sigma_data: float = 0.5,  # noqa: ARG002
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        _check_sizes(attention_head_dim, block_size, patch_size, sr_scale, lr_patch_size)
        heads, dim = num_attention_heads, num_attention_heads * attention_head_dim
        self.block_tokens = block_size // patch_size
        self.lr_block = block_size // sr_scale
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(6, dim, patch_size, stride=patch_size)},
        )
        self.time_embed = Embedding(time_channels, dim)
        self.image_embed = Embedding(image_embed_dim, dim) if image_embed_dim else None
        self.lr_patch_embed = (
            nn.ModuleDict({"proj": nn.Conv2d(3, dim, lr_patch_size, stride=lr_patch_size)})
            if nearby_lr
            else None
        )
        tokens, lr_side = self.block_tokens**2, self.lr_block // lr_patch_size
        self.transformer_blocks = nn.ModuleList(
            Block(
                BlockAttention(dim, heads, qk_norm, block_embed, norm_eps),
                NearbyAttention(dim, heads, tokens, lr_side, norm_eps)
                if nearby_lr and layer == 0
                else None,
                dim=dim,
                mlp=round(mlp_ratio * dim),
                eps=norm_eps,
            )
            for layer in range(num_layers)
        )
        self.norm_out = Modulation(dim, 2)
        self.proj_out = nn.Linear(dim, patch_size**2 * 3)

    def begin(
        self, height: int, width: int, chunk_blocks: int | None = None, *, rope_wrap: bool = True
    ) -> Evaluation:
        """Start one pass over a picture.

        Args:
            height: of the large picture in pixels, a multiple of `block_size`.
            width: likewise.
            chunk_blocks: blocks along the side of a chunk; `None` makes one chunk of the picture.
            rope_wrap: whether positions start again at `rope_modulo`, as in the authors' program.
                Up to `rope_modulo * patch_size` pixels (4096) both give the same picture; beyond,
                `False` keeps all distances between neighbours as they were trained.

        Raises:
            ValueError: a side is no multiple of the block, or `chunk_blocks` is below 1.
        """
        block = self.config.block_size
        if height <= 0 or width <= 0 or height % block or width % block:
            raise ValueError(f"size {height}x{width} must be a multiple of {block} on both sides")
        if chunk_blocks is not None and chunk_blocks < 1:
            raise ValueError(f"chunk_blocks is {chunk_blocks!r}; it must be at least 1, or None")
        rows, columns = height // block, width // block
        scan = Scan(rows, columns, chunk_blocks or max(rows, columns))
        return Evaluation(scan, [Edges(scan) for _ in self.transformer_blocks], rope_wrap)

    def forward(
        self,
        sample: Tensor,
        sigma: Tensor,
        *,
        lr: Tensor,
        lr_up: Tensor,
        chunk: Chunk,
        evaluation: Evaluation,
        image_embeds: Tensor | None = None,
    ) -> Tensor:
        """Denoise one chunk; the chunks of an evaluation must come in the order of its scan.

        Args:
            sample: `[B, 3, h, w]`, the chunk's part of the noisy picture, float32 or wider.
            sigma: `[B]`, noise levels.
            lr: `[B, 3, H / sr_scale, W / sr_scale]`, the whole small picture on [-1, 1].
            lr_up: `[B, 3, h, w]`, the chunk's part of the enlarged picture.
            chunk: where the chunk lies.
            evaluation: from `begin`.
            image_embeds: `[B, image_embed_dim]` of unit length, or `None` to leave the term out.

        Returns:
            `[B, 3, h, w]` in the dtype of `sample`: the chunk of the clean picture.
        """
        device, dtype = self.proj_out.weight.device, self.proj_out.weight.dtype
        sample, lr_up = sample.to(device), lr_up.to(device, sample.dtype)
        sigma = sigma.to(device, sample.dtype)
        variance = sigma.view(-1, 1, 1, 1) ** 2 + self.config.sigma_data**2
        pictures = torch.cat([sample, lr_up.clamp(-1, 1)], 1) / variance.sqrt()
        condition = self.condition(sigma, image_embeds)
        features = self._nearby(lr, chunk, evaluation.scan)
        # A patch is a token; tokens are kept block by block.
        tokens = self._blocks(self.patch_embed["proj"](pictures.to(dtype)))
        modulo = self.config.rope_modulo if evaluation.rope_wrap else None
        head_dim, theta = self.config.attention_head_dim, self.config.rope_theta
        angles = rotary(chunk, self.block_tokens, head_dim, theta=theta, modulo=modulo, like=tokens)
        for block, edges in zip(self.transformer_blocks, evaluation.edges, strict=True):
            tokens = block(
                tokens, condition, features=features, angles=angles, chunk=chunk, edges=edges
            )
        residual = self._pixels(tokens, condition).to(sample.dtype)
        skip = self.config.sigma_data**2 / variance
        out = sigma.view(-1, 1, 1, 1) * self.config.sigma_data / variance.sqrt()
        clean: Tensor = skip * sample + out * residual
        return clean

    @torch.no_grad()
    def denoise(
        self,
        sample: Tensor,
        sigma: Tensor | float,
        *,
        lr: Tensor,
        lr_up: Tensor,
        image_embeds: Tensor | None = None,
        chunk_blocks: int | None = None,
        rope_wrap: bool = True,
    ) -> Tensor:
        """Evaluate the network once on a whole picture.

        Args:
            sample: `[B, 3, H, W]`, the noisy picture, `H` and `W` multiples of `block_size`.
            sigma: noise level, one number or `[B]`.
            lr: `[B, 3, H / sr_scale, W / sr_scale]`, the small picture on [-1, 1].
            lr_up: `[B, 3, H, W]`, the small picture enlarged.
            image_embeds: `[B, image_embed_dim]` of unit length, or `None`.
            chunk_blocks: blocks along the side of a chunk; `None` takes the whole picture at once.
                The result is the same up to rounding.
            rope_wrap: see `begin`.

        Returns:
            `[B, 3, H, W]` on the device and in the dtype of `sample`: the clean picture.

        Raises:
            ValueError: shapes that do not fit each other or the model.
        """
        batch, _, height, width = sample.shape
        evaluation = self.begin(height, width, chunk_blocks, rope_wrap=rope_wrap)
        self.check_inputs(sample, lr, lr_up, image_embeds)
        levels = torch.as_tensor(sigma, dtype=sample.dtype).reshape(-1).expand(batch)
        side = self.config.block_size
        out = torch.empty_like(sample)
        for chunk in evaluation.scan:
            part = self(
                chunk.crop(sample, side),
                levels,
                lr=lr,
                lr_up=chunk.crop(lr_up, side),
                chunk=chunk,
                evaluation=evaluation,
                image_embeds=image_embeds,
            )
            chunk.crop(out, side).copy_(part)
        return out

    def check_inputs(
        self, sample: Tensor, lr: Tensor, lr_up: Tensor, image_embeds: Tensor | None
    ) -> None:
        """Raise `ValueError` if the pictures' shapes do not fit each other or the model."""
        batch, _, height, width = sample.shape
        scale, vector = self.config.sr_scale, self.config.image_embed_dim
        small = (batch, 3, height // scale, width // scale)
        wanted = {"sample": (batch, 3, height, width), "lr": small, "lr_up": tuple(sample.shape)}
        for (name, shape), given in zip(wanted.items(), (sample, lr, lr_up), strict=True):
            if tuple(given.shape) != shape:
                raise ValueError(f"{name} has shape {tuple(given.shape)!r}; expected {shape!r}")
        if image_embeds is not None and tuple(image_embeds.shape) != (batch, vector):
            raise ValueError(
                f"image_embeds has shape {tuple(image_embeds.shape)!r}; expected "
                f"{(batch, vector)!r}"
                + ("" if vector else ": this model takes no vector, pass None")
            )

    def condition(self, sigma: Tensor, image_embeds: Tensor | None = None) -> Tensor:
        """Return what every layer is modulated by, `[B, C]`, for noise levels `[B]`."""
        noise = sinusoid(sigma.log() / 4, self.config.time_channels)
        dtype = self.proj_out.weight.dtype
        condition: Tensor = self.time_embed(noise.to(dtype))
        if image_embeds is not None and self.image_embed is not None:
            condition = condition + self.image_embed(image_embeds.to(noise.device, dtype))
        return F.silu(condition)

    def _nearby(self, lr: Tensor, chunk: Chunk, scan: Scan) -> Tensor | None:
        """Features of the small picture under a chunk and one block around it, zero outside."""
        if self.lr_patch_embed is None:
            return None
        weight = self.proj_out.weight
        side, pad = self.lr_block, self.lr_block // self.config.lr_patch_size
        inner = Chunk(
            max(chunk.top - 1, 0),
            min(chunk.bottom + 1, scan.rows),
            max(chunk.left - 1, 0),
            min(chunk.right + 1, scan.columns),
        )
        seen = inner.crop(lr, side).to(weight.device, weight.dtype)
        features = self.lr_patch_embed["proj"](seen)
        # The network was trained with features, not pixels, padded: their bias is missing outside.
        left, right = chunk.left == 0, chunk.right == scan.columns
        top, bottom = chunk.top == 0, chunk.bottom == scan.rows
        return F.pad(features, (pad * left, pad * right, pad * top, pad * bottom))

    def _blocks(self, features: Tensor) -> Tensor:
        """Turn `[B, C, h, w]` into `[rows, columns, B, T, C]`."""
        side = self.block_tokens
        batch, channels, height, width = features.shape
        cut = features.view(batch, channels, height // side, side, width // side, side)
        return cut.permute(2, 4, 0, 3, 5, 1).flatten(3, 4)

    def _pixels(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Turn `[rows, columns, B, T, C]` into the network's picture `[B, 3, h, w]`."""
        shift, scale = self.norm_out(condition)
        normed = F.layer_norm(tokens, tokens.shape[-1:], eps=self.config.norm_eps)
        patches: Tensor = self.proj_out(normed * (1 + scale) + shift)
        side, patch = self.block_tokens, self.config.patch_size
        rows, columns, batch = patches.shape[:3]
        cut = patches.view(rows, columns, batch, side, side, patch, patch, 3)
        return cut.permute(2, 7, 0, 3, 5, 1, 4, 6).reshape(
            batch, 3, rows * side * patch, columns * side * patch
        )


def _check_sizes(head_dim: int, block: int, patch: int, scale: int, lr_patch: int) -> None:
    if head_dim % 4:
        raise ValueError(f"attention_head_dim {head_dim!r} must be a multiple of 4")
    if block % patch or block % (scale * lr_patch):
        raise ValueError(
            f"block_size {block!r} must be a multiple of patch_size {patch!r} and of sr_scale * "
            f"lr_patch_size, {scale * lr_patch!r}"
        )
