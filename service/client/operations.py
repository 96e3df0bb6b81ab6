"""Plans of the calls with one answer each."""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from service.client.errors import (
    GenerationCancelledError,
    GenerationFailedError,
    NotFoundError,
    NotReadyError,
)
from service.client.messages import Call
from service.client.models import (
    Batch,
    Generation,
    GenerationPage,
    Model,
    ModelList,
    Result,
    Upload,
)
from service.client.plans import Emit, Plan, RetryPolicy, ask
from service.domain.generations.generation import Status
from service.domain.requests.request import GenerationRequest

Request = GenerationRequest | Mapping[str, Any]

_GENERATIONS = "/v1/generations"


def path_of(generation_id: str) -> str:
    """Where the record of a generation is."""
    return f"{_GENERATIONS}/{generation_id}"


def create(request: Request, key: str | None, retry: RetryPolicy) -> Plan[Generation]:
    """Ask for a picture."""
    call = Call("POST", _GENERATIONS, headers=_keyed(key), json=_fields(request))
    reply = yield from ask(call, retry)
    return Generation.model_validate_json(reply.content)


def create_batch(
    request: Request, n: int, key: str | None, retry: RetryPolicy
) -> Plan[tuple[Generation, ...]]:
    """Ask for several pictures that differ in their seeds."""
    fields = _fields(request) | {"n": n}
    call = Call("POST", f"{_GENERATIONS}/batch", headers=_keyed(key), json=fields)
    reply = yield from ask(call, retry)
    return Batch.model_validate_json(reply.content).generations


def get(generation_id: str, retry: RetryPolicy) -> Plan[Generation]:
    """Read one record."""
    reply = yield from ask(Call("GET", path_of(generation_id)), retry)
    return Generation.model_validate_json(reply.content)


def each(status: Status | str | None, page_size: int, retry: RetryPolicy) -> Plan[None]:
    """Emit every record, newest first, page by page."""
    params = {"limit": str(page_size)}
    if status is not None:
        params["status"] = Status(status).value
    while True:
        reply = yield from ask(Call("GET", _GENERATIONS, params=params), retry)
        page = GenerationPage.model_validate_json(reply.content)
        for generation in page.generations:
            yield Emit(generation)
        if page.next_cursor is None:
            return
        params = params | {"cursor": page.next_cursor}


def cancel(generation_id: str, retry: RetryPolicy) -> Plan[Generation]:
    """Tell a generation to stop; one that is final is returned as it is."""
    reply = yield from ask(Call("DELETE", path_of(generation_id)), retry)
    return Generation.model_validate_json(reply.content)


def delete(generation_id: str, retry: RetryPolicy) -> Plan[None]:
    """Cancel a generation and delete its record with all it left."""
    yield from get(generation_id, retry)
    try:
        yield from ask(Call("DELETE", path_of(generation_id), params={"purge": "true"}), retry)
    except NotFoundError:
        # It was there a moment ago: an earlier try did it, and its answer was lost.
        return


def models(retry: RetryPolicy) -> Plan[tuple[Model, ...]]:
    """List every model."""
    reply = yield from ask(Call("GET", "/v1/models"), retry)
    return ModelList.model_validate_json(reply.content).models


def upload(data: bytes, media_type: str, retry: RetryPolicy) -> Plan[Upload]:
    """Store a picture to start from; the same picture always has the same id."""
    call = Call("POST", "/v1/uploads", headers={"Content-Type": media_type}, content=data)
    reply = yield from ask(call, retry)
    return Upload.model_validate_json(reply.content)


def read_recipe(data: bytes, retry: RetryPolicy) -> Plan[dict[str, Any]]:
    """The fields of a request for the same picture as a PNG says."""
    call = Call("POST", "/v1/recipes", headers={"Content-Type": "image/png"}, content=data)
    reply = yield from ask(call, retry)
    fields: dict[str, Any] = json.loads(reply.content)["request"]
    return fields


def result_of(generation: Generation) -> Result:
    """What a generation left.

    Raises:
        GenerationFailedError: it failed.
        GenerationCancelledError: it was cancelled.
        NotReadyError: it is not final yet.
    """
    if generation.result is not None:
        return generation.result
    if generation.status is Status.FAILED:
        raise GenerationFailedError(generation)
    if generation.status is Status.CANCELLED:
        raise GenerationCancelledError(generation)
    raise NotReadyError(f"generation {generation.id} is {generation.status.value}; wait for it")


def _fields(request: Request) -> dict[str, Any]:
    if isinstance(request, GenerationRequest):
        return request.model_dump(mode="json", exclude_unset=True)
    return dict(request)


def _keyed(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key or str(uuid.uuid4())}
