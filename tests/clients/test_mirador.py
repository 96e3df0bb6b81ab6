"""Results in Mirador, a viewer of IIIF's Presentation API, from a page of another origin."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Page, expect

from tests.browser import chromium, visitor
from tests.clients.conftest import Node
from tests.service.api.painter import Painter
from tests.service.api.stack import Stack

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Mirador</title><body>
<div id="mirador" style="position: absolute; inset: 0"></div>
<script src="mirador.min.js"></script>
<script>
  const manifestId = new URLSearchParams(location.search).get("manifest");
  const windows = [{ manifestId, thumbnailNavigationPosition: "far-bottom" }];
  Mirador.viewer({ id: "mirador", windows });
</script>
</body></html>
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def viewer(javascript: Node) -> Iterator[str]:
    """The address of a page with Mirador in it."""
    script = javascript.package("mirador") / "dist" / "mirador.min.js"
    (javascript.folder / script.name).symlink_to(script)
    (javascript.folder / "index.html").write_text(PAGE)
    handler = partial(_Quiet, directory=str(javascript.folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def _finished(stack: Stack, prompt: str) -> str:
    painter = Painter(stack.worker, stack.submit(prompt=prompt, width=1024, height=768))
    painter.finish()
    return painter.generation.id


def _tile_of(page: Page, generation_id: str, manifest: str) -> None:
    """Open a manifest; return once the viewer has got a tile of a generation."""
    is_tile = f"/iiif/{generation_id}/0,"
    with page.expect_response(lambda answer: is_tile in answer.url and answer.ok):
        page.goto(f"/?manifest={manifest}")


@pytest.mark.slow
def test_mirador_shows_one_picture_and_several(viewer: str, stack: Stack) -> None:
    fox, cat = _finished(stack, "a fox"), _finished(stack, "a cat")
    here = stack.endpoints.http_url
    with chromium() as browser, visitor(browser, viewer) as context:
        page = context.new_page()
        _tile_of(page, fox, f"{here}/iiif/{fox}/manifest.json")
        expect(page.get_by_role("heading", name="a fox").first).to_be_visible()

        _tile_of(page, cat, f"{here}/iiif/manifest.json%3Fid={cat}%26id={fox}")
        expect(page.get_by_role("heading", name="2 pictures").first).to_be_visible()
        expect(page.get_by_text("1 of 2")).to_be_visible()
