"""What a request to an upscaler may say, and what it becomes."""

import pytest

from service.application.requests.parse import parse_request
from service.application.requests.submit import resolve
from service.application.sources.uploads import Given
from service.domain.errors import InvalidRequest
from service.domain.models.catalog import Catalog, Model

PICTURE = {"image": Given("picture", 300, 200, source=None)}  # type: ignore[arg-type]


@pytest.fixture
def catalog() -> Catalog:
    common = {"title": "", "source": "x", "methods": ("direct",), "default_method": "direct"}
    draws = Model(
        name="draws",
        native_size=256,
        default_size=256,
        schedulers=("DDIMScheduler",),
        default_scheduler="DDIMScheduler",
        **common,
    )
    enlarges = Model(
        name="enlarges",
        kind="upscaler",
        engine="inf-dit",
        scales=(2, 4),
        native_size=256,
        max_size=1200,
        default_size=1024,
        default_steps=5,
        schedulers=("EDMHeun",),
        default_scheduler="EDMHeun",
        **common,
    )
    one_pass = enlarges.model_dump() | {
        "name": "one-pass",
        "engine": "spandrel",
        "scales": (4,),
        "default_steps": 1,
        "max_size": 4096,
    }
    return Catalog(models=(draws, enlarges, Model.model_validate(one_pass)))


def resolved(catalog: Catalog, given=PICTURE, **fields):
    return resolve(parse_request({"model": "enlarges", **fields}), catalog, given)


def test_width_and_height_become_the_results(catalog: Catalog) -> None:
    request = resolved(catalog, scale=2, seed=3)
    assert (request.width, request.height, request.scale) == (600, 400, 2)
    assert (request.image, request.num_inference_steps, request.seed) == ("picture", 5, 3)


def test_the_largest_scale_is_the_default(catalog: Catalog) -> None:
    assert resolved(catalog, prompt="a fox").scale == 4


@pytest.mark.parametrize(
    ("fields", "given", "named", "rule"),
    [
        ({"scale": 4}, {}, "image", "enlarges a picture"),
        ({"scale": 3}, PICTURE, "scale", "takes 2, 4"),
        ({"scale": 2, "strength": 0.5}, PICTURE, "strength", "leave it out"),
        ({"scale": 2, "width": 512}, PICTURE, "width", "leave it out"),
        ({"scale": 2, "aspect_ratio": "1:1"}, PICTURE, "aspect_ratio", "leave it out"),
        (
            {"scale": 4},
            {"image": Given("picture", 301, 200, source=None)},  # type: ignore[arg-type]
            "scale",
            "a picture of up to 300 pixels",
        ),
        ({"scale": 4, "model": "draws", "prompt": "a fox"}, {}, "scale", "name an upscaler"),
        (
            {"model": "one-pass", "scale": 4, "num_inference_steps": 5},
            PICTURE,
            "num_inference_steps",
            "enlarges in one pass; leave it out",
        ),
    ],
)
def test_what_does_not_fit_is_named(catalog: Catalog, fields, given, named, rule) -> None:
    with pytest.raises(InvalidRequest) as refused:
        resolved(catalog, given, **fields)
    (violation,) = refused.value.violations
    assert violation.field == named
    assert rule in violation.description


def test_an_upscaler_without_scales_is_no_upscaler(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="scales"):
        Model.model_validate(catalog.models[1].model_dump() | {"scales": ()})


def test_one_pass_is_one_step(catalog: Catalog) -> None:
    assert resolved(catalog, model="one-pass", scale=4).num_inference_steps == 1
    with pytest.raises(ValueError, match="set default_steps to 1"):
        Model.model_validate(catalog.models[2].model_dump() | {"default_steps": 5})


def test_a_second_stage_is_resolved_and_counts_in_the_results_size(catalog: Catalog) -> None:
    fields = {"model": "draws", "prompt": "a fox", "upscale": {"model": "enlarges"}}
    request = resolved(catalog, {}, **fields)
    assert request.upscale is not None
    assert (request.upscale.scale, request.upscale.num_inference_steps) == (4, 5)
    assert (request.width, request.output_width, request.output_height) == (256, 1024, 1024)


@pytest.mark.parametrize(
    ("upscale", "named"),
    [
        ({"model": "draws"}, "upscale.model"),
        ({"model": "enlarges", "scale": 3}, "upscale.scale"),
        ({"model": "enlarges", "scale": 4}, "upscale.scale"),
        ({"model": "one-pass", "num_inference_steps": 5}, "upscale.num_inference_steps"),
    ],
)
def test_a_second_stage_that_does_not_fit_is_named(catalog: Catalog, upscale, named) -> None:
    with pytest.raises(InvalidRequest) as refused:
        resolved(catalog, {}, model="draws", prompt="a", width=512, upscale=upscale)
    assert [violation.field for violation in refused.value.violations] == [named]
