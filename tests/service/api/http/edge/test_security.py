"""What browsers are told: how to treat answers, and who may ask."""

import pytest
from starlette.testclient import TestClient

from service.api.http.app import create_app
from service.settings import ApiSettings
from service.storage.store import open_store
from tests.service.api.stack import Stack, use_cases

PREFLIGHT = {"origin": "https://gallery.example", "access-control-request-method": "POST"}

#: What the openai package for browsers asks to send.
OPENAI = "authorization,content-type,x-stainless-lang,x-stainless-retry-count,x-stainless-timeout"


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/models", "/nothing", "/v1/generations/x"])
def test_every_answer_has_the_headers(stack: Stack, path: str) -> None:
    headers = stack.http.get(path).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"


def test_no_other_origin_may_call_unless_set(stack: Stack) -> None:
    answer = stack.http.options("/v1/generations", headers=PREFLIGHT)

    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


def test_origins_that_are_set_may_call(stack: Stack, redis_url: str) -> None:
    cases, records = use_cases(redis_url, open_store(stack.store_settings))
    settings = ApiSettings(cors_origins=("https://gallery.example",))
    with TestClient(create_app(cases, settings)) as client:
        allowed = client.options("/v1/generations", headers=PREFLIGHT)
        asked = PREFLIGHT | {"access-control-request-headers": OPENAI}
        openai = client.options("/v1/images/generations", headers=asked)
        refused = client.options(
            "/v1/generations", headers=PREFLIGHT | {"origin": "https://other.example"}
        )
    records.redis.close()

    assert allowed.headers["access-control-allow-origin"] == "https://gallery.example"
    assert openai.status_code == 200, openai.text
    assert "access-control-allow-origin" not in refused.headers
