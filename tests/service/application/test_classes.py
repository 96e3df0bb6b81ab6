"""Requests to a model that draws classes: what is meant, and what is refused."""

import pytest
from pydantic import ValidationError

from service.application.requests.parse import parse_request
from service.application.requests.submit import fingerprint, resolve
from service.domain.errors import InvalidRequest
from service.domain.generations.batching import batch_key
from service.domain.models.catalog import Catalog, Model
from tests.class_models import entry

CATALOG = Catalog(
    models=(
        Model(**entry("classes", "somewhere")),
        Model(
            name="words",
            title="Words",
            source="elsewhere",
            native_size=256,
            default_size=256,
            default_scheduler="DDIMScheduler",
            schedulers=("DDIMScheduler",),
            methods=("direct",),
            default_method="direct",
        ),
    )
)


def refused(fields: dict[str, object]) -> dict[str, str]:
    """What is allowed, by field that was refused."""
    with pytest.raises(InvalidRequest) as caught:
        resolve(parse_request(fields), CATALOG)
    return {v.field: v.description for v in caught.value.violations}


@pytest.mark.parametrize(
    "fields",
    [
        {"class_label": "cat"},
        {"class_label": "tabby"},
        {"class_label": "0"},
        {"class_label": "cat", "prompt": "tabby"},
        {"prompt": "cat"},
        {"prompt": " 0 "},
    ],
)
def test_a_class_is_named_by_label_number_or_prompt(fields: dict[str, object]) -> None:
    resolved = resolve(parse_request(fields), CATALOG)
    assert (resolved.class_label, resolved.prompt) == ("0", "cat")
    again = {"prompt": resolved.prompt, "class_label": resolved.class_label}
    assert resolve(parse_request(again), CATALOG).class_label == "0"


def test_the_model_fills_in_what_is_left_out() -> None:
    resolved = resolve(parse_request({"class_label": "fox"}), CATALOG)
    assert (resolved.width, resolved.num_inference_steps, resolved.method) == (64, 7, "direct")
    assert resolved.scheduler == "DPMSolverFastScheduler"


@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        ({"class_label": "wolf"}, "class_label", "classes draws cat, dog, fox"),
        ({"class_label": "3"}, "class_label", "classes draws cat, dog, fox"),
        ({"prompt": "a red guitar"}, "prompt", "classes draws cat, dog, fox"),
        ({"class_label": "cat", "prompt": "dog"}, "prompt", "must name the class too"),
        ({"class_label": "cat", "negative_prompt": "x"}, "negative_prompt", "classes alone"),
        ({"class_label": "cat", "width": 128}, "width", "from 64 to 64"),
        ({"class_label": "cat", "method": "hidiffusion"}, "method", "allowed are direct"),
        ({"class_label": "cat", "prompt_weighting": True}, "prompt_weighting", "as they stand"),
        ({"class_label": "cat", "model": "words"}, "class_label", "draws what prompt says"),
        ({"class_label": ""}, "prompt", "required"),
    ],
)
def test_what_it_cannot_draw_is_refused_by_field(
    fields: dict[str, object], field: str, rule: str
) -> None:
    assert rule in refused(fields)[field]


def test_many_classes_are_not_all_listed() -> None:
    many = entry("many", "somewhere") | {"classes": [f"thing {number}" for number in range(1000)]}
    catalog = Catalog(models=(Model(**many),))
    with pytest.raises(InvalidRequest, match="class_label") as caught:
        resolve(parse_request({"class_label": "wolf"}), catalog)
    assert "thing 29 and 970 others" in caught.value.violations[0].description
    assert resolve(parse_request({"class_label": "thing 999"}), catalog).class_label == "999"


def test_different_classes_may_be_drawn_together() -> None:
    cat, fox = (
        resolve(parse_request({"class_label": name, "seed": 1}), CATALOG) for name in ("cat", "fox")
    )
    assert batch_key(cat) is not None
    assert batch_key(cat) == batch_key(fox)


def test_the_class_counts_in_what_was_asked_for() -> None:
    prints = {fingerprint(parse_request({"class_label": name}), 1) for name in ("cat", "dog")}
    assert len(prints) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": []},
        {"kind": "text-to-image"},
        {"methods": ["direct", "hidiffusion"]},
        {"prompt_weighting": True},
    ],
)
def test_a_catalogue_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="class"):
        Model(**(entry("classes", "somewhere") | changes))
