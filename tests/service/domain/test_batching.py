"""Which requests go into one batch."""

import pytest

from service.domain.generations.batching import batch_key
from service.domain.models.adapters import LoraChoice
from service.domain.models.controls import ControlChoice
from service.domain.models.image_prompts import ImagePrompt
from tests.generations import make_generation

REQUEST = make_generation().request
EDGES = ControlChoice(name="canny", image="upl_1")


@pytest.mark.parametrize(
    "own",
    [
        {"prompt": "an owl"},
        {"seed": 1},
        {"output_format": "webp", "quality": 5},
        {"metadata": False},
        {"tiles": False},
    ],
)
def test_rows_have_prompt_seed_and_file_for_themselves(own):
    assert batch_key(REQUEST.model_copy(update=own)) == batch_key(REQUEST)


@pytest.mark.parametrize(
    "other",
    [
        {"model": "owl"},
        {"width": 72},
        {"height": 72},
        {"num_inference_steps": 4},
        {"guidance_scale": 5.2},
        {"scheduler": "EulerDiscreteScheduler"},
        {"method": "direct"},
        {"method_options": {"t1_ratio": 0.5}},
        {"negative_prompt": "text"},
        {"loras": [LoraChoice(name="ink", weight=0.5)]},
    ],
)
def test_all_else_must_be_the_same(other):
    assert batch_key(REQUEST.model_copy(update=other)) != batch_key(REQUEST)


@pytest.mark.parametrize(
    "own",
    [
        {"image": "upl_1"},
        {"controls": [EDGES]},
        {"image_prompt": ImagePrompt(image="upl_1")},
        {"prompt_weighting": True},
    ],
)
def test_pictures_and_weights_are_drawn_alone(own):
    assert batch_key(REQUEST.model_copy(update=own)) is None
