"""Requests to models that draw classes: which class is meant, and what they cannot take."""

from collections.abc import Iterator

from service.domain.errors import FieldViolation
from service.domain.models.catalog import Model
from service.domain.requests.request import GenerationRequest, ResolvedRequest

#: Names that a refusal lists.
_LISTED = 30


def resolved_class(request: GenerationRequest, model: Model, words: str) -> dict[str, str | None]:
    """Prompt and class of a resolved request; the class is None where the model knows none such.

    Args:
        request: what a client asks for.
        model: whose classes are meant.
        words: the prompt of models that read words.
    """
    if model.kind != "class-to-image":
        return {"prompt": words, "class_label": request.class_label}
    number = _number(request.prompt if request.class_label is None else request.class_label, model)
    if number is None:
        return {"prompt": request.prompt, "class_label": None}
    return {"prompt": model.class_names[number][0], "class_label": str(number)}


def class_violations(
    request: GenerationRequest, resolved: ResolvedRequest, model: Model
) -> Iterator[FieldViolation]:
    """Name what does not go together with the kind of the model."""
    label = request.class_label
    if model.kind != "class-to-image":
        if label is not None:
            rule = f"{model.name} draws what prompt says; leave it out"
            yield FieldViolation("class_label", repr(label), rule)
        return
    if resolved.class_label is None:
        field, value = ("prompt", request.prompt) if label is None else ("class_label", label)
        yield FieldViolation(field, repr(value), f"{model.name} draws {_listed(model)}")
    elif label is not None and _number(request.prompt, model) != int(resolved.class_label):
        rule = "it must name the class too, or be left out: the model reads no words"
        yield FieldViolation("prompt", repr(request.prompt), rule)
    for name in ("negative_prompt", "image"):
        if value := getattr(request, name):
            rule = f"{model.name} draws classes alone; leave it out"
            yield FieldViolation(name, repr(value[:80]), rule)


def _number(label: str, model: Model) -> int | None:
    """The number of a class by its name or number."""
    text = label.strip()
    for number, names in enumerate(model.class_names):
        if text in names or text == str(number):
            return number
    return None


def _listed(model: Model) -> str:
    names = [names[0] for names in model.class_names]
    more = len(names) - _LISTED
    listed = ", ".join(names[:_LISTED])
    return f"{listed} and {more} others; GET /v1/models has all" if more > 0 else listed
