"""Pictures named by where they are: an address that may be asked, or a generation's result."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from PIL import Image

from service.api.fetching import PictureFetcher
from service.domain.requests.uploads import BadPicture
from service.domain.webhooks import Targets
from tests.service.api.http.pictures.test_uploads import ask, picture, upload, violations
from tests.service.api.painter import Painter
from tests.service.api.stack import MAX_UPLOAD_BYTES, Stack


@contextmanager
def gallery(host: str = "127.0.0.1") -> Iterator[str]:
    """A site with a picture, redirects, and what is none; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            bodies = {"/fox.png": picture(400, 304), "/page": b"<html>"}
            bodies["/long"] = bytes(MAX_UPLOAD_BYTES + 1)
            places = {"/moved": "fox.png", "/inside": "http://127.0.0.2/", "/loop": "/loop"}
            body = bodies.get(self.path, b"")
            self.send_response(302 if self.path in places else 200 if body else 404)
            if self.path in places:
                self.send_header("location", places[self.path])
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((host, 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_picture_is_fetched_from_where_a_request_says(stack: Stack) -> None:
    with gallery() as site:
        response = ask(stack, image=f"{site}/moved", strength=0.5)
        guided = ask(stack, controls=[{"name": "canny", "image": f"{site}/fox.png"}])

    assert response.status_code == 202, response.text
    request = response.json()["request"]
    known = upload(stack, picture(400, 304))
    assert (request["image"], request["width"], request["height"]) == (known["id"], 400, 304)
    assert guided.json()["request"]["controls"][0]["image"] == known["id"]
    stored = stack.http.get(f"/v1/uploads/{known['id']}/image")
    assert Image.open(io.BytesIO(stored.content)).size == (400, 304)
    assert stored.headers["content-type"] == "image/png"
    assert stack.http.get(f"/v1/uploads/img_{'0' * 64}/image").status_code == 404


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/page", "begins like no picture"),
        ("/none", "the answer there is 404"),
        ("/long", "longer than"),
        ("/loop", "redirected more than 3 times"),
        ("/inside", "only https is called"),
    ],
)
def test_what_cannot_be_fetched_is_told_at_its_field(stack: Stack, path: str, rule: str) -> None:
    with gallery() as site:
        assert rule in violations(ask(stack, image=site + path))["image"]
    assert stack.count() == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:1/",
        "http://example.com/fox.png",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://user:password@example.com/",
        "https://example.com:22/",
        "https://localhost/",
        "https://exa\u00e4mple.com/" + "x" * 3000,
    ],
)
def test_only_public_addresses_are_asked(url: str) -> None:
    with pytest.raises(BadPicture):
        PictureFetcher(Targets(), 1000, seconds=2)(url)


def test_a_name_that_leads_inside_is_refused_where_it_leads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inside = [(2, 1, 6, "", ("10.0.0.1", 443))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: inside)
    with pytest.raises(BadPicture, match="only public addresses are asked; upload"):
        PictureFetcher(Targets(), 1000, seconds=2)("https://inside.example/fox.png")


def test_a_result_is_gone_on_from_by_its_id(stack: Stack) -> None:
    first = stack.submit(width=512, height=384)
    waiting = violations(ask(stack, image=first))["image"]
    assert "queued and has no picture" in waiting
    Painter(stack.worker, first).finish()

    response = ask(stack, image=first)

    assert response.status_code == 202, response.text
    request = response.json()["request"]
    assert (request["width"], request["height"], request["strength"]) == (512, 384, 0.8)
    made = stack.http.get(f"/v1/generations/{first}/image").content
    assert request["image"] == upload(stack, made)["id"]
    unknown = violations(ask(stack, image="01HZZZZZZZZZZZZZZZZZZZZZZZ"))["image"]
    assert "no generation has this id" in unknown
