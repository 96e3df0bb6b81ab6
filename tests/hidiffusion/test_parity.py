"""The same numbers as the authors' package, to 1e-9, at every switch of the schedule.

The outputs compared with were made by the published package; reference/README.md says how. Both
sides compute in float64: the order in which a processor sums then shows far below the limit, on any
processor and any number of threads. The large latents take minutes so: `make numerics` has them.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from hidiffusion import HiDiffusionConfig, apply_hidiffusion
from tests.hidiffusion.reference import cases, models

GOLDEN = Path(__file__).parent / "reference" / "golden"
TOLERANCE = 1e-9

#: Cases of more latents than this are left to `make numerics`, but for one of each kind.
QUICK_LATENTS = 50_000
QUICK = {"sdxl-192x336", "sdxl-218x259", "sdxl-218x259-raunet", "controlnet-192x336-image"}

#: With windows on odd maps we differ on purpose: the authors resample the tokens, we do not.
ODD = {"sd15-107x129", "sdxl-218x259"}


class Golden:
    """The stored outputs of one case, and the mid-block's size at each of its steps."""

    def __init__(self, case: cases.Case) -> None:
        with safe_open(GOLDEN / f"{case.name}.safetensors", "pt") as file:
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self.mid_block = {
                name: tuple(size) for name, size in json.loads(file.metadata()["mid_block"]).items()
            }


def authors_shifts(*, seed: int, block: int, step: int, timestep: float) -> int:
    """Shift the windows as the reference run did, whatever the seed."""
    del seed, timestep
    return cases.shift(step, block)


def config(case: cases.Case) -> HiDiffusionConfig:
    """Return the configuration of a case; Playground has SDXL's structure, so it is named."""
    family = "playground" if case.family == "playground" else None
    return HiDiffusionConfig(shifts=authors_shifts, family=family)


def apply(pipe: Any, case: cases.Case) -> None:
    """Apply the method with the parts and the shifts of a case."""
    apply_hidiffusion(pipe, raunet=case.raunet, window_attention=case.windows, config=config(case))


def call(pipe: Any, case: cases.Case, step: int) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Call the U-Net at one step; return what is kept of its output, and the mid-block's size."""
    sizes: list[tuple[int, ...]] = []
    handle = pipe.unet.mid_block.register_forward_pre_hook(
        lambda _module, arguments: sizes.append(tuple(arguments[0].shape[-2:]))
    )
    with torch.no_grad():
        output = pipe.unet(
            timestep=pipe.scheduler.timesteps[step].item(), **models.inputs(case, step)
        )
    handle.remove()
    return models.keep(output.sample), sizes[0]


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the largest difference, as a fraction of the largest number (about 5, at least 1)."""
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1)).item()


def marked(table: Iterable[cases.Case]) -> list[Any]:
    """The cases as parameters, the large ones marked."""
    return [
        pytest.param(
            case,
            id=case.name,
            marks=() if _quick(case) else pytest.mark.numerics,
        )
        for case in table
    ]


def _quick(case: cases.Case) -> bool:
    return case.height * case.width <= QUICK_LATENTS or case.name in QUICK


@pytest.mark.parametrize("case", marked({case.family: case for case in cases.CASES}.values()))
def test_the_unpatched_model_is_the_same_on_both_sides(case: cases.Case) -> None:
    ours, _ = call(models.pipeline(case), case, 0)
    assert difference(ours, Golden(case).tensors["direct"]) <= TOLERANCE


@pytest.mark.parametrize("case", marked(case for case in cases.CASES if case.name not in ODD))
def test_unet_outputs_equal_the_authors(case: cases.Case) -> None:
    golden = Golden(case)
    pipe = models.pipeline(case)
    apply(pipe, case)
    for step in case.steps:
        ours, side = call(pipe, case, step)
        name = f"step {step}"
        assert side == golden.mid_block[name], name
        assert difference(ours, golden.tensors[name]) <= TOLERANCE, name


@pytest.mark.parametrize("case", marked(case for case in cases.CASES if case.name in ODD))
def test_odd_maps_are_not_resampled(case: cases.Case) -> None:
    """The one difference on purpose: the same map sizes, but other windows, hence other numbers."""
    golden = Golden(case)
    pipe = models.pipeline(case)
    apply(pipe, case)
    for step in case.steps:
        ours, side = call(pipe, case, step)
        assert side == golden.mid_block[f"step {step}"]
        assert 1e-3 < difference(ours, golden.tensors[f"step {step}"]) < 1


@pytest.mark.parametrize("case", cases.CASES[:1], ids=lambda case: case.name)
def test_the_comparison_sees_a_wrong_shift(case: cases.Case) -> None:
    """Without this, agreement could mean that the shifts do not matter."""
    pipe = models.pipeline(case)
    apply_hidiffusion(pipe, config=HiDiffusionConfig(shifts=lambda **_: 0))
    ours, _ = call(pipe, case, case.steps[0])
    assert difference(ours, Golden(case).tensors[f"step {case.steps[0]}"]) > 1e-3
