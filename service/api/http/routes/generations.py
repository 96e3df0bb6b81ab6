"""Create, read, list, cancel and purge generations."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.api.http import links
from service.api.http.artifact_responses import artifact_response
from service.api.http.dependencies import (
    GenerationId,
    PicturesDep,
    SettingsDep,
    StoppingDep,
    UseCasesDep,
)
from service.api.http.edge.presence import while_present
from service.api.http.headers import (
    idempotency_key,
    leaving_cancels,
    picture_format,
    preferred_wait,
)
from service.api.http.openapi import problem_responses
from service.api.http.views.batch_schemas import BatchRequest, BatchView
from service.api.http.views.schemas import GenerationPage, GenerationView
from service.api.streams import unless_stopping
from service.application.batch import GenerateBatch
from service.application.generations.query import MAX_PAGE
from service.application.generations.wait import wait_until_final
from service.domain.generations.generation import Status
from service.domain.requests.request import GenerationRequest

router = APIRouter(prefix=links.GENERATIONS, tags=["generations"])

IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Up to 255 characters, quoted or not. The same key with the same body "
        "returns what was accepted before.",
    ),
]
PreferHeader = Annotated[
    str | None,
    Header(
        description="`wait=N` answers when all is final, or after N seconds; with "
        "`wait=N, cancel-on-disconnect`, leaving before that cancels it."
    ),
]

_LOCATION = {"Location": {"description": "Path of the record.", "schema": {"type": "string"}}}


@router.post(
    "",
    status_code=202,
    response_model=GenerationView,
    responses={
        200: {
            "description": "Final within the preferred wait; with `Accept: image/png`, or another "
            "type of picture, the picture itself.",
            "model": GenerationView,
        },
        202: {"description": "Accepted durably.", "headers": _LOCATION},
        **problem_responses(400, 413, 415, 422, 503, 507),
    },
)
async def create_generation(
    *,
    request: GenerationRequest,
    http: Request,
    response: Response,
    use_cases: UseCasesDep,
    settings: SettingsDep,
    pictures: PicturesDep,
    stopping: StoppingDep,
    idempotency: IdempotencyHeader = None,
    prefer: PreferHeader = None,
) -> GenerationView | Response:
    """Ask for a picture."""
    wanted = picture_format(http.headers.get("accept"))
    if wanted is not None and "output_format" not in request.model_fields_set:
        request = request.model_copy(update={"output_format": wanted})
    submit = partial(use_cases.submit, request, idempotency_key(idempotency))
    generation = await pictures.submitted(use_cases.tenant, request, submit)
    wait = preferred_wait(prefer)
    if wait is not None:
        wait = min(wait, settings.max_wait_seconds)
        final = wait_until_final(generation, use_cases.watch, use_cases.query, wait)
        waiting = unless_stopping(stopping, final, generation)
        if leaving_cancels(prefer):
            generation = await while_present(
                http, waiting, partial(use_cases.cancel, generation.id)
            )
        else:
            generation = await waiting
        response.headers["preference-applied"] = f"wait={wait}"
    response.headers["location"] = links.generation(generation.id)
    response.status_code = 200 if generation.status.final else 202
    if wanted is not None and generation.status is Status.SUCCEEDED:
        info = await run_in_threadpool(use_cases.query.image, generation.id)
        return artifact_response(http, use_cases.query, info, dict(response.headers))
    return GenerationView.of(generation)


@router.post(
    "/batch",
    status_code=202,
    response_model=BatchView,
    responses={
        200: {"description": "All final within the preferred wait.", "model": BatchView},
        202: {"description": "All accepted durably."},
        **problem_responses(400, 413, 415, 422, 503, 507),
    },
)
async def create_batch(
    *,
    request: BatchRequest,
    http: Request,
    response: Response,
    use_cases: UseCasesDep,
    settings: SettingsDep,
    pictures: PicturesDep,
    stopping: StoppingDep,
    idempotency: IdempotencyHeader = None,
    prefer: PreferHeader = None,
) -> BatchView:
    """Ask for several pictures that differ in their seeds; all are accepted, or none."""
    key, batch = idempotency_key(idempotency), GenerateBatch(use_cases)
    submit = partial(batch.submit, request.each, request.n, key)
    generations = await pictures.submitted(use_cases.tenant, request.each, submit)
    wait = preferred_wait(prefer)
    if wait is not None:
        wait = min(wait, settings.max_wait_seconds)
        waiting = unless_stopping(stopping, batch.wait(generations, wait), generations)
        if leaving_cancels(prefer):
            generations = await while_present(http, waiting, partial(batch.cancel, generations))
        else:
            generations = await waiting
        response.headers["preference-applied"] = f"wait={wait}"
    response.status_code = 200 if all(each.status.final for each in generations) else 202
    return BatchView(generations=tuple(GenerationView.of(each) for each in generations))


@router.get("", responses=problem_responses(422, 503))
def list_generations(
    use_cases: UseCasesDep,
    status: Annotated[Status | None, Query(description="Only those with this status.")] = None,
    cursor: Annotated[
        str | None, Query(max_length=200, description="`next_cursor` of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Records per page.")] = 20,
) -> GenerationPage:
    """List generations, newest first."""
    return GenerationPage.of(use_cases.query.generations(status, cursor, limit))


@router.get("/{generation_id}", responses=problem_responses(404, 422, 503))
def get_generation(generation_id: GenerationId, use_cases: UseCasesDep) -> GenerationView:
    """Read one record."""
    generation = use_cases.query.generation(generation_id)
    return GenerationView.of(generation, use_cases.query.place(generation))


@router.delete(
    "/{generation_id}",
    response_model=GenerationView,
    responses={
        202: {"description": "Told to stop; not final yet.", "model": GenerationView},
        204: {"description": "Purged."},
        **problem_responses(404, 409, 422, 503),
    },
)
def cancel_generation(
    generation_id: GenerationId,
    response: Response,
    use_cases: UseCasesDep,
    purge: Annotated[
        bool, Query(description="Also delete the record and everything it left.")
    ] = False,
) -> GenerationView | Response:
    """Cancel a generation that is not final; one that is, is returned as it is."""
    generation = use_cases.cancel(generation_id)
    if purge:
        use_cases.purge(generation_id)
        return Response(status_code=204)
    response.status_code = 200 if generation.status.final else 202
    return GenerationView.of(generation)
