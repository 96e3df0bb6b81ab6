"""Assemble the HTTP application."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from service.api.http import links
from service.api.http.a1111 import routes as a1111
from service.api.http.edge.forms import OVERHEAD_BYTES
from service.api.http.edge.known_query import only_known_query
from service.api.http.edge.middleware import (
    BodyLimit,
    Farewell,
    KnownHost,
    Measure,
    Prefix,
    RequestId,
)
from service.api.http.errors.error_handlers import install_error_handlers
from service.api.http.openapi import install_openapi
from service.api.http.routes import (
    artifacts,
    events,
    generations,
    images,
    models,
    operations,
    problems,
    recipes,
    session,
    uploads,
    web,
)
from service.api.http.routes.iiif import image_api, manifests
from service.api.http.routes.webhooks import describe_webhooks
from service.api.metrics import ApiMetrics
from service.api.picture_work import PictureWork
from service.application.access import Access
from service.application.use_cases import UseCases
from service.settings import ApiSettings

_ROUTES = (
    generations,
    events,
    artifacts,
    images,
    manifests,
    image_api,
    models,
    operations,
    problems,
    recipes,
    session,
    uploads,
    web,
)

#: FastAPI traces requests by itself once `service.tracing` is configured; probes would drown them.
_TRACES: TelemetryConfig = {
    "exclude": lambda scope: scope["path"] in {"/healthz", "/readyz", "/metrics"},
    "operation_spans": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}

#: Headers that pages of other origins may send.
_HEADERS = ("authorization", "idempotency-key", "last-event-id", "prefer", "range")

#: What OpenAI's client adds in a browser.
_OPENAI_HEADERS = (
    *("openai-beta", "openai-organization", "openai-project", "x-client-request-id"),
    *(f"x-stainless-{name}" for name in ("arch", "helper-method", "lang", "os", "package-version")),
    *(f"x-stainless-{name}" for name in ("retry-count", "runtime", "runtime-version", "timeout")),
)

_DESCRIPTION = """\
Ask for a picture, follow it as it is made, and look at it tile by tile.

Every error is a problem document (RFC 9457); its `type` is the address of its explanation.
"""


def create_app(
    use_cases: UseCases,
    settings: ApiSettings,
    stopping: asyncio.Event | None = None,
    *,
    leaving: asyncio.Event | None = None,
    access: Access | None = None,
    metrics: ApiMetrics | None = None,
    pictures: PictureWork | None = None,
) -> FastAPI:
    """The HTTP front end over `use_cases`.

    Args:
        use_cases: what the routes call.
        settings: limits on bodies and waiting.
        stopping: set it to end every event stream, so that the server can shut down.
        leaving: set it to be asked no more: unready, and connections end with their answers.
        access: decides who may call; None: everybody may do everything.
        metrics: what to count with; None: figures of its own.
        pictures: where pictures are worked on; None: in threads of its own.
    """
    metrics = metrics or ApiMetrics(use_cases.query)
    leaving = leaving or asyncio.Event()
    longer = longest_bodies(settings)
    app = FastAPI(
        title="HiDiffusion service",
        version="1.0",
        summary="High-resolution pictures from prompts.",
        description=_DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        middleware=[
            Middleware(Prefix, prefix=links.prefix_of(settings.public_url)),
            Middleware(Farewell, leaving=leaving),
            Middleware(Measure, metrics=metrics),
            *_cross_origin(settings.cors_origins),
            Middleware(RequestId),
            Middleware(KnownHost, allowed=_known_hosts(settings, open_to_all=access is None)),
            Middleware(BodyLimit, max_bytes=settings.max_body_bytes, longer=longer),
        ],
        redirect_slashes=False,
        docs_url=None,  # FastAPI's own pages run scripts of a CDN
        redoc_url=None,
        telemetry=_TRACES,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.use_cases = use_cases
    app.state.access = access
    app.state.metrics = metrics
    app.state.pictures = pictures or PictureWork()
    app.state.settings = settings
    app.state.stopping = stopping or asyncio.Event()
    app.state.leaving = leaving
    for module in _ROUTES:
        app.include_router(module.router, dependencies=[Depends(only_known_query)])
    if settings.a1111_api:
        app.state.a1111_choices = a1111.Choices()
        app.include_router(a1111.router, dependencies=[Depends(only_known_query)])
    describe_webhooks(app.webhooks)
    app.mount("/web", web.page_files)
    install_error_handlers(app)
    install_openapi(app)
    return app


def longest_bodies(settings: ApiSettings) -> dict[str, int]:
    """The paths that take pictures, and the longest body of each: an edit may have a mask too."""
    one = settings.max_upload_bytes
    encoded = 4 * one // 3
    return {
        links.UPLOADS: one + OVERHEAD_BYTES,
        links.EDITS: 2 * one + OVERHEAD_BYTES,
        links.VARIATIONS: one + OVERHEAD_BYTES,
        links.RECIPES: one + OVERHEAD_BYTES,
        "/sdapi/v1/img2img": 2 * encoded + OVERHEAD_BYTES,
        "/sdapi/v1/extra-single-image": encoded + OVERHEAD_BYTES,
        "/sdapi/v1/png-info": encoded + OVERHEAD_BYTES,
    }


def _known_hosts(settings: ApiSettings, *, open_to_all: bool) -> frozenset[str] | None:
    """The names that requests may come for; None: any, since only keys open anything here."""
    if not (open_to_all or settings.allowed_hosts):
        return None
    own = urlsplit(settings.public_url).hostname
    return frozenset({*(name.lower() for name in settings.allowed_hosts), *filter(None, [own])})


def _cross_origin(origins: Sequence[str]) -> list[Middleware]:
    """What lets pages of `origins` call from a browser: nothing, unless some are set."""
    if not origins:
        return []
    allowed = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("DELETE", "GET", "HEAD", "POST"),
        allow_headers=(*_HEADERS, *_OPENAI_HEADERS),
        expose_headers=("etag", "location", "preference-applied", "retry-after", "x-request-id"),
    )
    return [allowed]
