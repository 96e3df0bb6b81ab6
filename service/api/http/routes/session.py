"""Sign in on the page: a key given once comes back as a cookie, with every tile and event stream.

Programs have no use for it: they send their key in the `Authorization` header.
"""

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.api.http.edge.access import SESSION_COOKIE, session_token
from service.api.http.views.state_views import SessionView
from service.application.access import Access
from service.domain.errors import Unauthenticated

router = APIRouter(prefix="/session", include_in_schema=False)

_bearer = HTTPBearer(auto_error=False)


async def _access(request: Request) -> Access | None:
    return cast("Access | None", request.app.state.access)


AccessDep = Annotated[Access | None, Depends(_access)]
BearerDep = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


@router.get("")
def get_session(request: Request, access: AccessDep) -> SessionView:
    """Tell whether the service asks for keys, and whose key the browser has sent."""
    if access is None:
        return SessionView(asks_for_key=False, tenant=None)
    try:
        return SessionView(
            asks_for_key=True, tenant=access.holder(session_token(request, changing=False)).tenant
        )
    except Unauthenticated:
        return SessionView(asks_for_key=True, tenant=None)


@router.post("", status_code=204)
def create_session(request: Request, access: AccessDep, given: BearerDep) -> Response:
    """Keep the key of the `Authorization` header in a cookie, until the browser is closed."""
    response = Response(status_code=204)
    if access is not None:
        token = given.credentials if given else None
        access.holder(token)
        response.set_cookie(
            SESSION_COOKIE,
            token or "",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
    return response


@router.delete("", status_code=204)
def delete_session() -> Response:
    """Forget the key."""
    response = Response(status_code=204)
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
    return response
