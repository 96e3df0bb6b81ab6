"""Run both front ends in one event loop, and stop them together without dropping anybody."""

import asyncio
import contextlib
import dataclasses
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

from service.api.grpc.server import GrpcServer
from service.api.http.app import create_app
from service.api.http.edge.access import lanes_of
from service.api.http.edge.connections import limited_http
from service.api.listening import BACKLOG, http_limits, listen
from service.api.metrics import ApiMetrics
from service.api.picture_work import PictureWork
from service.api.tls import Certificates
from service.api.turns import Turns
from service.application.access import Access
from service.application.use_cases import UseCases
from service.health import answering
from service.settings import ApiSettings

logger = logging.getLogger(__name__)

#: Time that requests in progress get when the service stops.
GRACE_SECONDS = 10

#: Threads for what gRPC methods wait for, Redis and the store; as many as HTTP has (anyio's own).
THREADS = 40

#: An event loop that has not come to its next task after this long serves nobody.
LOOP_SECONDS = 3.0

#: What Python's collector waits for: objects made and not freed again before it looks at the
#: youngest, looks at these before it looks at the middle-aged, and at those before it looks at all,
#: which stops the loop for a microsecond or half of one for each. A stream has 450 objects; by
#: Python's own numbers a thousand of them that open are looked at a dozen times over.
_COLLECT_AFTER = (5_000, 10, 40)


@dataclass(frozen=True)
class Endpoints:
    """Where the front ends listen, once they do."""

    http_url: str
    grpc_address: str


async def serve(
    settings: ApiSettings,
    use_cases: UseCases,
    on_ready: Callable[[Endpoints], None] | None = None,
    access: Access | None = None,
) -> None:
    """Serve HTTP and gRPC until SIGTERM or SIGINT, then leave.

    After SIGTERM it tells that it is unready and serves on for `settings.drain_seconds`, while
    balancers learn to send nothing more; then streams end, and with them the service. SIGINT, or
    a second signal, goes there at once.

    Args:
        settings: addresses, ports and limits.
        use_cases: what both front ends call.
        on_ready: called once both accept connections.
        access: decides who may call; None: everybody may do everything.

    Raises:
        OSError: a port is taken.
        ValueError: the certificate, its key or the clients' authority is no good.
    """
    leaving, at_once = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        if leaving.is_set() or number is signal.SIGINT:
            at_once.set()
        leaving.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    async with front_ends(settings, use_cases, access, leaving) as endpoints:
        _calm_the_collector()
        with answering("api", lambda: _trouble(loop)):
            logger.info("serving HTTP at %s, gRPC at %s", *dataclasses.astuple(endpoints))
            if on_ready is not None:
                on_ready(endpoints)
            await leaving.wait()
            logger.info("unready; serving on for up to %g s", settings.drain_seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.drain_seconds):
                    await at_once.wait()
            logger.info("stopping")


def _calm_the_collector() -> None:
    """Have Python's collector of cycles leave alone what is there now, and look at all seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def _trouble(loop: asyncio.AbstractEventLoop) -> str:
    """What is wrong with the loop that serves, asked from another thread."""
    try:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(LOOP_SECONDS)
    except TimeoutError:
        return f"the event loop has been busy for {LOOP_SECONDS:g} s"
    return ""


@contextlib.asynccontextmanager
async def front_ends(
    settings: ApiSettings,
    use_cases: UseCases,
    access: Access | None = None,
    leaving: asyncio.Event | None = None,
) -> AsyncIterator[Endpoints]:
    """Both front ends, accepting connections for the length of the block.

    With `leaving` set they do so too, and tell everybody to ask elsewhere.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "api"))
    leaving, stopping = leaving or asyncio.Event(), asyncio.Event()
    with listen(settings.host, settings.http_port) as listener:
        metrics = ApiMetrics(use_cases.query)
        certificates = Certificates.of(settings)
        pictures = PictureWork()
        turns = Turns()
        grpc_server = GrpcServer(
            use_cases,
            settings,
            stopping,
            access=access,
            metrics=metrics,
            certificates=certificates,
            pictures=pictures,
            turns=turns,
        )
        settings = settings.model_copy(update={"grpc_port": grpc_server.port})
        app = create_app(
            use_cases,
            settings,
            stopping,
            leaving=leaving,
            access=access,
            metrics=metrics,
            pictures=pictures,
        )
        http_server = _http_server(app, settings, certificates, turns, access)
        await grpc_server.start()
        http_task = asyncio.create_task(http_server.serve(sockets=[listener]))
        farewell = asyncio.create_task(_leave(leaving, grpc_server))
        try:
            while not http_server.started and not http_task.done():
                await asyncio.sleep(0.01)
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            http_port = listener.getsockname()[1]
            scheme = "http" if certificates is None else "https"
            yield Endpoints(f"{scheme}://{host}:{http_port}", f"{host}:{grpc_server.port}")
        finally:
            leaving.set()
            stopping.set()
            http_server.should_exit = True
            await farewell
            await asyncio.gather(grpc_server.stop(GRACE_SECONDS), http_task)
            pictures.close()


async def _leave(leaving: asyncio.Event, grpc_server: GrpcServer) -> None:
    await leaving.wait()
    await grpc_server.leave()


class _HttpServer(uvicorn.Server):
    """Leaves signals to `serve`, which stops both front ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


def _http_server(
    app: FastAPI,
    settings: ApiSettings,
    certificates: Certificates | None,
    turns: Turns,
    access: Access | None,
) -> uvicorn.Server:
    limits = http_limits(settings)
    config = uvicorn.Config(
        app,
        http=limited_http(limits, turns, lanes_of(access, limits.uncounted)),
        forwarded_allow_ips=list(settings.trusted_proxies),
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,  # uvicorn listens once more, with its own number
        timeout_graceful_shutdown=GRACE_SECONDS,
        ssl_context_factory=None
        if certificates is None
        else lambda _config, _default: certificates.http_context(),
    )
    return _HttpServer(config)
