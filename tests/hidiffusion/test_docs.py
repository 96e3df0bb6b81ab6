"""docs/library.md and the README: what they name exists, and what they claim is so."""

import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hidiffusion import (
    HiDiffusionConfig,
    HiDiffusionError,
    UnannouncedRunWarning,
    apply_hidiffusion,
    errors,
    is_applied,
    remove_hidiffusion,
)
from hidiffusion.unet.families import CONTROL_RATIO, FAMILIES, Family
from tests.hidiffusion.tiny import models as tiny_models

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "library.md").read_text()

NAMES = [
    *(field.name for field in fields(HiDiffusionConfig)),
    *(family.name for family in FAMILIES),
    *(name for name in vars(errors) if name.endswith("Error")),
]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_documented(name: str) -> None:
    assert f"`{name}`" in TEXT


def test_every_figure_is_there() -> None:
    figures = re.findall(r"\]\((images/[^)]+)\)", TEXT)
    assert figures
    assert all((DOCS / figure).is_file() for figure in figures)


def test_every_test_it_names_is_there() -> None:
    named = re.findall(r"`([\w/]*test_\w+\.py)`", TEXT)
    assert named
    folder = Path(__file__).parent
    assert all((folder / name.removeprefix("tests/hidiffusion/")).is_file() for name in named)


def table(heading: str) -> dict[str, list[str]]:
    """The first table after a heading: the other cells of each row by the word that names it."""
    part = TEXT[TEXT.index(heading) :].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line[:3] == "| `"]
    return {row[0].split("`")[1]: [cell.strip() for cell in row[1:]] for row in rows}


def test_the_table_of_families_is_that_of_the_code() -> None:
    rows = table("## Families")
    assert rows.keys() == {row.name for row in FAMILIES}
    for row in FAMILIES:
        levels = [index for index, attends in enumerate(row.cross_attention) if attends]
        attention = f"{', '.join(map(str, levels))} of {len(row.cross_attention)}"
        assert rows[row.name][0] == attention
        assert rows[row.name][2].removesuffix(", no aggressive stage") == shrinks(row)
        aggressive = any(each.aggressive_ratio for each in row.thresholds)
        assert ("no aggressive stage" in rows[row.name][2]) == (
            row.rad_level is not None and not row.rad_first and not aggressive
        )
        assert rows[row.name][3] == f"level {row.window_level}"


def shrinks(row: Family) -> str:
    """Where a family shrinks, in the words of the table."""
    rad, pool = f"down-sampler {row.rad_level}", f"block {row.pool_level}"
    if row.rad_level is None:
        return "nowhere" if row.pool_level is None else pool
    if row.name in {"sdxl-inpainting", "playground"}:
        sdxl = next(each for each in FAMILIES if each.name == "sdxl")
        assert (row.rad_level, row.pool_level) == (sdxl.rad_level, sdxl.pool_level)
        return "as SDXL"
    first, second = (rad, pool) if row.rad_first else (pool, rad)
    return f"{first} (T1), {second} (T2)"


def test_the_defaults_are_those_of_the_code() -> None:
    rows, config = table("## Settings"), HiDiffusionConfig()
    assert rows["control_ratio"][0] == str(CONTROL_RATIO)
    for name in ("window_grid", "extra_window_levels", "extra_window_start"):
        assert rows[name][0] == str(getattr(config, name))
    assert rows["shifts"][0] == f"`{config.shifts.__name__}`"
    derived = ("seed", "family", "native_size", "t1_ratio", "t2_ratio", "aggressive_ratio")
    assert {getattr(config, name) for name in (*derived, "control_ratio", "timesteps")} == {None}
    with pytest.raises(FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]


def test_every_error_is_of_one_kind_and_in_the_table() -> None:
    raised = {
        name
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, HiDiffusionError)
    }
    assert table("## Errors").keys() == raised - {"HiDiffusionError"}
    named = {name for name in vars(errors) if name.endswith(("Error", "Warning"))}
    assert named - raised == {UnannouncedRunWarning.__name__}


@torch.no_grad()
def test_a_bare_unets_seed_is_0_where_none_is_set() -> None:
    drawn = []
    for seed in (None, 0, 1):
        unet = apply_hidiffusion(tiny_models.unet(), raunet=False, seed=seed)
        drawn.append(unet(timestep=500, **tiny_models.unet_inputs(unet, 16, 16)).sample)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@torch.no_grad()
def test_settings_are_those_of_one_unet() -> None:
    first, second = tiny_models.unet(), tiny_models.unet()
    inputs = {"timestep": 500, **tiny_models.unet_inputs(second, 16, 16)}
    plain = second(**inputs).sample
    apply_hidiffusion(first, raunet=False)
    assert is_applied(second) is None
    assert torch.equal(second(**inputs).sample, plain)
    apply_hidiffusion(second, raunet=False, seed=1)
    assert is_applied(first).config.seed is None
    assert not torch.equal(second(**inputs).sample, first(**inputs).sample)


def snippet(text: str, after: str, words: dict[str, str]) -> str:
    """The first Python block after a heading, some of its words replaced."""
    code = re.search(r"```python\n(.*?)```", text[text.index(after) :], re.DOTALL)
    assert code is not None
    found = code[1]
    for old, new in words.items():
        assert old in found
        found = found.replace(old, new)
    return found


#: Fewer steps and pixels, and no GPU.
SMALL = {
    "cuda": "cpu",
    "height=2048": "num_inference_steps=2, height=128",
    "width=2048": "width=128",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SDXL on disk."""
    made = tmp_path_factory.mktemp("sdxl")
    tiny_models.sdxl_pipeline().save_pretrained(made)
    return made


@pytest.mark.filterwarnings("ignore:.*upcast_vae.*:FutureWarning")
def test_the_first_snippet_draws_in_float16(folder: Path) -> None:
    names: dict[str, Any] = {}
    exec(snippet(TEXT, "# The library", SMALL | {"path/to/sdxl": str(folder)}), names)
    assert names["image"].size == (128, 128)
    assert names["pipe"].unet.dtype is torch.float16


def test_the_readmes_snippet_draws_and_takes_it_back(folder: Path) -> None:
    readme = (DOCS.parent / "README.md").read_text()
    names: dict[str, Any] = {}
    words = SMALL | {"from_pretrained(...)": f"from_pretrained({str(folder)!r})"}
    exec(snippet(readme, "## The library", words), names)
    assert names["image"].size == (128, 128)
    assert is_applied(names["pipe"]) is None


def test_the_authors_calls_are_taken() -> None:
    pipe = tiny_models.sd_pipeline()
    names = {"pipe": pipe, "HiDiffusionConfig": HiDiffusionConfig}
    exec(snippet(TEXT, "## Coming from the authors' package", {}), names)
    assert is_applied(pipe) is None


def test_no_class_forward_attribute_or_weight_is_changed() -> None:
    unet = tiny_models.unet(tiny_models.SDXL)

    def looks() -> list[Any]:
        return [
            (name, type(each), "forward" in vars(each), each.training, set(vars(each)))
            for name, each in unet.named_modules()
            if each is not unet
        ]

    before, weights = looks(), {name: each.clone() for name, each in unet.state_dict().items()}
    apply_hidiffusion(unet, scheduler=tiny_models.scheduler())
    assert looks() == before
    assert "forward" not in vars(unet)
    assert unet.state_dict().keys() == weights.keys()
    assert all(torch.equal(each, weights[name]) for name, each in unet.state_dict().items())


def test_the_switch_that_makes_torch_guard_hooks_stays() -> None:
    remove_hidiffusion(apply_hidiffusion(tiny_models.unet()))
    assert torch._dynamo.config.skip_nnmodule_hook_guards is False


class Waits(TorchDispatchMode):
    """Counts how often a number is asked of a tensor, which waits for an accelerator."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("view", "waits"), [(True, 0), (False, 1)])
@torch.no_grad()
def test_a_timestep_that_is_no_view_costs_a_wait_in_each_call(view: bool, waits: int) -> None:
    scheduler = tiny_models.scheduler()
    scheduler.set_timesteps(4)
    unet = apply_hidiffusion(tiny_models.unet(), scheduler=scheduler)
    inputs = tiny_models.unet_inputs(unet, 16, 16)
    unet(timestep=scheduler.timesteps[0], **inputs)  # the run's own
    with Waits() as counted:
        for timestep in scheduler.timesteps[1:3]:
            unet(timestep=timestep if view else timestep.clone(), **inputs)
    assert counted.count == 2 * waits


@torch.no_grad()
def test_a_batch_with_several_timesteps_is_planned_by_its_first() -> None:
    scheduler = tiny_models.scheduler()
    scheduler.set_timesteps(10)
    unet = apply_hidiffusion(tiny_models.unet(), scheduler=scheduler)
    sides: list[int] = []
    unet.mid_block.register_forward_pre_hook(lambda _, args: sides.append(args[0].shape[-1]))
    inputs = tiny_models.unet_inputs(unet, 16, 16, batch=2)
    first, last = int(scheduler.timesteps[0]), int(scheduler.timesteps[-1])
    for pair in ((first, last), (last, first)):
        unet(timestep=torch.tensor(pair), **inputs)
    assert sides == [1, 2]


def test_an_attention_backend_does_not_reach_a_unets_processors() -> None:
    """diffusers sets it on processors that have the attribute, and passes over the others."""
    unet = tiny_models.unet()
    processors = [each.processor for each in unet.modules() if hasattr(each, "processor")]
    assert processors
    assert not any(hasattr(each, "_attention_backend") for each in processors)
