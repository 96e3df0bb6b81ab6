"""Keys and tenants: every route and every method, asked by everybody who might ask."""

import base64
import concurrent.futures
import re
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import pytest
import redis
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from typer.testing import CliRunner

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from service.application.access import new_key
from service.cli.app import app
from service.domain.access import KeyLimits, Scope
from service.domain.generations.generation import Status
from service.domain.requests.request_examples import EXAMPLE_PICTURE
from service.settings import StoreSettings
from service.storage.key_file import KeyFile
from tests.servers import RedisServer
from tests.service.api.http.pictures.test_uploads import picture, url
from tests.service.api.played_worker import IMAGE
from tests.service.api.stack import Stack, running_stack

#: One known value for each parameter of a path; the id comes from the test.
PARAMETERS = {
    "step": "2",
    "level": "9",
    "column": "0",
    "row": "0",
    "extension": "png",
    "slug": "not-found",
    "region": "full",
    "size": "max",
    "rotation": "0",
    "quality": "default",
    "upload_id": "img_0",
    "model": "tiny",
}
READING = {"get", "head"}
PICTURE = base64.b64decode(EXAMPLE_PICTURE.partition(",")[2])
SERVICE = rpc.DESCRIPTOR.services_by_name["GenerationService"]


class Service:
    """A service that asks for keys, and a key of every kind."""

    def __init__(self, stack: Stack, keys: KeyFile) -> None:
        self.stack, self.keys = stack, keys
        both = (Scope.READ, Scope.WRITE)
        past = datetime.now(UTC) - timedelta(seconds=1)
        self.owner = self.token("acme", both)
        self.colleague = self.token("acme", both)
        self.reader = self.token("acme", (Scope.READ,))
        self.writer = self.token("acme", (Scope.WRITE,))
        self.operator = self.token("acme", (Scope.ADMIN,))
        self.stranger = self.token("globex", both)
        self.expired = self.token("acme", both, expires_at=past)
        self.revoked = self.token("acme", both)
        keys.remove(self.revoked.split("_")[1])

    def token(self, tenant: str, scopes: tuple[Scope, ...], **more: Any) -> str:
        key, token = new_key(tenant, scopes, datetime.now(UTC), **more)
        self.keys.add(key)
        return token

    def http(self, token: str | None) -> httpx.Client:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        url = self.stack.endpoints.http_url
        return httpx.Client(base_url=url, headers=headers, timeout=20, verify=False)

    def post(self, token: str | None, **headers: str) -> httpx.Response:
        with self.http(token) as client:
            return client.post("/v1/generations", json={"prompt": "a fox"}, headers=headers)

    def finished(self) -> str:
        """A generation of the owner's, done."""
        generation_id: str = self.post(self.owner).json()["id"]
        self.stack.worker.run(generation_id)
        return generation_id

    def strangers(self) -> list[str | None]:
        """Tokens that are no good for anything."""
        key_id = self.owner.split("_")[1]
        return [None, "", "hd", "sk-1", f"hd_{key_id}_", f"hd_{key_id}_{'A' * 43}",
                self.owner[:-1], self.owner.upper(), self.expired, self.revoked]  # fmt: skip


@pytest.fixture(scope="module")
def shared_service(
    shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("tenants")
    (folder / "store").mkdir()
    keys = KeyFile(folder / "keys.json")
    settings = StoreSettings(url=(folder / "store").as_uri())
    with running_stack(shared_redis.url, settings, keys) as stack:
        yield Service(stack, keys)


@pytest.fixture
def service(shared_service: Service, shared_redis: RedisServer) -> Service:
    with closing(redis.Redis.from_url(shared_redis.url)) as client:
        client.flushall()
    return shared_service


def _operations(service: Service) -> list[tuple[str, str, bool]]:
    """Method, path and whether a key is asked for, of all that the OpenAPI document has."""
    with service.http(None) as client:
        document = client.get("/openapi.json").json()
    return [
        (method, path, "security" in operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def _filled(path: str, generation_id: str) -> str:
    known = PARAMETERS | {"generation_id": generation_id}
    return re.sub(r"\{(\w+)\}", lambda found: known[found[1]], path)


def _ask(
    service: Service, token: str | None, method: str, path: str, generation_id: str
) -> httpx.Response:
    body = {"prompt": "a fox"} if method == "post" and "{" not in path else None
    if path.startswith("/v1/images/"):
        body = {"prompt": "a fox", "size": "1x1"}
    with service.http(token) as client:
        return client.request(method.upper(), _filled(path, generation_id), json=body)


def test_only_what_tells_nothing_of_anybody_is_open(service: Service) -> None:
    opened = {path for _, path, asks in _operations(service) if not asks}

    assert opened <= {"/healthz", "/readyz", "/metrics", "/problems/{slug}"}
    assert {"/healthz", "/readyz"} <= opened


def test_every_route_refuses_who_has_no_good_key(service: Service) -> None:
    generation_id = service.finished()

    for method, path, asks in _operations(service):
        for token in service.strangers() if path == "/v1/generations/{generation_id}" else [None]:
            if asks:
                response = _ask(service, token, method, path, generation_id)
                assert response.status_code == 401, (method, path, token)
                assert response.headers["www-authenticate"] == "Bearer"
                assert "hd_" not in response.text.replace("hd_...", "")


def test_every_route_asks_for_its_scope(service: Service) -> None:
    generation_id = service.finished()

    for method, path, asks in _operations(service):
        lacking = service.writer if method in READING else service.reader
        for token in (lacking, service.operator):
            if asks:
                response = _ask(service, token, method, path, generation_id)
                assert response.status_code == 403, (method, path)


def test_every_route_hides_the_work_of_others(service: Service) -> None:
    generation_id = service.finished()
    nobody = "0" * 26

    for method, path, asks in _operations(service):
        if not asks or "{generation_id}" not in path:
            continue
        mine = _ask(service, service.colleague, method, path, generation_id)
        assert mine.status_code < 400, (method, path, mine.text)
        theirs = _ask(service, service.stranger, method, path, generation_id)
        never = _ask(service, service.stranger, method, path, nobody)
        assert theirs.status_code == never.status_code == 404, (method, path)
        known, unknown = theirs.json(), never.json()
        del known["request_id"], unknown["request_id"]
        assert str(known).replace(generation_id, nobody) == str(unknown)


def test_an_upload_is_seen_and_used_by_its_tenant_alone(service: Service) -> None:
    with service.http(service.owner) as client:
        upload_id = client.post("/v1/uploads", content=PICTURE).json()["id"]

    def answers(token: str, upload: str) -> list[str]:
        with service.http(token) as client:
            asked = {"prompt": "a fox", "image": upload}
            said = (
                client.get(f"/v1/uploads/{upload}"),
                client.post("/v1/generations", json=asked),
                client.delete(f"/v1/uploads/{upload}"),
            )
        return [
            re.sub(r'"request_id": ?"\w+"', "", f"{each.status_code} {each.text}") for each in said
        ]

    theirs, never = answers(service.stranger, upload_id), answers(service.stranger, "img_0")
    assert [text.replace(upload_id, "img_0") for text in theirs] == never
    assert [text[:3] for text in theirs] == ["404", "422", "404"]
    assert [text[:3] for text in answers(service.colleague, upload_id)] == ["200", "202", "204"]


def test_lists_are_the_tenants_own_in_every_status(service: Service) -> None:
    generation_id = service.finished()
    waiting = service.post(service.owner).json()["id"]

    with service.http(service.stranger) as client:
        for query in ("", "?status=queued", "?status=succeeded"):
            assert client.get(f"/v1/generations{query}").json()["generations"] == []
    with service.http(service.colleague) as client:
        for query, ids in (
            ("", [waiting, generation_id]),
            ("?status=queued", [waiting]),
            ("?status=succeeded", [generation_id]),
            ("?status=running", []),
        ):
            found = client.get(f"/v1/generations{query}").json()["generations"]
            assert [each["id"] for each in found] == ids


def test_idempotency_keys_are_the_tenants_own(service: Service) -> None:
    first = service.post(service.owner, **{"idempotency-key": "k"}).json()["id"]
    again = service.post(service.colleague, **{"idempotency-key": "k"}).json()["id"]
    other = service.post(service.stranger, **{"idempotency-key": "k"}).json()["id"]

    assert first == again != other


def test_a_stranger_cannot_purge(service: Service) -> None:
    generation_id = service.finished()

    with service.http(service.stranger) as client:
        assert client.delete(f"/v1/generations/{generation_id}?purge=true").status_code == 404
    with service.http(service.owner) as client:
        assert client.get(f"/v1/generations/{generation_id}/image").content == IMAGE
        assert client.delete(f"/v1/generations/{generation_id}?purge=true").status_code == 204
        assert client.get("/v1/generations").json()["generations"] == []


def _call(service: Service, token: str | None, name: str, generation_id: str) -> grpc.StatusCode:
    """The status that a method of the descriptor ends with."""
    method = SERVICE.methods_by_name[name]
    request = getattr(rpc, method.input_type.name)()
    if "id" in method.input_type.fields_by_name:
        request.id = generation_id
    if name == "BatchCreateGenerations":
        request.request.prompt, request.n = "a fox", 2
    if name == "UploadImage":
        request.data = PICTURE
    if name == "CreateGeneration":
        request.prompt = "a fox"
    metadata = [("authorization", f"Bearer {token}")] if token else []
    stub = getattr(service.stack.stub, name)
    try:
        sent = iter([request]) if method.client_streaming else request
        answer = stub(sent, metadata=metadata, timeout=20)
        if hasattr(answer, "__next__"):
            list(answer)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


@pytest.mark.parametrize("name", SERVICE.methods_by_name)
def test_every_method_over_every_role(service: Service, name: str) -> None:
    generation_id = service.finished()
    if name.endswith("Upload"):
        with service.http(service.owner) as client:
            generation_id = client.post("/v1/uploads", content=PICTURE).json()["id"]
    reads = not name.startswith(("Create", "Batch", "Cancel", "Delete", "Upload"))
    named = "id" in SERVICE.methods_by_name[name].input_type.fields_by_name

    for token in service.strangers():
        assert _call(service, token, name, generation_id) is grpc.StatusCode.UNAUTHENTICATED
    for token in (service.writer if reads else service.reader, service.operator):
        assert _call(service, token, name, generation_id) is grpc.StatusCode.PERMISSION_DENIED
    if named:
        status = _call(service, service.stranger, name, generation_id)
        assert status is grpc.StatusCode.NOT_FOUND
    assert _call(service, service.colleague, name, generation_id) is grpc.StatusCode.OK


def test_a_key_that_only_reads_cancels_nothing_by_leaving(service: Service) -> None:
    generation_id = service.post(service.owner).json()["id"]
    request = rpc.WatchGenerationRequest(id=generation_id, cancel_on_disconnect=True)
    call = service.stack.stub.WatchGeneration(
        request, timeout=20, metadata=(("authorization", f"Bearer {service.reader}"),)
    )
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    with service.http(service.reader) as client:
        path = f"/v1/generations/{generation_id}/events?cancel_on_disconnect=true"
        answer = client.get(path)

    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert answer.status_code == 403
    assert service.stack.records.get(generation_id).status is Status.QUEUED


def test_requests_per_minute_over_both_front_ends(service: Service) -> None:
    limits = KeyLimits(requests_per_minute=3)
    token = service.token("acme", (Scope.READ, Scope.WRITE), limits=limits)

    first = service.post(token)
    assert first.headers["ratelimit-policy"] == '"requests";q=3;w=60'
    assert first.headers["ratelimit"] == '"requests";r=2;t=20'
    assert service.post(token).status_code == 202
    assert _call(service, token, "CreateGeneration", "") is grpc.StatusCode.OK
    refused = service.post(token)

    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert refused.headers["ratelimit"].startswith('"requests";r=0;')
    with service.http(token) as client:
        assert client.get("/v1/generations").status_code == 200  # reading is not counted
    with pytest.raises(grpc.RpcError) as raised:
        service.stack.stub.CreateGeneration(
            rpc.CreateGenerationRequest(prompt="a fox"),
            metadata=[("authorization", f"Bearer {token}")],
        )
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    retry = error_details_pb2.RetryInfo()
    status = rpc_status.from_call(raised.value)
    assert any(detail.Unpack(retry) for detail in status.details)
    assert 1 <= retry.retry_delay.seconds <= 20


def test_unfinished_generations_at_once(service: Service) -> None:
    token = service.token("acme", (Scope.WRITE,), limits=KeyLimits(unfinished=3))

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: service.post(token), range(12)))
    accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]

    assert len(accepted) == 3
    assert {answer.status_code for answer in answers} == {202, 429}
    service.stack.worker.run(accepted[0])
    assert service.post(token).status_code == 202
    assert service.post(token).status_code == 429


def test_a_batch_takes_room_for_all_or_none(service: Service) -> None:
    limits = KeyLimits(unfinished=3, megapixels_per_minute=2.5)
    token = service.token("acme", (Scope.WRITE,), limits=limits)

    def ask(n: int, side: int = 512) -> httpx.Response:
        body = {"prompt": "a fox", "n": n, "width": side, "height": side}
        with service.http(token) as client:
            return client.post("/v1/generations/batch", json=body)

    assert "3 unfinished generations" in ask(4).text
    assert "2.5 megapixels a minute" in ask(3, 1024).text
    assert [ask(2).status_code for _ in range(2)] == [202, 429]
    assert [ask(1).status_code for _ in range(2)] == [202, 429]


def test_megapixels_per_minute(service: Service) -> None:
    limits = KeyLimits(megapixels_per_minute=2.5)
    token = service.token("acme", (Scope.WRITE,), limits=limits)

    def ask(side: int) -> httpx.Response:
        with service.http(token) as client:
            body = {"prompt": "a fox", "width": side, "height": side}
            return client.post("/v1/generations", json=body)

    too_large = ask(2048)
    assert too_large.status_code == 422
    assert "2.5 megapixels a minute" in too_large.text
    assert [ask(1024).status_code for _ in range(3)] == [202, 202, 429]


def test_stored_results_of_a_tenant(service: Service) -> None:
    both = (Scope.READ, Scope.WRITE)
    token = service.token("acme", both, limits=KeyLimits(stored_megabytes=0.5))
    first, second = (service.post(service.colleague).json()["id"] for _ in range(2))
    for generation_id in (first, second):  # 256 kB each
        assert service.post(token).status_code == 202
        service.stack.worker.run(generation_id)
    refused = service.post(token)

    assert refused.status_code == 507
    assert refused.json()["type"] == "/problems/storage-full"
    assert "purge=true" in refused.json()["detail"]
    with pytest.raises(grpc.RpcError) as raised:
        service.stack.stub.CreateGeneration(
            rpc.CreateGenerationRequest(prompt="a fox"),
            metadata=[("authorization", f"Bearer {token}")],
        )
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    url = f"{service.stack.endpoints.http_url}/v1"
    with openai.OpenAI(base_url=url, api_key=token) as client:
        with pytest.raises(openai.InternalServerError) as full:
            client.images.generate(prompt="a fox")
        assert full.value.response.headers["x-should-retry"] == "false"
    assert service.post(service.stranger).status_code == 202
    with service.http(token) as client:
        assert client.delete(f"/v1/generations/{first}?purge=true").status_code == 204
    assert service.post(token).status_code == 202


def test_uploads_count_as_stored(service: Service) -> None:
    limits = KeyLimits(stored_megabytes=0.0001)
    token = service.token("acme", (Scope.READ, Scope.WRITE), limits=limits)
    first, second = picture(300), picture(301)
    with service.http(token) as client:
        kept = client.post("/v1/uploads", content=first).json()["id"]

        refused = client.post("/v1/uploads", content=second)
        assert (refused.status_code, refused.json()["type"]) == (507, "/problems/storage-full")
        assert client.post("/v1/uploads", content=first).status_code == 201  # it is there
        body = {"prompt": "a fox", "image": url(second)}
        assert client.post("/v1/generations", json=body).status_code == 507
        with pytest.raises(grpc.RpcError) as raised:
            service.stack.stub.UploadImage(
                iter([rpc.UploadImageRequest(data=second)]),
                metadata=[("authorization", f"Bearer {token}")],
            )
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with service.http(service.stranger) as other:
            assert other.post("/v1/uploads", content=second).status_code == 201

        assert client.delete(f"/v1/uploads/{kept}").status_code == 204
        assert client.post("/v1/uploads", content=second).status_code == 201


def test_what_expires_gives_its_room_back(service: Service) -> None:
    limits = KeyLimits(stored_megabytes=0.2)
    token = service.token("acme", (Scope.READ, Scope.WRITE), limits=limits)
    with service.http(token) as client:
        body = {"prompt": "a fox", "expires_in_seconds": 1}
        short = client.post("/v1/generations", json=body).json()["id"]
        service.stack.worker.run(short)
        assert service.post(token).status_code == 507
        deadline = time.monotonic() + 20
        while (status := service.post(token).status_code) == 507:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert status == 202
        assert client.get(f"/v1/generations/{short}").status_code == 404


def test_a_repeated_request_takes_no_second_place(service: Service) -> None:
    token = service.token("acme", (Scope.WRITE,), limits=KeyLimits(unfinished=2))

    for _ in range(4):
        assert service.post(token, **{"idempotency-key": "k"}).status_code == 202
    assert service.post(token).status_code == 202
    assert service.post(token).status_code == 429


@pytest.mark.parametrize(
    "limits", [KeyLimits(unfinished=1), KeyLimits(megapixels_per_minute=0.3)], ids=str
)
def test_a_repeated_request_is_answered_where_a_new_one_has_no_room(
    service: Service, limits: KeyLimits
) -> None:
    token = service.token("acme", (Scope.READ, Scope.WRITE), limits=limits)
    first, again = (service.post(token, **{"idempotency-key": "k"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert service.post(token).status_code == 429


def test_only_keys_that_may_ask_for_urgency(service: Service) -> None:
    urgent = service.token("acme", (Scope.READ, Scope.WRITE, Scope.HIGH))
    body = {"prompt": "a fox", "priority": "high"}
    answers = []
    for token in (service.owner, urgent):
        with service.http(token) as http:
            answers.append(http.post("/v1/generations", json=body))
    assert [answer.status_code for answer in answers] == [403, 202]
    assert "'high'" in answers[0].json()["detail"]


def test_reads_per_minute_over_both_front_ends(service: Service) -> None:
    token = service.token("acme", (Scope.READ, Scope.WRITE), limits=KeyLimits(reads_per_minute=2))
    with service.http(token) as http:
        first = http.get("/v1/generations")
        assert first.status_code == 200
        assert first.headers["ratelimit-policy"] == '"reads";q=2;w=60'
        assert _call(service, token, "ListGenerations", "") is grpc.StatusCode.OK
        assert http.get("/v1/generations").status_code == 429
    assert _call(service, token, "ListGenerations", "") is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert service.post(token).status_code == 202


def test_the_openai_package_sends_its_key(service: Service) -> None:
    url = f"{service.stack.endpoints.http_url}/v1"
    with openai.OpenAI(base_url=url, api_key=service.owner, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["emoji"]
    with (
        openai.OpenAI(base_url=url, api_key="sk-none", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as raised,
    ):
        client.images.generate(prompt="a fox")
    assert raised.value.code == "unauthenticated"


def test_only_operators_see_the_workers(service: Service) -> None:
    service.stack.add_worker()
    seen = {}
    for token in (None, service.owner, service.operator):
        with service.http(token) as client:
            seen[token] = client.get("/readyz").json()["workers"]

    assert [len(workers) for workers in seen.values()] == [0, 0, 1]


def test_only_operators_see_the_figures(service: Service) -> None:
    expected = {None: 401, service.owner: 403, service.operator: 200}
    for token, status in expected.items():
        with service.http(token) as client:
            assert client.get("/metrics").status_code == status


def test_keys_by_command(tmp_path: Path) -> None:
    file, run = tmp_path / "keys.json", CliRunner().invoke

    made = run(
        app, ["keys", "create", "acme", "--days", "2", "--requests", "9", "--file", str(file)]
    )
    token = made.output.strip()
    key_id = token.split("_")[1]
    text = file.read_text()

    assert re.fullmatch(r"hd_[a-z2-7]{12}_[\w-]{43}", token)
    assert token.split("_", 2)[2] not in text
    assert file.stat().st_mode & 0o077 == 0
    assert key_id in run(app, ["keys", "list", "--file", str(file)]).output
    assert run(app, ["keys", "revoke", key_id, "--file", str(file)]).exit_code == 0
    assert run(app, ["keys", "revoke", key_id, "--file", str(file)]).exit_code == 1
    assert run(app, ["keys", "create", "Not A Name", "--file", str(file)]).exit_code == 2


def test_a_damaged_or_missing_file_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hidiffusion keys create"):
        KeyFile(tmp_path / "none.json").check()
    (tmp_path / "bad.json").write_text('[{"id": "x"}]')
    with pytest.raises(ValueError, match="damaged"):
        KeyFile(tmp_path / "bad.json").check()
