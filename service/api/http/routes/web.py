"""Serve the page that lets people use the service without writing a client."""

from pathlib import Path
from string import Template

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from service.api.http.dependencies import SettingsDep

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parents[2] / "web"

#: The one style that OpenSeadragon 6.1.1 adds to the page by itself.
_VIEWER_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"

#: The page runs nothing but its own scripts. Pictures may come from the store's own address.
_POLICY = (
    f"default-src 'self'; style-src 'self' {_VIEWER_STYLE}; img-src * data:; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {"content-security-policy": _POLICY, "cache-control": "no-cache"}

#: The page's styles, scripts, drawings and font.
page_files = StaticFiles(directory=_FOLDER)


@router.get("/")
def get_page(settings: SettingsDep) -> HTMLResponse:
    """Serve the page; its code examples name the gRPC port."""
    text = (_FOLDER / "index.html").read_text(encoding="utf-8")
    return HTMLResponse(Template(text).substitute(grpc_port=settings.grpc_port), headers=_HEADERS)


@router.get("/docs")
def get_docs() -> HTMLResponse:
    """Serve the interactive description of this interface."""
    text = (_FOLDER / "docs.html").read_text(encoding="utf-8")
    return HTMLResponse(text, headers=_HEADERS)
