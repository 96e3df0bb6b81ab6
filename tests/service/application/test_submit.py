"""Resolving a request against the catalogue: what is filled in, what is refused, and how."""

import pytest

from service.application.requests.parse import parse_request
from service.application.requests.submit import resolve
from service.domain.errors import InvalidRequest
from service.domain.models.catalog import Catalog, Model
from service.domain.requests.seeds import MAX_SEED

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
            methods=("hidiffusion", "direct", "diffuse-high", "hidiffusion-refresh"),
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
        ("method", "magic", "hidiffusion, direct, diffuse-high"),
        ("num_inference_steps", 0, "greater than or equal to 1"),
        ("num_inference_steps", 151, "less than or equal to 150"),
        ("guidance_scale", -0.1, "greater than or equal to 0"),
        ("guidance_scale", float("nan"), "finite"),
        ("seed", -2, "greater than or equal to -1"),
        ("seed", 2**53, "less than or equal to"),
        ("prompt", "", "at least 1 character"),
        ("prompt", "x" * 4001, "at most 4000 characters"),
        ("output_format", "gif", "'png', 'webp', 'jpeg' or 'avif'"),
        ("bit_depth", 9, "8, 10, 12 or 16"),
        ("quality", 0, "greater than or equal to 1"),
        ("quality", 101, "less than or equal to 100"),
        ("tile_format", "avif", "'png', 'webp' or 'jpeg'"),
        ("metadata", "no", "valid boolean"),
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


@pytest.mark.parametrize(
    ("options", "field", "allowed"),
    [
        ({"bit_depth": 10}, "bit_depth", "png holds 8 or 16 bits per channel"),
        ({"output_format": "jpeg", "bit_depth": 16}, "bit_depth", "png 8 or 16, avif 8 or 10 or"),
        ({"output_format": "webp", "bit_depth": 12}, "bit_depth", "webp holds 8 bits"),
        ({"output_format": "avif", "bit_depth": 16}, "bit_depth", "avif holds 8 or 10 or 12 bits"),
        ({"quality": 90}, "quality", "png is lossless and has none; leave it out"),
    ],
)
def test_options_that_exclude_each_other_are_named(
    options: dict[str, object], field: str, allowed: str
) -> None:
    violations = refused({"prompt": "x", **options})
    assert set(violations) == {field}
    assert allowed in violations[field][1]


def test_a_picture_too_long_for_its_format_is_refused() -> None:
    large = CATALOG.default.model_copy(update={"max_size": 32768})
    request = {"prompt": "x", "width": 16384, "height": 512, "output_format": "webp"}
    with pytest.raises(InvalidRequest, match="its longest side is 16383 pixels; use png"):
        resolve(parse_request(request), Catalog(models=(large,)))


@pytest.mark.parametrize(
    ("options", "quality"),
    [
        ({}, None),
        ({"output_format": "jpeg"}, 92),
        ({"output_format": "avif"}, 80),
        ({"output_format": "webp", "quality": 30}, 30),
    ],
)
def test_the_quality_is_the_formats_own_unless_asked_for(
    options: dict[str, object], quality: int | None
) -> None:
    assert resolve(parse_request({"prompt": "x", **options}), CATALOG).quality == quality


def test_every_broken_rule_is_reported_at_once() -> None:
    assert set(refused({"prompt": "x", "width": 7, "height": 9, "method": "?"})) == {
        "width",
        "height",
        "method",
    }


def test_a_catalogue_with_an_impossible_default_is_refused() -> None:
    with pytest.raises(ValueError, match="default_method 'none' of model 'small'"):
        Model.model_validate({**CATALOG.default.model_dump(), "default_method": "none"})


def test_a_picture_too_small_for_the_default_method_is_sampled_directly() -> None:
    fields = CATALOG.default.model_dump() | {"default_method": "hidiffusion-refresh"}
    catalog = Catalog(models=(Model.model_validate(fields),))
    sizes = {256: "direct", 512: "hidiffusion-refresh"}
    for side, method in sizes.items():
        asked = parse_request({"prompt": "x", "width": side, "height": side})
        assert resolve(asked, catalog).method == method


def test_such_a_default_needs_direct_sampling_beside_it() -> None:
    fields = {"default_method": "hidiffusion-refresh", "methods": ("hidiffusion-refresh",)}
    with pytest.raises(ValueError, match="add 'direct' to its methods"):
        Model.model_validate(CATALOG.default.model_dump() | fields)


def test_every_option_of_the_method_is_filled_in() -> None:
    fields = {"prompt": "x", "method": "diffuse-high", "method_options": {"noising_steps": 20.0}}
    options = resolve(parse_request(fields), CATALOG).method_options
    assert options["noising_steps"] == 20
    assert isinstance(options["noising_steps"], int)
    assert (options["space"], options["num_stages"]) == ("pixels", None)


def test_a_model_may_have_defaults_of_its_own_for_options() -> None:
    options = {"method_options": {"hidiffusion": {"t1_ratio": 1.0}}}
    model = Model.model_validate(CATALOG.default.model_dump() | options)
    catalog = Catalog(models=(model,))
    for asked, expected in (({}, 1.0), ({"t1_ratio": 0.3}, 0.3), ({"t1_ratio": None}, None)):
        request = parse_request({"prompt": "x", "method_options": asked})
        resolved = resolve(request, catalog).method_options
        assert (resolved["t1_ratio"], resolved["window_grid"]) == (expected, 2)
    shown = model.method_details[0].options["properties"]
    assert (shown["t1_ratio"]["default"], shown["window_grid"]["default"]) == (1.0, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"raunet": {"t1_ratio": 1.0}}, "name no method: 'raunet'"),
        ({"hidiffusion": {"t1_ratio": 2}}, "t1_ratio 2 of 'hidiffusion': it must be a number"),
        ({"hidiffusion": {"t9": 1}}, "has no such option"),
    ],
)
def test_such_defaults_must_be_possible(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Model.model_validate(CATALOG.default.model_dump() | {"method_options": options})


@pytest.mark.parametrize(
    ("fields", "field", "allowed"),
    [
        (
            {"width": 256, "height": 256},
            "method",
            "1.25 times the native side or more",
        ),
        ({"method_options": {"space": 3}}, "method_options.space", "one of pixels, latents"),
        (
            {"method_options": {"num_stages": 1.5}},
            "method_options.num_stages",
            "a whole number from 1 to 8 or null",
        ),
        ({"method_options": {"sharpening": float("nan")}}, "method_options.sharpening", "0 to 4"),
        ({"method_options": {"band_weight": True}}, "method_options.band_weight", "a number"),
        ({"method_options": {"denoiser": None}}, "method_options.denoiser", "direct, hidiffusion"),
        (
            {"method": "hidiffusion-refresh", "num_inference_steps": 4},
            "num_inference_steps",
            "needs 9 or more",
        ),
    ],
)
def test_what_a_method_cannot_do_is_named(
    fields: dict[str, object], field: str, allowed: str
) -> None:
    violations = refused({"prompt": "x", "method": "diffuse-high"} | fields)
    assert list(violations) == [field]
    assert allowed in violations[field][1]
