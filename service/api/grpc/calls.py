"""What every call passes through: a request id, strict fields, and errors as rich statuses."""

import asyncio
import logging
import re
from collections.abc import (
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from grpc import StatusCode
from grpc_status import rpc_status
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from structlog.contextvars import bound_contextvars
from ulid import ULID

from service import tracing
from service.api.grpc.callers import Callers
from service.api.grpc.errors import internal_status, status_of
from service.api.metrics import ApiMetrics, Call
from service.api.turns import Turn, Turns
from service.domain.errors import (
    FieldViolation,
    InvalidRequest,
    MalformedRequest,
    ServiceError,
    StoreError,
    Unavailable,
)

logger = logging.getLogger(__name__)

_TRACE = ("traceparent", "tracestate")
_OUR_FAULT = {StatusCode.INTERNAL.name, StatusCode.UNAVAILABLE.name}

_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Calls: TypeAlias = Callable[[_Context], AbstractAsyncContextManager[Turn]]
_Read: TypeAlias = Callable[[bytes], Message]


class Registrar:
    """Takes a service's methods in the server's stead, and registers them wrapped.

    An interceptor would do so too, but once for each call, which costs more than the wrapping.

    Args:
        server: where the wrapped methods go.
        callers: decides what each caller gets to work with.
        metrics: counts the calls.
        turns: whose call is begun next.
        also_as: second names of services, by their names.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        callers: Callers,
        metrics: ApiMetrics,
        turns: Turns,
        also_as: Mapping[str, str],
    ) -> None:
        self._server = server
        self._callers = callers
        self._metrics = metrics
        self._turns = turns
        self._also_as = also_as
        self._running = 0
        self._ended = asyncio.Event()

    async def idle(self) -> None:
        """Return when no call runs or cleans up after itself.

        A server that has stopped waits for neither: a stream that its client has left is closed by
        the event loop, which must not end before.
        """
        while self._running:
            self._ended.clear()
            await self._ended.wait()

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Nothing: what generated code registers this way, it registers by name as well."""

    def add_registered_method_handlers(self, service: str, methods: Mapping[str, _Handler]) -> None:
        """Register the methods of `service`, by name, and under its second name if it has one."""
        wrapped = {name: self._wrapped(name, handler) for name, handler in methods.items()}
        names = (service, self._also_as[service]) if service in self._also_as else (service,)
        self._server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(name, wrapped) for name in names)
        )

    def _wrapped(self, name: str, handler: _Handler) -> _Handler:
        calls = partial(self._call, method=name)
        assert handler.request_deserializer is not None
        read = partial(_read, handler.request_deserializer)
        # Requests come as bytes, so that one that cannot be read is answered like any other error.
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                _wrapped_stream(handler.unary_stream, calls, read),
                response_serializer=handler.response_serializer,
            )
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(
                _wrapped_pieces(handler.stream_unary, calls, read),
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            _wrapped_unary(handler.unary_unary, calls, read),
            response_serializer=handler.response_serializer,
        )

    @asynccontextmanager
    async def _call(self, context: _Context, *, method: str) -> AsyncIterator[Turn]:
        """Everything around one call; whatever it raises, the client is told as a rich status."""
        given = {name: str(value) for name, value in context.invocation_metadata() or ()}
        self._running += 1
        try:
            with self._metrics.call(method) as call, _traced(method, given, call):
                authorization = given.get("authorization")
                lane = self._callers.lane(method, authorization)
                async with (
                    self._turns.taken(lane) as turn,
                    _answering(context, given.get("x-request-id", ""), call),
                    self._callers.calling(method, authorization),
                ):
                    yield turn
        finally:
            self._running -= 1
            self._ended.set()


def _wrapped_unary(behaviour: Any, calls: _Calls, read: _Read) -> Any:
    async def call(data: bytes, context: _Context) -> Any:
        async with calls(context):
            return await behaviour(read(data), context)

    return call


def _wrapped_stream(behaviour: Any, calls: _Calls, read: _Read) -> Any:
    async def call(data: bytes, context: _Context) -> AsyncIterator[Any]:
        async with calls(context) as turn, aclosing(behaviour(read(data), context)) as responses:
            async for response in responses:
                turn.end()
                yield response

    return call


def _wrapped_pieces(behaviour: Any, calls: _Calls, read: _Read) -> Any:
    async def messages(pieces: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for data in pieces:
            yield read(data)

    async def call(pieces: AsyncIterator[bytes], context: _Context) -> Any:
        async with calls(context):
            return await behaviour(messages(pieces), context)

    return call


@contextmanager
def _traced(method: str, given: Mapping[str, str], call: Call) -> Iterator[None]:
    """A span of the call, within the client's trace if it has one."""
    parent = {name: given[name] for name in _TRACE if name in given}
    with tracing.span(method, parent, kind=SpanKind.SERVER, failing=()) as span:
        span.set_attribute("rpc.system.name", "grpc")
        try:
            yield
        finally:
            span.set_attribute("rpc.response.status_code", call.code)
            if call.code in _OUR_FAULT:
                span.set_status(trace.StatusCode.ERROR)


@asynccontextmanager
async def _answering(context: _Context, request_id: str, call: Call) -> AsyncIterator[None]:
    if not _ACCEPTABLE_ID.fullmatch(request_id):
        request_id = str(ULID())
    await context.send_initial_metadata((("x-request-id", request_id),))
    try:
        with bound_contextvars(request_id=request_id):
            yield
    except ServiceError as error:
        if isinstance(error, Unavailable | StoreError):
            logger.warning("request %s: %s", request_id, error)
        await _abort(context, status_of(error, request_id), call)
    except (grpc.aio.AbortError, asyncio.CancelledError, GeneratorExit):
        call.code = StatusCode.CANCELLED.name
        raise
    except Exception:
        logger.exception("request %s failed", request_id)
        await _abort(context, internal_status(request_id), call)


def _read(deserialize: _Read, data: bytes) -> Message:
    try:
        request = deserialize(data)
    except DecodeError as error:
        raise MalformedRequest(f"the request is no message of its type: {error}") from None
    _refuse_unknown_fields(request)
    return request


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
    for _, value in request.ListFields():
        for each in _messages_in(value):
            _refuse_unknown_fields(each)


def _messages_in(value: Any) -> Iterator[Message]:
    """The messages that the value of a field is made of: itself, a list's or a map's."""
    values = value.values() if isinstance(value, MutableMapping) else value
    if isinstance(value, Message):
        yield value
    elif not isinstance(value, str | bytes) and isinstance(values, Iterable):
        yield from (each for each in values if isinstance(each, Message))


async def _abort(context: _Context, status: Any, call: Call) -> None:
    rich = rpc_status.to_status(status)
    call.code = rich.code.name
    await context.abort(rich.code, rich.details, rich.trailing_metadata)
