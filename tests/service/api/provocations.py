"""How to provoke each documented error, over HTTP and, where it is known there, over gRPC."""

import base64
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import redis

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from service.application.access import new_key
from service.domain.access import KeyLimits, Scope
from service.domain.requests.request_examples import EXAMPLE_PICTURE
from service.storage.key_file import KeyFile
from tests.faulty_s3 import Fault, FaultyS3
from tests.servers import RedisServer
from tests.service.api.stack import MAX_BODY_BYTES, Stack

_METHODS = "/hidiffusion_api.v1.GenerationService/"
_PROMPT = {"prompt": "a red guitar"}
_GENERATIONS = "/v1/generations"
_IMAGES = "/v1/images/generations"
_NOBODY = "0" * 26
_PICTURE = base64.b64decode(EXAMPLE_PICTURE.partition(",")[2])


class Scene:
    """A service whose Redis and store can fail, its keys, and generations in several states."""

    def __init__(self, stack: Stack, server: RedisServer, store: FaultyS3, keys: KeyFile) -> None:
        self.stack, self.server, self.store = stack, server, store
        self._keys = keys
        both = (Scope.READ, Scope.WRITE)
        self.owner = self._token("acme", both)
        self.reader = self._token("acme", (Scope.READ,))
        self.hasty = self._token("hasty", both, KeyLimits(requests_per_minute=1))
        self.hoarder = self._token("hoarder", both, KeyLimits(stored_megabytes=0.001))
        self.queued, self.running = self.accept(self.owner), self.accept(self.owner)
        stack.worker.start(self.running)
        self.finished, self.damaged, self.foreign = (self.accept(self.owner) for _ in range(3))
        stored = self.accept(self.hoarder)
        self.accept(self.hasty)
        for generation_id in (self.finished, stored):
            stack.worker.run(generation_id)
        client, prefix = stack.records.redis, "hidiffusion:generation:"
        client.set(prefix + self.damaged, "{secret")
        client.hset(prefix + self.foreign, "schema", "999")

    def _token(
        self, tenant: str, scopes: tuple[Scope, ...], limits: KeyLimits | None = None
    ) -> str:
        key, token = new_key(tenant, scopes, datetime.now(UTC), limits=limits)
        self._keys.add(key)
        return token

    def accept(self, token: str) -> str:
        """The id of a generation that is accepted for the key."""
        generation_id: str = self.post(token).json()["id"]
        return generation_id

    def ask(self, method: str, path: str, token: str | None = "", **more: Any) -> httpx.Response:
        """Ask over HTTP, with the owner's key unless another is given, or None."""
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["authorization"] = f"Bearer {token or self.owner}"
        return self.stack.http.request(method, path, headers=headers, **more)

    def post(self, token: str | None = "", **fields: Any) -> httpx.Response:
        """Ask for a picture."""
        return self.ask("POST", _GENERATIONS, token, json=_PROMPT | fields)

    def call(self, name: str, request: Any, token: str | None = "") -> None:
        """Call a method of the gRPC interface, to its end."""
        metadata = [] if token is None else [("authorization", f"Bearer {token or self.owner}")]
        answer = getattr(self.stack.stub, name)(request, metadata=metadata, timeout=30)
        if hasattr(answer, "__next__"):
            list(answer)

    def create(self, token: str | None = "", **fields: Any) -> None:
        """Ask for a picture over gRPC."""
        self.call("CreateGeneration", rpc.CreateGenerationRequest(**_PROMPT | fields), token)

    def call_raw(self, name: str, data: bytes) -> None:
        """Call a method with bytes that need not be a message."""
        metadata = [("authorization", f"Bearer {self.owner}")]
        self.stack.channel.unary_unary(_METHODS + name)(data, metadata=metadata, timeout=30)


@dataclass(frozen=True)
class Provocation:
    """One way to an error.

    Attributes:
        slug: the type documented for it.
        way: tells it from other ways to the same type.
        ask: provokes it over HTTP.
        call: provokes it over gRPC; None where only HTTP has it.
        field: what the answer names as wrong, over HTTP and over gRPC.
        code: `error.code` of answers in the form of OpenAI's.
        during: what is broken meanwhile.
    """

    slug: str
    ask: Callable[[Scene], httpx.Response]
    call: Callable[[Scene], None] | None = None
    way: str = ""
    field: tuple[str | None, str | None] = (None, None)
    code: str = ""
    during: Callable[[Scene], AbstractContextManager[None]] = lambda _: nullcontext()

    @property
    def name(self) -> str:
        """For the test's own name."""
        return f"{self.slug}-{self.way}".rstrip("-")


def _faulty(fault: Fault) -> Callable[[Scene], AbstractContextManager[None]]:
    @contextmanager
    def during(scene: Scene) -> Iterator[None]:
        scene.store.fault = fault
        try:
            yield
        finally:
            scene.store.fault = "none"

    return during


@contextmanager
def _redis_gone(scene: Scene) -> Iterator[None]:
    scene.server.stop()
    try:
        yield
    finally:
        scene.server.start()


@contextmanager
def _redis_full(scene: Scene) -> Iterator[None]:
    with redis.Redis.from_url(scene.server.url) as client:
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


def _repeat_by_http(scene: Scene) -> httpx.Response:
    headers = {"Idempotency-Key": "http"}
    for prompt in ("a fox", "a dog"):
        answer = scene.ask("POST", _GENERATIONS, json={"prompt": prompt}, headers=headers)
    return answer


def _repeat_by_grpc(scene: Scene) -> None:
    for prompt in ("a fox", "a dog"):
        scene.create(prompt=prompt, idempotency_key="grpc")


def _image(scene: Scene, end: Callable[[Scene, str], object]) -> httpx.Response:
    """Ask as OpenAI's clients do, twice, for a generation that ends as `end` says in between."""
    body = {"prompt": "a fox", "size": "512x512"}
    headers = {"Idempotency-Key": end.__name__}
    assert scene.ask("POST", _IMAGES, json=body, headers=headers).status_code == 504
    end(scene, scene.stack.records.list(status=None, cursor=None, limit=1).generations[0].id)
    return scene.ask("POST", _IMAGES, json=body, headers=headers)


def _fail(scene: Scene, generation_id: str) -> None:
    scene.stack.worker.fail(scene.stack.worker.start(generation_id))


def _cancel(scene: Scene, generation_id: str) -> None:
    scene.ask("DELETE", f"{_GENERATIONS}/{generation_id}")


def _image_path(scene: Scene, generation_id: str = "") -> str:
    return f"{_GENERATIONS}/{generation_id or scene.finished}/image"


def _download(scene: Scene, generation_id: str = "", offset: int = 0) -> None:
    request = rpc.DownloadImageRequest(id=generation_id or scene.finished, offset=offset)
    scene.call("DownloadImage", request)


def _upload(scene: Scene) -> None:
    scene.call("UploadImage", iter([rpc.UploadImageRequest(data=_PICTURE)]))


PROVOCATIONS = (
    Provocation(
        "invalid-request",
        lambda scene: scene.post(width=1001),
        lambda scene: scene.create(width=1001),
        field=("width", "width"),
    ),
    Provocation(
        "malformed-request",
        lambda scene: scene.ask(
            "POST", _GENERATIONS, content=b"{", headers={"content-type": "application/json"}
        ),
        lambda scene: scene.call_raw("CreateGeneration", b"\xff"),
    ),
    Provocation(
        "not-found",
        lambda scene: scene.ask("GET", "/v2/pictures"),
        lambda scene: scene.call_raw("PaintPicture", b""),
    ),
    Provocation(
        "generation-not-found",
        lambda scene: scene.ask("GET", f"{_GENERATIONS}/{_NOBODY}"),
        lambda scene: scene.call("GetGeneration", rpc.GetGenerationRequest(id=_NOBODY)),
    ),
    Provocation(
        "artifact-not-found",
        lambda scene: scene.ask("GET", _image_path(scene, scene.queued)),
        lambda scene: _download(scene, scene.queued),
    ),
    Provocation(
        "upload-not-found",
        lambda scene: scene.ask("GET", "/v1/uploads/img_0"),
        lambda scene: scene.call("GetUpload", rpc.GetUploadRequest(id="img_0")),
    ),
    Provocation("method-not-allowed", lambda scene: scene.ask("PUT", "/v1/models")),
    Provocation(
        "unknown-host",
        lambda scene: scene.ask("GET", "/healthz", headers={"host": "rebound.example.com"}),
    ),
    Provocation(
        "conflict",
        lambda scene: scene.ask("DELETE", f"{_GENERATIONS}/{scene.running}?purge=true"),
        lambda scene: scene.call("DeleteGeneration", rpc.DeleteGenerationRequest(id=scene.running)),
    ),
    Provocation(
        "body-too-large",
        lambda scene: scene.post(negative_prompt="x" * MAX_BODY_BYTES),
        lambda scene: scene.create(negative_prompt="x" * MAX_BODY_BYTES),
    ),
    Provocation(
        "unsupported-media-type",
        lambda scene: scene.ask(
            "POST", _GENERATIONS, content=b"{}", headers={"content-type": "text/plain"}
        ),
    ),
    Provocation(
        "range-not-satisfiable",
        lambda scene: scene.ask("GET", _image_path(scene), headers={"range": "bytes=9999999-"}),
        lambda scene: _download(scene, offset=9999999),
        field=(None, "offset"),
    ),
    Provocation(
        "idempotency-key-reused",
        _repeat_by_http,
        _repeat_by_grpc,
        field=(None, "idempotency_key"),
    ),
    Provocation(
        "generation-cancelled",
        lambda scene: _image(scene, _cancel),
        code="generation_cancelled",
    ),
    Provocation("generation-failed", lambda scene: _image(scene, _fail), code="out_of_memory"),
    Provocation(
        "waited-too-long",
        lambda scene: scene.ask("POST", _IMAGES, json={"prompt": "a fox"}),
        code="waited_too_long",
    ),
    Provocation(
        "unauthenticated",
        lambda scene: scene.post(None),
        lambda scene: scene.create(None),
    ),
    Provocation(
        "permission-denied",
        lambda scene: scene.post(scene.reader),
        lambda scene: scene.create(scene.reader),
    ),
    Provocation(
        "rate-limited",
        lambda scene: scene.post(scene.hasty),
        lambda scene: scene.create(scene.hasty),
    ),
    Provocation(
        "storage-full",
        lambda scene: scene.post(scene.hoarder),
        lambda scene: scene.create(scene.hoarder),
    ),
    Provocation("unavailable", Scene.post, Scene.create, way="redis-is-gone", during=_redis_gone),
    Provocation("unavailable", Scene.post, Scene.create, way="redis-is-full", during=_redis_full),
    Provocation(
        "unavailable",
        lambda scene: scene.ask("GET", _image_path(scene)),
        _download,
        way="store-is-overloaded",
        during=_faulty("503"),
    ),
    Provocation(
        "unavailable",
        lambda scene: scene.ask("POST", "/v1/uploads", content=_PICTURE),
        _upload,
        way="store-is-full",
        during=_faulty("full"),
    ),
    Provocation(
        "record-unreadable",
        lambda scene: scene.ask("GET", f"{_GENERATIONS}/{scene.foreign}"),
        lambda scene: scene.call("GetGeneration", rpc.GetGenerationRequest(id=scene.foreign)),
    ),
    Provocation(
        "store-error",
        lambda scene: scene.ask("GET", _image_path(scene)),
        _download,
        during=_faulty("denied"),
    ),
    Provocation(
        "internal",
        lambda scene: scene.ask("GET", f"{_GENERATIONS}/{scene.damaged}"),
        lambda scene: scene.call("GetGeneration", rpc.GetGenerationRequest(id=scene.damaged)),
    ),
)
