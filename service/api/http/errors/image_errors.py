"""Errors as OpenAI's clients expect them: `{"error": {...}}`, and whether to try again."""

from service.api.http.errors.problems import ProblemType, Violation, problem_of
from service.api.http.views.image_schemas import CLIENT_FIELDS, ImageError, ImageErrorBody
from service.domain.errors import (
    Conflict,
    GenerationCancelled,
    GenerationFailed,
    ServiceError,
    StorageFull,
    StoreError,
    WaitedTooLong,
)
from service.domain.generations.generation import Generation, Status

#: Everything below this path answers errors in this form.
PREFIX = "/v1/images/"

#: OpenAI answers every broken rule with 400; its clients tell that error from others by it.
_STATUS = {422: 400}
#: The reason of a picture that the operator's checker blocked.
_FILTERED = "CONTENT_FILTERED"
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def refuse_unfinished(generation: Generation, seconds: float) -> None:
    """Return when `generation` has succeeded.

    Raises:
        GenerationFailed: it failed.
        GenerationCancelled: somebody cancelled it.
        WaitedTooLong: it is not final after `seconds`.
    """
    if generation.error is not None:
        error = generation.error
        raise GenerationFailed(error.detail, error.reason, retryable=error.retryable)
    if generation.status is Status.CANCELLED:
        raise GenerationCancelled(generation.id)
    if not generation.status.final:
        raise WaitedTooLong(generation.id, seconds)


def may_retry(error: ServiceError) -> bool | None:
    """Whether OpenAI's clients are to repeat the request; None: as their own rules say.

    By themselves they repeat it on 408, 409, 429 and 5xx, twice.
    """
    match error:
        case GenerationFailed():
            return error.retryable
        case Conflict() | WaitedTooLong() | StorageFull() | StoreError():
            return False
        case _:
            return None


def image_error(
    kind: ProblemType, detail: str, violations: list[Violation] | None, code: str | None
) -> tuple[int, ImageError]:
    """Status and body of an error of this kind."""
    if code == _FILTERED:
        blocked = ImageErrorBody(
            message=detail,
            type="image_generation_user_error",
            param=None,
            code="moderation_blocked",
        )
        return 400, ImageError(error=blocked)
    status = _STATUS.get(kind.status, kind.status)
    default = "server_error" if status >= 500 else "invalid_request_error"
    field = violations[0].field if violations else None
    body = ImageErrorBody(
        message=detail,
        type=_TYPES.get(status, default),
        param=CLIENT_FIELDS.get(field, field) if field else None,
        code=(code or kind.reason).lower(),
    )
    return status, ImageError(error=body)


def streamed_error(error: ServiceError) -> ImageError:
    """The body of an error that comes after the answer has begun."""
    return image_error(problem_of(error), error.public_detail, None, code_of(error))[1]


def code_of(error: ServiceError) -> str | None:
    """The code of an error where it says more than its kind."""
    return error.code if isinstance(error, GenerationFailed) else None
