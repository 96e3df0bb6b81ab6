"""What is compared: families, latent sizes, steps and window shifts, the same on both sides.

Imported by make_golden.py in the authors' environment and by the parity tests in ours.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Family:
    """One model family with its real depth and native size, but very few channels."""

    name: str
    name_or_path: str
    config: dict = field(hash=False)
    num_steps: int
    prediction_type: str = "epsilon"


@dataclass(frozen=True)
class Case:
    """One U-Net, one latent size, and the steps whose outputs are kept.

    Unless ``softmax`` is set, both sides use linear self-attention: it has the symmetries of
    softmax attention without its quadratic time, which these latent sizes would need on a CPU.
    ``guided`` and ``image``, an initial image, matter to whole runs alone.
    """

    family: str
    height: int
    width: int
    steps: tuple[int, ...]
    windows: bool = True
    raunet: bool = True
    batch: int = 1
    softmax: bool = False
    guided: bool = True
    image: bool = False

    @property
    def name(self) -> str:
        parts = [self.family, f"{self.height}x{self.width}"]
        parts += [] if self.windows else ["raunet"]
        parts += [] if self.raunet else ["windows"]
        parts += ["image"] if self.image else []
        return "-".join(parts)


_SD = {
    "sample_size": 64,
    "block_out_channels": (8, 8, 16, 16),
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": 8,
    "attention_head_dim": (1, 1, 2, 2),
}
_SDXL = {
    "sample_size": 128,
    "block_out_channels": (8, 8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 1),
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": 8,
    "attention_head_dim": (1, 1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 8,
}

FAMILIES = {
    family.name: family
    for family in (
        Family("sd15", "runwayml/stable-diffusion-v1-5", _SD, 10),
        Family(
            "sd21",
            "stabilityai/stable-diffusion-2-1-base",
            {**_SD, "use_linear_projection": True, "attention_head_dim": (1, 2, 2, 4)},
            10,
            "v_prediction",
        ),
        Family("sdxl", "stabilityai/stable-diffusion-xl-base-1.0", _SDXL, 10),
        Family("turbo", "stabilityai/sdxl-turbo", {**_SDXL, "sample_size": 64}, 4),
        # The authors know Playground only by the full list of SDXL's module names, its shortcuts
        # (so no two levels of one width) and its ten deep transformer blocks included.
        Family(
            "playground",
            "playgroundai/playground-v2-1024px-aesthetic",
            {
                **_SDXL,
                "block_out_channels": (8, 12, 16),
                "transformer_layers_per_block": (1, 2, 10),
            },
            10,
        ),
        Family(
            "inpainting",
            "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
            {**_SDXL, "in_channels": 9},
            10,
        ),
        Family("controlnet", "stabilityai/stable-diffusion-xl-base-1.0", _SDXL, 10),
    )
}

#: The steps on both sides of every switch of the schedule, from the tables of the paper's code:
#: twice native 0.4 N, SDXL's aggressive stage int(8/50 N), four times native 0.3 N and 0.7 N.
_SD_TWICE, _SDXL_TWICE, _FOUR_TIMES, _TURBO = (3, 4), (0, 1, 3, 4), (2, 3, 6, 7), (1, 2)

CASES = (
    Case("sd15", 128, 128, _SD_TWICE, softmax=True),
    Case("sd15", 96, 176, _SD_TWICE, batch=2),
    Case("sd15", 128, 128, _SD_TWICE, raunet=False),
    Case("sd15", 256, 256, _FOUR_TIMES),
    Case("sd15", 256, 384, _FOUR_TIMES),
    Case("sd15", 107, 129, _SD_TWICE),
    Case("sd15", 107, 129, _SD_TWICE, windows=False),
    Case("sd21", 128, 128, _SD_TWICE),
    Case("sd21", 96, 176, _SD_TWICE),
    Case("sd21", 176, 96, _SD_TWICE, softmax=True),
    Case("sd21", 256, 256, _FOUR_TIMES),
    Case("sd21", 129, 107, _SD_TWICE, windows=False),
    Case("sdxl", 256, 256, _SDXL_TWICE, softmax=True),
    Case("sdxl", 192, 336, _SDXL_TWICE),
    Case("sdxl", 256, 512, _SDXL_TWICE),
    Case("sdxl", 512, 512, _FOUR_TIMES),
    Case("sdxl", 218, 259, _SDXL_TWICE),
    Case("sdxl", 218, 259, _SDXL_TWICE, windows=False),
    Case("turbo", 128, 128, _TURBO, softmax=True),
    Case("turbo", 96, 176, _TURBO),
    Case("turbo", 256, 256, _TURBO),
    Case("turbo", 107, 129, _TURBO, windows=False),
    Case("playground", 256, 256, (3, 4)),
    Case("playground", 192, 192, (3, 4), softmax=True),
    Case("playground", 192, 336, (3, 4)),
    Case("playground", 512, 512, (2, 3, 7)),
    Case("playground", 218, 259, (3, 4), windows=False),
    Case("inpainting", 256, 256, (3, 4)),
    Case("inpainting", 192, 192, (3, 4), softmax=True),
    Case("inpainting", 192, 336, (3, 4)),
    Case("inpainting", 512, 512, (2, 3, 7)),
    Case("inpainting", 218, 259, (3, 4), windows=False),
)

#: Whole pipeline runs: each step works on what the steps before it made. With an initial image and
#: ``STRENGTH``, eight of ten steps are run.
STRENGTH = 0.8
RUNS = (
    Case("sd15", 96, 136, (0, 3, 4, 9)),
    Case("sd21", 96, 136, (0, 3, 4, 9)),
    Case("controlnet", 256, 256, (0, 1, 4, 5, 6)),
    Case("controlnet", 192, 336, (0, 1, 4, 5, 6)),
    Case("controlnet", 218, 259, (0, 1, 4, 5, 6), windows=False, guided=False),
    Case("controlnet", 512, 512, (2, 3, 5, 6, 7), guided=False),
    Case("controlnet", 192, 336, (0, 1, 2, 3, 4, 5), guided=False, image=True),
)


def shift(step: int, block: int) -> int:
    """Return the window shift, 0 to 3, of the ``block``-th windowed attention of a call."""
    return (step + 3 * block + block // 4) % 4
