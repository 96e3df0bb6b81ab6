"""The methods of `GenerationService`: translate, call one use case, translate back."""
# ruff: noqa: N802, ARG002 - names and signatures are those of the generated base class

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, TypeAlias, TypeVar

import anyio
import grpc

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from hidiffusion_api.v1 import generation_service_pb2_grpc as stubs
from service.api.grpc.callers import Callers
from service.api.grpc.convert import (
    artifact_message,
    event_message,
    generation_message,
    model_message,
    request_fields,
    status_filter,
    status_value,
    tile_message,
    upload_message,
)
from service.api.picture_work import PictureWork
from service.api.streams import until
from service.application.generations.query import MAX_PAGE, Query
from service.application.generations.watch import event_position
from service.application.ports import ObjectInfo
from service.application.requests.parse import parse_idempotency_key, parse_request
from service.application.use_cases import UseCases
from service.domain.errors import ArtifactNotFound, FieldViolation, InvalidRequest, NotFound
from service.domain.generations.events import StoredEvent, TileStored
from service.domain.requests.request import GenerationRequest

#: A quarter of the 4 MiB that gRPC clients accept in a message unless told otherwise.
CHUNK_BYTES = 1024 * 1024
DEFAULT_PAGE = 20

_R = TypeVar("_R")
_Watch: TypeAlias = rpc.WatchGenerationRequest | rpc.StreamTilesRequest
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class GenerationServicer(stubs.GenerationServiceServicer):
    """The gRPC front end over the use cases of `callers`; errors leave through `Registrar`."""

    def __init__(
        self,
        callers: Callers,
        stopping: asyncio.Event,
        max_upload_bytes: int,
        pictures: PictureWork,
    ) -> None:
        self._callers = callers
        self._pictures = pictures
        self._stopping = stopping
        self._max_upload_bytes = max_upload_bytes

    @property
    def _use_cases(self) -> UseCases:
        return self._callers.use_cases

    @property
    def _query(self) -> Query:
        return self._use_cases.query

    async def CreateGeneration(
        self, request: rpc.CreateGenerationRequest, context: _Context
    ) -> rpc.CreateGenerationResponse:
        """Accept a request."""
        parsed, key = self._parsed(request)
        generation = await self._submitted(parsed, partial(self._use_cases.submit, parsed, key))
        return rpc.CreateGenerationResponse(generation=generation_message(generation))

    async def BatchCreateGenerations(
        self, request: rpc.BatchCreateGenerationsRequest, context: _Context
    ) -> rpc.BatchCreateGenerationsResponse:
        """Accept several pictures of a request."""
        parsed, key = self._parsed(request.request)
        submit = partial(self._use_cases.submit.batch, parsed, request.n, key)
        accepted = await self._submitted(parsed, submit)
        generations = [generation_message(generation) for generation in accepted]
        return rpc.BatchCreateGenerationsResponse(generations=generations)

    async def GetGeneration(
        self, request: rpc.GetGenerationRequest, context: _Context
    ) -> rpc.GetGenerationResponse:
        """Read one record."""
        generation = await _threaded(self._query.generation, request.id)
        place = await _threaded(self._query.place, generation)
        return rpc.GetGenerationResponse(generation=generation_message(generation, place))

    async def ListGenerations(
        self, request: rpc.ListGenerationsRequest, context: _Context
    ) -> rpc.ListGenerationsResponse:
        """List records."""
        page = await _threaded(
            self._query.generations,
            status_filter(request.status),
            request.page_token or None,
            _page_size(request.page_size),
        )
        generations = [generation_message(found, recipe=False) for found in page.generations]
        return rpc.ListGenerationsResponse(
            generations=generations, next_page_token=page.next_cursor or ""
        )

    async def CancelGeneration(
        self, request: rpc.CancelGenerationRequest, context: _Context
    ) -> rpc.CancelGenerationResponse:
        """Ask a generation to stop."""
        generation = await _threaded(self._use_cases.cancel, request.id)
        return rpc.CancelGenerationResponse(generation=generation_message(generation))

    async def DeleteGeneration(
        self, request: rpc.DeleteGenerationRequest, context: _Context
    ) -> rpc.DeleteGenerationResponse:
        """Purge a final generation."""
        await _threaded(self._use_cases.purge, request.id)
        return rpc.DeleteGenerationResponse()

    async def ListModels(
        self, request: rpc.ListModelsRequest, context: _Context
    ) -> rpc.ListModelsResponse:
        """List the models on offer."""
        models = await _threaded(self._query.models)
        return rpc.ListModelsResponse(models=[model_message(status) for status in models])

    async def WatchGeneration(
        self, request: rpc.WatchGenerationRequest, context: _Context
    ) -> AsyncIterator[rpc.WatchGenerationResponse]:
        """Stream events."""
        async with self._ending_with(context, request), self._events(request) as events:
            async for stored in events:
                message = stored.made("gRPC", partial(event_message, stored))
                yield rpc.WatchGenerationResponse(event=message)

    async def StreamTiles(
        self, request: rpc.StreamTilesRequest, context: _Context
    ) -> AsyncIterator[rpc.StreamTilesResponse]:
        """Stream tiles, then the final status."""
        async with self._ending_with(context, request), self._events(request) as events:
            async for stored in events:
                if isinstance(stored.event, TileStored):
                    async for chunk in self._tile(stored.id, stored.event):
                        yield rpc.StreamTilesResponse(chunk=chunk)
        generation = await _threaded(self._query.generation, request.id)
        yield rpc.StreamTilesResponse(final_status=status_value(generation.status))

    async def DownloadImage(
        self, request: rpc.DownloadImageRequest, context: _Context
    ) -> AsyncIterator[rpc.DownloadImageResponse]:
        """Stream the full-size picture."""
        generation = await _threaded(self._query.generation, request.id)
        if generation.result is None:
            raise ArtifactNotFound(request.id, "image", generation.status)
        info = await _threaded(self._query.image, request.id)
        if not 0 <= request.offset < info.size:
            rule = f"offsets from 0 to {info.size - 1} are allowed"
            raise InvalidRequest([FieldViolation("offset", str(request.offset), rule)])
        whole = artifact_message(generation.result.image)
        async for offset, data in self._chunks(info, request.offset):
            first = whole if offset == request.offset else None
            yield rpc.DownloadImageResponse(image=first, offset=offset, data=data)

    async def UploadImage(
        self, request_iterator: AsyncIterator[rpc.UploadImageRequest], context: _Context
    ) -> rpc.UploadImageResponse:
        """Store a picture."""
        data = bytearray()
        async for request in request_iterator:
            data += request.data
            if len(data) > self._max_upload_bytes:
                rule = f"a picture of up to {self._max_upload_bytes} bytes is allowed"
                raise InvalidRequest([FieldViolation("data", f"{len(data)} bytes", rule)])
        add = partial(self._use_cases.uploads.add, bytes(data), "data")
        upload = await self._pictures.run(self._use_cases.tenant, add)
        return rpc.UploadImageResponse(upload=upload_message(upload))

    async def GetUpload(
        self, request: rpc.GetUploadRequest, context: _Context
    ) -> rpc.GetUploadResponse:
        """Read what is known of an upload."""
        upload = await _threaded(self._use_cases.uploads.get, request.id)
        return rpc.GetUploadResponse(upload=upload_message(upload))

    async def DeleteUpload(
        self, request: rpc.DeleteUploadRequest, context: _Context
    ) -> rpc.DeleteUploadResponse:
        """Forget an upload."""
        await _threaded(self._use_cases.uploads.delete, request.id)
        return rpc.DeleteUploadResponse()

    @asynccontextmanager
    async def _ending_with(self, context: _Context, request: _Watch) -> AsyncIterator[None]:
        """Cancel the generation when the call ends early, if the client asked for that."""
        if not request.cancel_on_disconnect:
            yield
            return
        given = dict(context.invocation_metadata() or ()).get("authorization")
        await _threaded(self._callers.check_may_write, given)
        cancel = self._use_cases.cancel
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            if not self._stopping.is_set():
                with anyio.CancelScope(shield=True):
                    await _threaded(cancel, request.id)
            raise

    def _events(self, request: _Watch) -> aclosing[AsyncGenerator[StoredEvent]]:
        return aclosing(self._followed(request))

    async def _followed(self, request: _Watch) -> AsyncGenerator[StoredEvent]:
        after = event_position(request.resume_token, "resume_token")
        source = await self._use_cases.watch(request.id, after)
        async with aclosing(until(self._stopping, source)) as events:
            async for stored in events:
                if stored is not None:
                    yield stored

    async def _tile(self, token: str, event: TileStored) -> AsyncIterator[rpc.TileChunk]:
        try:
            info = await _threaded(self._query.stored_tile, event.tile)
        except NotFound:
            return  # purged since; the final status tells
        async for offset, data in self._chunks(info, 0):
            whole = offset + len(data) == info.size
            yield rpc.TileChunk(
                tile=tile_message(event.tile),
                attempt=event.attempt,
                media_type=info.media_type,
                size_bytes=info.size,
                offset=offset,
                data=data,
                resume_token=token if whole else "",
            )

    def _parsed(self, request: rpc.CreateGenerationRequest) -> tuple[GenerationRequest, str | None]:
        key, fields = request.idempotency_key or None, request_fields(request)
        if key is not None:
            key = parse_idempotency_key(key, "idempotency_key")
        try:
            return parse_request(fields), key
        except InvalidRequest as error:
            more = self._use_cases.submit.further_violations(fields)
            raise InvalidRequest([*error.violations, *more]) from None

    async def _chunks(self, info: ObjectInfo, start: int) -> AsyncIterator[tuple[int, bytes]]:
        for offset in range(start, info.size, CHUNK_BYTES):
            end = min(offset + CHUNK_BYTES, info.size)
            yield offset, await self._pictures.read(self._query, info, offset, end)

    async def _submitted(self, request: GenerationRequest, work: Callable[[], _R]) -> _R:
        return await self._pictures.submitted(self._use_cases.tenant, request, work)


async def _threaded(use_case: Callable[..., _R], *args: object) -> _R:
    return await asyncio.to_thread(use_case, *args)


def _page_size(asked: int) -> int:
    if not 0 <= asked <= MAX_PAGE:
        rule = f"1 to {MAX_PAGE} are allowed, or 0 for {DEFAULT_PAGE}"
        raise InvalidRequest([FieldViolation("page_size", str(asked), rule)])
    return asked or DEFAULT_PAGE
