"""Resolving a request against the catalogue: what is filled in, what is refused, and how."""

import pytest

from service.application.parse import parse_request
from service.application.submit import resolve
from service.domain.catalog import Catalog, Model
from service.domain.errors import InvalidRequest
from service.domain.generation import MAX_SEED

CATALOG = Catalog(
    models=(
        Model(
            name="small",
            title="Small",
            source="small",
            native_size=256,
            min_size=128,
            max_size=1024,
            default_size=512,
            default_steps=20,
            default_guidance_scale=4.0,
            default_scheduler="DDIMScheduler",
            schedulers=("DDIMScheduler", "EulerDiscreteScheduler"),
            methods=("hidiffusion", "direct"),
        ),
    )
)


def refused(fields: dict[str, object]) -> dict[str, tuple[str, str]]:
    """Violations by field: the value as shown, and what is allowed."""
    with pytest.raises(InvalidRequest) as caught:
        resolve(parse_request(fields), CATALOG)
    return {v.field: (v.value, v.description) for v in caught.value.violations}


def test_what_is_left_out_takes_the_models_defaults() -> None:
    resolved = resolve(parse_request({"prompt": "a fox"}), CATALOG)
    assert (resolved.model, resolved.width, resolved.height) == ("small", 512, 512)
    assert (resolved.num_inference_steps, resolved.guidance_scale) == (20, 4.0)
    assert (resolved.scheduler, resolved.method) == ("DDIMScheduler", "hidiffusion")


def test_zero_is_a_value_and_not_a_gap() -> None:
    resolved = resolve(parse_request({"prompt": "x", "seed": 0, "guidance_scale": 0}), CATALOG)
    assert (resolved.seed, resolved.guidance_scale) == (0, 0.0)


def test_a_seed_is_drawn_and_differs_between_requests() -> None:
    seeds = {resolve(parse_request({"prompt": "x"}), CATALOG).seed for _ in range(20)}
    assert len(seeds) == 20
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


@pytest.mark.parametrize("pixels", [-8, 0, 100, 120, 513, 1032, 2**40])
def test_a_size_out_of_bounds_names_the_bounds(pixels: int) -> None:
    violations = refused({"prompt": "x", "width": pixels})
    value, description = violations["width"]
    assert value == repr(pixels)
    assert "multiples of 8 from 128 to 1024" in description


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("model", "dall-e", "small"),
        ("scheduler", "PNDMScheduler", "DDIMScheduler, EulerDiscreteScheduler"),
        ("method", "magic", "hidiffusion, direct"),
        ("num_inference_steps", 0, "greater than or equal to 1"),
        ("num_inference_steps", 151, "less than or equal to 150"),
        ("guidance_scale", -0.1, "greater than or equal to 0"),
        ("guidance_scale", float("nan"), "finite"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**53, "less than or equal to"),
        ("prompt", "", "at least 1 character"),
        ("prompt", "x" * 4001, "at most 4000 characters"),
        ("output_format", "gif", "'png', 'webp' or 'jpeg'"),
        ("size", "big", "known fields are prompt"),
        ("width", "wide", "valid integer"),
    ],
)
def test_a_broken_rule_names_field_value_and_what_is_allowed(
    field: str, value: object, allowed: str
) -> None:
    fields = {"prompt": "x", field: value}
    shown, description = refused(fields)[field]
    assert shown[:20] == repr(value)[:20]
    assert allowed in description


def test_every_broken_rule_is_reported_at_once() -> None:
    assert set(refused({"prompt": "x", "width": 7, "height": 9, "method": "?"})) == {
        "width",
        "height",
        "method",
    }


def test_a_catalogue_with_an_impossible_default_is_refused() -> None:
    with pytest.raises(ValueError, match="default_method 'none' of model 'small'"):
        Model.model_validate({**CATALOG.default.model_dump(), "default_method": "none"})
