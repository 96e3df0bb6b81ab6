"""Serve the page that lets people use the service without writing a client."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parents[2] / "web"

#: The page runs nothing but its own script. Pictures may come from the store's own address.
_POLICY = "default-src 'self'; img-src * data:; base-uri 'none'; frame-ancestors 'none'"

#: The page's style and script.
page_files = StaticFiles(directory=_FOLDER)


@router.get("/")
async def get_page() -> FileResponse:
    """Serve the page."""
    headers = {"content-security-policy": _POLICY, "cache-control": "no-cache"}
    return FileResponse(_FOLDER / "index.html", headers=headers)
