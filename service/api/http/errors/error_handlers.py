"""Whatever goes wrong leaves as a problem document."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.utils import is_body_allowed_for_status_code
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from service.api.http import links
from service.api.http.errors import image_errors, problems
from service.api.http.errors.problems import Problem, ProblemType, Violation
from service.api.http.headers import allowance_headers
from service.api.http.views.image_schemas import ImageRequest
from service.application.requests.parse import violations_of
from service.domain.errors import (
    FieldViolation,
    InvalidRequest,
    RateLimited,
    RecordUnreadable,
    ServiceError,
    StoreError,
    Unauthenticated,
    Unavailable,
)
from service.domain.requests.request import GenerationRequest

logger = logging.getLogger(__name__)

_BY_STATUS = {
    kind.status: kind
    for kind in (
        problems.MALFORMED_REQUEST,
        problems.NOT_FOUND,
        problems.METHOD_NOT_ALLOWED,
        problems.BODY_TOO_LARGE,
        problems.RANGE_NOT_SATISFIABLE,
    )
}

#: What servers write into their logs when a client left early; no standard status says so.
_CLIENT_CLOSED_REQUEST = 499

_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of `app` with application/problem+json."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unexpected_error)


async def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    kind = problems.problem_of(error)
    headers = {}
    violations = None
    if (retry := image_errors.may_retry(error)) is not None:
        headers["x-should-retry"] = str(retry).lower()
    if isinstance(error, Unavailable | RecordUnreadable):
        headers["retry-after"] = str(error.retry_after)
        logger.warning("%s %s: %s", request.method, request.url.path, error)
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, RateLimited):
        headers["retry-after"] = str(error.retry_after)
        headers |= allowance_headers(error.allowance)
    if isinstance(error, StoreError):
        logger.error("%s %s: %s", request.method, request.url.path, error)
    if isinstance(error, InvalidRequest):
        violations = [
            Violation(field=v.field, value=v.value, description=v.description)
            for v in error.violations
        ]
    code = image_errors.code_of(error)
    return _respond(request, kind, error.public_detail, headers, violations, code=code)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        detail = f"the body is not valid JSON: {first['ctx']['error']} at byte {first['loc'][-1]}"
        return _respond(request, problems.MALFORMED_REQUEST, detail)
    if first["loc"] == ("body",) and isinstance(first["input"], bytes):
        sent = request.headers.get("content-type", "no content type")
        detail = f"the body was sent as {sent!r}; send application/json"
        return _respond(request, problems.UNSUPPORTED_MEDIA_TYPE, detail)
    known = ImageRequest if request.url.path.startswith(image_errors.PREFIX) else GenerationRequest
    violations = violations_of(list(error.errors()), known)
    if request.url.path.startswith(links.GENERATIONS) and isinstance(error.body, dict):
        violations += await run_in_threadpool(_further_violations, request, error.body)
    return await _on_service_error(request, InvalidRequest(violations))


def _further_violations(request: Request, fields: Mapping[str, Any]) -> list[FieldViolation]:
    """What is wrong besides with a request that cannot be read, for a caller who may ask."""
    use_cases = getattr(request.state, "use_cases", None)
    try:
        return use_cases.submit.further_violations(fields) if use_cases else []
    except ServiceError:
        return []


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if not is_body_allowed_for_status_code(error.status_code):
        return Response(status_code=error.status_code, headers=error.headers)
    kind = _BY_STATUS.get(error.status_code, problems.INTERNAL)
    detail = error.detail
    if kind in (problems.NOT_FOUND, problems.METHOD_NOT_ALLOWED):
        detail = f"{request.method} {request.url.path}: {kind.title[0].lower()}{kind.title[1:]}"
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(_methods(request))
    return _respond(request, kind, detail, headers)


class _Json(JSONResponse):
    """JSON of texts that clients sent, whatever they are made of: surrogates are spelled out."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _methods(request: Request) -> list[str]:
    """Every method of the request's path; its routes know only their own."""
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


async def _on_disconnect(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return Response(status_code=_CLIENT_CLOSED_REQUEST)  # nobody reads it


async def _on_unexpected_error(request: Request, error: Exception) -> Response:
    logger.error("request %s failed", request.state.request_id, exc_info=error)
    headers = {
        "x-should-retry": "false",
        "x-request-id": request.state.request_id,
        "connection": "close",  # uvicorn closes it, and a client that reuses it would be cut off
    }
    detail = "the service failed unexpectedly; the cause is in its log under this request id"
    return _respond(request, problems.INTERNAL, detail, headers)


def _respond(
    request: Request,
    kind: ProblemType,
    detail: str,
    headers: Mapping[str, str] | None = None,
    violations: list[Violation] | None = None,
    *,
    code: str | None = None,
) -> Response:
    if request.url.path.startswith(image_errors.PREFIX):
        status, body = image_errors.image_error(kind, detail, violations, code)
        return _Json(body.model_dump(), status, headers=dict(headers or {}))
    problem = Problem(
        type=kind.uri,
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=request.url.path,
        reason=kind.reason,
        request_id=request.state.request_id,
        errors=violations,
    )
    content: dict[str, Any] = problem.model_dump(exclude_none=True)
    return _Json(
        content, kind.status, headers=dict(headers or {}), media_type="application/problem+json"
    )
