"""Every error that the documents name is provoked through both interfaces, and no other appears."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from grpc_status import rpc_status
from pydantic import SecretStr

from service.api.http.errors.problems import PROBLEM_TYPES
from service.domain.errors import ServiceError
from service.settings import StoreSettings
from service.storage.key_file import KeyFile
from tests.faulty_s3 import FaultyS3
from tests.s3_server import ACCESS_KEY_ID, SECRET_ACCESS_KEY, s3_server
from tests.servers import redis_server
from tests.service.api.provocations import PROVOCATIONS, Provocation, Scene
from tests.service.api.stack import running_stack

DOCS = Path(__file__).parents[3] / "docs" / "api"
PROBLEMS, GRPC = ((DOCS / name).read_text(encoding="utf-8") for name in ("problems.md", "grpc.md"))


@dataclass(frozen=True)
class Documented:
    """What the documents say of one type."""

    status: int
    text: str
    code: str | None
    reason: str | None

    @property
    def headers(self) -> set[str]:
        """The headers that the text speaks of."""
        return {name.lower() for name in re.findall(r"[Tt]he ([\w-]+) header", self.text)}


def _documented() -> dict[str, Documented]:
    sections = dict(re.findall(r"^## `/problems/([a-z-]+)`\n\n(.+)$", PROBLEMS, re.MULTILINE))
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \| (.+) \|$", PROBLEMS, re.MULTILINE)
    assert [slug for slug, _, _ in rows] == [*sections]
    found = {}
    for slug, status, remark in rows:
        assert sections[slug].startswith(f"{status}. ")
        code, reason = re.match(r"(?:`(\w+)`)?(?:, reason `(\w+)`)?", remark).groups()  # type: ignore[union-attr]
        itself = code is None or "by gRPC itself" in remark
        named = None if itself else reason or slug.upper().replace("-", "_")
        found[slug] = Documented(int(status), sections[slug], code, named)
    return found


DOCUMENTED = _documented()
WITH_TWIN = [each for each in PROVOCATIONS if each.call]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("errors")
    with (
        redis_server(folder, append_only=True) as server,
        s3_server() as s3,
        FaultyS3(s3.endpoint).running() as faulty,
    ):
        s3.create_bucket("pictures")
        settings = StoreSettings(
            url="s3://pictures",
            endpoint=faulty.endpoint,
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SecretStr(SECRET_ACCESS_KEY),
        )
        keys = KeyFile(folder / "keys.json")
        with running_stack(server.url, settings, keys) as stack:
            yield Scene(stack, server, faulty, keys)


@pytest.mark.parametrize("provocation", PROVOCATIONS, ids=lambda each: each.name)
def test_over_http(scene: Scene, provocation: Provocation) -> None:
    documented = DOCUMENTED[provocation.slug]
    with provocation.during(scene):
        response = provocation.ask(scene)

    assert response.status_code == documented.status, response.text
    for header in documented.headers:
        assert response.headers[header]
    assert ("retry-after" in response.headers) == ("retry-after" in documented.headers)
    assert int(response.headers.get("retry-after", "1")) >= 1
    if provocation.code:
        assert response.json()["error"]["code"] == provocation.code
    else:
        _check_problem(response, provocation)
    _check_described(scene, response)


def _check_described(scene: Scene, response: httpx.Response) -> None:
    """Whatever the service answers, its OpenAPI document has; all but what should not happen."""
    path, method = response.request.url.path, response.request.method.lower()
    for template, operations in scene.ask("GET", "/openapi.json").json()["paths"].items():
        pattern = re.sub(r"\{\w+\}", "[^/]+", template)
        if (
            re.fullmatch(pattern, path)
            and method in operations
            and response.status_code not in (421, 500)
        ):
            assert str(response.status_code) in operations[method]["responses"]


def _check_problem(response: httpx.Response, provocation: Provocation) -> None:
    kind = next(each for each in PROBLEM_TYPES if each.slug == provocation.slug)
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    violations = problem.pop("errors", None)
    assert problem.pop("detail")
    assert problem == {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": response.status_code,
        "instance": response.request.url.path,
        "reason": kind.slug.upper().replace("-", "_"),
        "request_id": response.headers["x-request-id"],
    }
    fields = [violation["field"] for violation in violations or ()]
    assert fields == [field for field in provocation.field[:1] if field]


@pytest.mark.parametrize("provocation", WITH_TWIN, ids=lambda each: each.name)
def test_over_grpc(scene: Scene, provocation: Provocation) -> None:
    documented = DOCUMENTED[provocation.slug]
    assert provocation.call
    with provocation.during(scene), pytest.raises(grpc.RpcError) as caught:
        provocation.call(scene)

    assert caught.value.code().name == documented.code, caught.value
    status = rpc_status.from_call(caught.value)
    if documented.reason is None:
        assert status is None
        return
    assert status is not None
    assert status.message
    details = {type(each): each for each in _unpacked(status.details)}
    info, request = details.pop(ErrorInfo), details.pop(RequestInfo)
    assert (info.reason, info.domain) == (documented.reason, "hidiffusion")
    assert request.request_id in dict(caught.value.initial_metadata()).values()
    if "retry-after" in documented.headers:
        assert details.pop(RetryInfo).retry_delay.seconds >= 1
    if provocation.field[1]:
        (violation,) = details.pop(BadRequest).field_violations
        assert violation.field == provocation.field[1]
        assert violation.description
    assert not details


def _unpacked(details: object) -> Iterator[Message]:
    for packed in details:  # type: ignore[attr-defined]
        for kind in (ErrorInfo, RequestInfo, RetryInfo, BadRequest):
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                yield message


def test_every_documented_type_is_provoked_and_every_type_documented() -> None:
    provoked = {each.slug for each in PROVOCATIONS}
    known = {kind.slug: kind.status for kind in PROBLEM_TYPES}

    assert {slug: each.status for slug, each in DOCUMENTED.items()} == known
    assert provoked == set(known)
    assert {each.slug for each in WITH_TWIN} == {
        slug for slug, each in DOCUMENTED.items() if each.code
    }


def test_every_error_of_the_domain_has_a_documented_reason() -> None:
    reasons = {slug.upper().replace("-", "_") for slug in DOCUMENTED}

    assert {kind.reason for kind in _below(ServiceError)} <= reasons


def test_both_documents_tell_the_same_of_grpc() -> None:
    errors = GRPC.partition("## Errors")[2].partition("## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.*)\|$", errors, re.MULTILINE)
    told = {(code, reason) for code, reasons, _ in rows for reason in re.findall(r"\w+", reasons)}

    assert told == {(each.code, each.reason) for each in DOCUMENTED.values() if each.reason}


def _below(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield kind
    for derived in kind.__subclasses__():
        yield from _below(derived)
