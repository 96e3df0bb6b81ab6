"""What every call passes through: a request id, strict fields, and errors as rich statuses."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from grpc_status import rpc_status
from structlog.contextvars import bound_contextvars
from ulid import ULID

from service.api.grpc.callers import Callers
from service.api.grpc.errors import internal_status, status_of
from service.domain.errors import (
    FieldViolation,
    InvalidRequest,
    ServiceError,
    StoreError,
    Unavailable,
)

logger = logging.getLogger(__name__)

_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps the methods of our own services; health checking and reflection are left alone."""

    def __init__(self, service_name: str, callers: Callers) -> None:
        self._prefix = f"/{service_name}/"
        self._callers = callers

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """The handler, wrapped when the method is ours."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(self._prefix):
            return handler
        name = handler_call_details.method.removeprefix(self._prefix)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                _wrapped_stream(handler.unary_stream, self._callers, name),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            _wrapped_unary(handler.unary_unary, self._callers, name),
            handler.request_deserializer,
            handler.response_serializer,
        )


def _wrapped_unary(behaviour: Any, callers: Callers, method: str) -> Any:
    async def call(request: Message, context: _Context) -> Any:
        async with _call(request, context, callers, method):
            return await behaviour(request, context)

    return call


def _wrapped_stream(behaviour: Any, callers: Callers, method: str) -> Any:
    async def call(request: Message, context: _Context) -> AsyncIterator[Any]:
        async with (
            _call(request, context, callers, method),
            aclosing(behaviour(request, context)) as responses,
        ):
            async for response in responses:
                yield response

    return call


@asynccontextmanager
async def _call(
    request: Message, context: _Context, callers: Callers, method: str
) -> AsyncIterator[None]:
    request_id = _metadata(context, "x-request-id") or ""
    if not _ACCEPTABLE_ID.fullmatch(request_id):
        request_id = str(ULID())
    await context.send_initial_metadata((("x-request-id", request_id),))
    try:
        with bound_contextvars(request_id=request_id):
            async with callers.calling(method, _metadata(context, "authorization")):
                _refuse_unknown_fields(request)
                yield
    except ServiceError as error:
        if isinstance(error, Unavailable | StoreError):
            logger.warning("request %s: %s", request_id, error)
        await _abort(context, status_of(error, request_id))
    except (grpc.aio.AbortError, asyncio.CancelledError):
        raise
    except Exception:
        logger.exception("request %s failed", request_id)
        await _abort(context, internal_status(request_id))


def _metadata(context: _Context, name: str) -> str | None:
    given = dict(context.invocation_metadata() or ()).get(name)
    return None if given is None else str(given)


def _refuse_unknown_fields(request: Message) -> None:
    """A field this version does not know would be ignored in silence; the client should know."""
    unknown: Any = UnknownFieldSet(request)
    numbers = sorted({field.field_number for field in unknown})
    if numbers:
        known = ", ".join(request.DESCRIPTOR.fields_by_name)
        raise InvalidRequest(
            [
                FieldViolation(
                    f"field number {number}",
                    "a field",
                    f"it is unknown to {request.DESCRIPTOR.name}; known fields are {known}",
                )
                for number in numbers[:10]
            ]
        )


async def _abort(context: _Context, status: Any) -> None:
    rich = rpc_status.to_status(status)
    await context.abort(rich.code, rich.details, rich.trailing_metadata)
