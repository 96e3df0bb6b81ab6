"""Accept a request: hold it against the catalogue, close what it left open, record and enqueue."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ulid import ULID

from service.application.ports import CatalogSource, Clock, IdempotencyClaim, Records
from service.application.requests.classes import class_violations, resolved_class
from service.application.requests.inputs import (
    input_violations,
    method_for,
    references,
    resolved_pictures,
    size_of,
    strength_of,
)
from service.application.requests.parse import shortened, what_can_be_read
from service.application.requests.picture_options import picture_violations, resolved_quality
from service.application.requests.upscaling import resolve_upscaling, resolved_upscale
from service.application.requests.webhooks import WebhookRules
from service.application.sources.uploads import Given, Uploads
from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.generations.generation import Generation, Status
from service.domain.models.adapters import MAX_LORA_WEIGHT, LoraChoice, lora_violations
from service.domain.models.catalog import Catalog, Model
from service.domain.models.controls import control_violations
from service.domain.models.image_prompts import image_prompt_violations
from service.domain.models.methods import METHODS, OptionValue, method_violations, resolved_options
from service.domain.models.schedulers import scheduler_named, scheduler_violations
from service.domain.requests.prompt_syntax import read_prompt
from service.domain.requests.request import (
    MAX_BATCH,
    GenerationRequest,
    ResolvedRequest,
    as_asked,
)
from service.domain.requests.seeds import derived_seed, drawn_seed

_T = TypeVar("_T")


#: Fields that make no sense without pictures.
_WITH_PICTURES = {"image", "mask", "strength", "controls", "image_prompt"}


class SubmitGeneration:
    """The one way in, whichever front end a request came through."""

    def __init__(
        self,
        catalog: CatalogSource,
        records: Records,
        clock: Clock,
        uploads: Uploads,
        webhooks: WebhookRules | None = None,
    ) -> None:
        self._catalog = catalog
        self._records = records
        self._clock = clock
        self._uploads = uploads
        self._webhooks = webhooks or WebhookRules()

    def __call__(
        self, request: GenerationRequest, idempotency_key: str | None = None
    ) -> Generation:
        """Accept `request` durably.

        Returns:
            The generation, queued; or the earlier one when `idempotency_key` came before with the
            same request.

        Raises:
            ServiceError: as `batch` does.
        """
        return self.batch(request, 1, idempotency_key)[0]

    def further_violations(self, fields: Mapping[str, Any]) -> list[FieldViolation]:
        """What the catalogue has against the part of a request that can be read at all.

        For a client that is told of what cannot be read, so that it is told of all at once. Its
        pictures are left alone: decoding them is work for a request that is right in all else.
        """
        bare = {name: value for name, value in fields.items() if name not in _WITH_PICTURES}
        request = what_can_be_read(bare)
        if request is None:
            return []
        try:
            resolve(request, self._catalog())
        except InvalidRequest as error:
            return error.violations
        return []

    def batch(
        self, request: GenerationRequest, count: int, idempotency_key: str | None = None
    ) -> list[Generation]:
        """Accept `count` pictures of `request` durably, all or none; see `derived_seed`.

        Returns:
            The generations, queued, the one with the seed asked for first; or the earlier ones
            when `idempotency_key` came before with the same request and count.

        Raises:
            InvalidRequest: a rule of the catalogue is broken, or a picture is unknown or no good;
                nothing was recorded.
            IdempotencyMismatch: the key came before with another request or count.
            Unavailable: Redis or the store cannot be reached; nothing was recorded.
            StoreError: the store did not take a picture; nothing was recorded.
        """
        if not 1 <= count <= MAX_BATCH:
            rule = f"1 to {MAX_BATCH} pictures are allowed"
            raise InvalidRequest([FieldViolation("n", repr(count), rule)])
        self._webhooks.check(request.webhook)
        claim = None
        if idempotency_key:
            claim = IdempotencyClaim(idempotency_key, fingerprint(request, count))
        named = references(request)
        # What it started from may be gone when a request is repeated.
        if claim and named and (earlier := self._records.accepted_before(claim)):
            return [*earlier]
        given = self._uploads.open(named)
        resolved = resolve(request, self._catalog(), given)
        first = Generation(
            id=str(ULID()),
            status=Status.QUEUED,
            request=resolved,
            inputs=self._uploads.keep(given),
            created_at=self._clock.now(),
            **as_asked(request, Generation),
        )
        return self._records.accept_all(_copies(first, count), claim)


def _copies(first: Generation, count: int) -> list[Generation]:
    """A generation and others that differ in id and seed alone; ids ascend."""
    ids = sorted([first.id, *(str(ULID()) for _ in range(count - 1))])
    seeds = (derived_seed(first.request.seed, index) for index in range(count))
    return [
        first.model_copy(
            update={"id": each, "request": first.request.model_copy(update={"seed": seed})}
        )
        for each, seed in zip(ids, seeds, strict=True)
    ]


def resolve(
    request: GenerationRequest, catalog: Catalog, given: Mapping[str, Given] | None = None
) -> ResolvedRequest:
    """Fill in the model's defaults and draw a seed.

    Args:
        request: what a client asks for.
        catalog: the models there are.
        given: the pictures that the request names, by field.

    Raises:
        InvalidRequest: naming every field that the model does not allow.
    """
    model = catalog.default if request.model is None else catalog.find(request.model)
    if model is None:
        raise InvalidRequest([_not_among("model", request.model, catalog.names)])
    given = given or {}
    if model.kind == "upscaler":
        return resolve_upscaling(request, model, given)
    if request.scale is not None:
        rule = f"{model.name} draws pictures; leave it out, or name an upscaler as model"
        raise InvalidRequest([FieldViolation("scale", repr(request.scale), rule)])
    prompt, negative = read_prompt(request.prompt), read_prompt(request.negative_prompt)
    weighted = prompt.weighted or negative.weighted
    width, height = size_of(request, model, given)
    fields = as_asked(request, ResolvedRequest)
    fields |= resolved_class(request, model, prompt.text)
    fields |= resolved_pictures(request, given)
    fields |= {
        "negative_prompt": negative.text,
        "model": model.name,
        "width": width,
        "height": height,
        "num_inference_steps": _or(request.num_inference_steps, model.default_steps),
        "guidance_scale": _or(request.guidance_scale, model.default_guidance_scale),
        "seed": drawn_seed(request.seed),
        "scheduler": scheduler_named(request.scheduler or model.default_scheduler),
        "method": request.method or method_for(model, width, height, given),
        "quality": resolved_quality(request),
        "prompt_weighting": request.prompt_weighting or (weighted and model.prompt_weighting),
        "loras": [*request.loras, *(_lora(name, weight) for name, weight in prompt.loras)],
        "strength": strength_of(request, given),
        "upscale": resolved_upscale(request.upscale, catalog, width, height),
    }
    resolved = ResolvedRequest(**fields)
    if violations := [
        *_ratio_violations(request),
        *_weight_violations(request, weighted=weighted, model=model),
        *_violations(resolved, model),
        *class_violations(request, resolved, model),
        *lora_violations(resolved.loras, model.loras),
        *control_violations(resolved.controls, model.controls),
        *image_prompt_violations(resolved.image_prompt, model.name, model.ip_adapter),
        *picture_violations(resolved),
        *input_violations(resolved, model, given),
        *_method_violations(resolved, model),
    ]:
        raise InvalidRequest(violations)
    options = resolved_options(model.method(resolved.method), resolved.method_options)
    return resolved.model_copy(update={"method_options": options})


def _violations(request: ResolvedRequest, model: Model) -> Iterator[FieldViolation]:
    for field, pixels in (("width", request.width), ("height", request.height)):
        if pixels % model.size_multiple or not model.min_size <= pixels <= model.max_size:
            yield FieldViolation(
                field,
                repr(pixels),
                f"{model.name} makes multiples of {model.size_multiple} from {model.min_size} "
                f"to {model.max_size} pixels",
            )
    yield from scheduler_violations(request.scheduler, model.schedulers)
    if request.method not in model.methods:
        yield _not_among("method", request.method, model.methods)
    if request.prompt_weighting and not model.prompt_weighting:
        rule = f"prompts of {model.name} are read as they stand; leave it out"
        yield FieldViolation("prompt_weighting", "True", rule)


def _method_violations(request: ResolvedRequest, model: Model) -> Iterator[FieldViolation]:
    """What the method cannot do for a request."""
    if request.method not in model.methods:
        return iter(())
    return method_violations(
        METHODS[request.method],
        request.method_options,
        scale=math.sqrt(max(0, request.width * request.height)) / model.native_size,
        steps=request.num_inference_steps,
    )


def _lora(name: str, weight: float) -> LoraChoice:
    """A LoRA that the prompt names; A1111 knows no limits, and 4 is a lot."""
    return LoraChoice(name=name, weight=max(-MAX_LORA_WEIGHT, min(MAX_LORA_WEIGHT, weight)))


def _ratio_violations(request: GenerationRequest) -> Iterator[FieldViolation]:
    if request.aspect_ratio is not None and None not in (request.width, request.height):
        rule = "width and height are both given; leave one of the three out"
        yield FieldViolation("aspect_ratio", repr(request.aspect_ratio), rule)


def _weight_violations(
    request: GenerationRequest, *, weighted: bool, model: Model
) -> Iterator[FieldViolation]:
    if weighted and not model.prompt_weighting:
        rule = f"prompts of {model.name} are read as they stand; leave weights like (red:1.8) out"
        yield FieldViolation("prompt", shortened(request.prompt), rule)


def _not_among(field: str, value: object, allowed: Sequence[str]) -> FieldViolation:
    return FieldViolation(field, repr(value), "allowed are " + ", ".join(allowed))


def _or(value: _T | None, default: _T) -> _T:
    return default if value is None else value


def fingerprint(request: GenerationRequest, count: int) -> str:
    """What tells `count` pictures of a request from anything else that is asked for.

    It is the same whichever way a request came: protobuf knows no order in maps, no empty ones and
    no whole numbers in options, and some clients name every default.
    """
    options = {name: _whole(value) for name, value in request.method_options.items()}
    plain = request.model_copy(update={"method_options": options})
    asked = plain.model_dump(mode="json", exclude_defaults=True)
    canonical = json.dumps(asked, sort_keys=True)
    if count > 1:
        canonical += f"*{count}"
    return hashlib.sha256(canonical.encode()).hexdigest()


def _whole(value: OptionValue) -> OptionValue:
    return int(value) if isinstance(value, float) and value.is_integer() else value
