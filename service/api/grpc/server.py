"""The gRPC server: our service, health checking and reflection on one port, behind a relay."""

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from hidiffusion_api.v1 import generation_service_pb2_grpc
from service.api.grpc.callers import Callers
from service.api.grpc.calls import Registrar
from service.api.grpc.former_names import (
    FORMER_SERVICE_NAME,
    SERVICE_NAME,
    add_former_descriptors,
)
from service.api.grpc.reflection import add_reflection
from service.api.grpc.relay.relay import Relay
from service.api.grpc.servicer import GenerationServicer
from service.api.listening import grpc_limits, listen
from service.api.metrics import ApiMetrics
from service.api.picture_work import PictureWork
from service.api.tls import Certificates
from service.api.turns import Turns
from service.application.access import Access
from service.application.generations.query import Query
from service.application.use_cases import UseCases
from service.domain.errors import ServiceError
from service.settings import ApiSettings

#: How often readiness is looked at, in seconds.
READINESS_SECONDS = 2.0

#: Time for calls that are over to clean up after themselves, once the server has stopped.
CLEAN_UP_SECONDS = 5.0

#: A dead client is noticed within a minute; clients may ping as often as every 10 s.
_KEEP_ALIVE = (
    ("grpc.keepalive_time_ms", 40_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)

#: Streams of one connection, and bytes of metadata.
_LIMITS = (
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 32 * 1024),
)

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class GrpcServer:
    """Serves `use_cases` at `settings.host`; `port` is the one it got.

    Health: the empty name tells that the process lives; the service's name tells that requests can
    be accepted now, as /readyz does over HTTP.

    Args:
        use_cases: what the methods call.
        settings: the address, the longest request, and how many connections.
        stopping: set it to end every stream, so that `stop` need not wait for them.
        access: decides who may call; None: everybody may do everything.
        metrics: what to count with; None: figures of its own.
        certificates: for TLS; None: without.
        pictures: where pictures are worked on; None: in threads of its own.
        turns: whose call is begun next; None: turns of its own.

    Raises:
        OSError: the port is taken.
    """

    def __init__(
        self,
        use_cases: UseCases,
        settings: ApiSettings,
        stopping: asyncio.Event,
        *,
        access: Access | None = None,
        metrics: ApiMetrics | None = None,
        certificates: Certificates | None = None,
        pictures: PictureWork | None = None,
        turns: Turns | None = None,
    ) -> None:
        limits = grpc_limits(settings)
        metrics = metrics or ApiMetrics(use_cases.query)
        callers = Callers(use_cases, access)
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", settings.max_body_bytes),
                *_KEEP_ALIVE,
                *_LIMITS,
            ),
        )
        also_as = {SERVICE_NAME: FORMER_SERVICE_NAME}
        self._registrar = Registrar(self._server, callers, metrics, turns or Turns(), also_as)
        registrar: Any = self._registrar  # in the place of a server
        generation_service_pb2_grpc.add_GenerationServiceServicer_to_server(
            GenerationServicer(
                callers, stopping, settings.max_upload_bytes, pictures or PictureWork()
            ),
            registrar,
        )
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        add_former_descriptors()
        add_reflection(self._server, (SERVICE_NAME, FORMER_SERVICE_NAME, health.SERVICE_NAME))
        listener = listen(settings.host, settings.grpc_port)
        self.port: int = listener.getsockname()[1]
        # Nobody but this user's processes reaches the socket, so it needs no TLS.
        self._folder = tempfile.TemporaryDirectory(prefix="hidiffusion-grpc-")
        path = str(Path(self._folder.name) / "socket")
        self._server.add_insecure_port(f"unix:{path}")
        context = None if certificates is None else certificates.grpc_context()
        self._relay = Relay(listener, path, limits, context, Turns())
        self._query = use_cases.query
        self._readiness: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to serve."""
        await self._set_health(_NOT_SERVING)
        await self._server.start()
        await self._relay.start()
        self._readiness = asyncio.create_task(self._follow_readiness())

    async def leave(self) -> None:
        """Report NOT_SERVING from now on, and serve as before."""
        if self._readiness is not None:
            self._readiness.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._readiness
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_seconds: float) -> None:
        """Report NOT_SERVING, refuse new calls, and end those that outlast the grace."""
        await self.leave()
        self._relay.close()
        await self._server.stop(grace_seconds)
        self._relay.cut()
        self._folder.cleanup()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLEAN_UP_SECONDS):
                await self._registrar.idle()

    async def _follow_readiness(self) -> None:
        while True:
            ready = await asyncio.to_thread(_is_ready, self._query)
            await self._set_health(_SERVING if ready else _NOT_SERVING)
            await asyncio.sleep(READINESS_SECONDS)

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in (SERVICE_NAME, FORMER_SERVICE_NAME):
            await self._health.set(name, status)


def _is_ready(query: Query) -> bool:
    try:
        query.check_ready()
    except ServiceError:
        return False
    return True
