"""Refuse query parameters that a route does not know: they would be ignored in silence."""

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from service.application.requests.parse import shortened
from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.requests.field_names import did_you_mean


async def only_known_query(request: Request) -> None:
    """Return when the route of `request` knows each of its query parameters.

    Raises:
        InvalidRequest: naming those that it does not know.
    """
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    known = [*_parameters(route.dependant)]
    violations = [
        FieldViolation(name, shortened(value), _rule(name, known))
        for name, value in request.query_params.items()
        if name not in known
    ]
    if violations:
        raise InvalidRequest(violations)


def _parameters(dependant: Dependant) -> Iterator[str]:
    """The query parameters of a route, and of all that it depends on."""
    yield from (field.alias for field in dependant.query_params)
    for each in dependant.dependencies:
        yield from _parameters(each)


def _rule(name: str, known: list[str]) -> str:
    advice = did_you_mean(name, known)
    listed = f"known here are {', '.join(known)}" if known else "none is known here"
    return "; ".join(filter(None, ("this query parameter is unknown", advice, listed)))
