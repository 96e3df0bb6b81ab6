"""An HTTP proxy in front of an S3-compatible server that can fail in the ways stores fail."""

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

#: `full` is what a store without room says; `slow` answers after `FaultyS3.delay` seconds; `cut`
#: passes the request on and drops the connection instead of answering.
Fault = Literal["none", "500", "503", "full", "denied", "slow", "cut"]

_ANSWERS = {
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "full": (507, "InsufficientStorage"),
    "denied": (403, "AccessDenied"),
}
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server"}


class FaultyS3:
    """A proxy to `endpoint`; set `fault`, and every request meets it until it is set again.

    Attributes:
        fault: what happens to requests now.
        delay: seconds that a slow answer takes.
        refused: requests that met a fault so far.
    """

    def __init__(self, endpoint: str) -> None:
        self.fault: Fault = "none"
        self.delay = 1.0
        self.refused = 0
        address = urlsplit(endpoint)
        target = f"{address.hostname}:{address.port}"
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy.handle(self, target)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextlib.contextmanager
    def running(self) -> Iterator["FaultyS3"]:
        """Serve for the length of the block."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    def handle(self, request: BaseHTTPRequestHandler, target: str) -> None:
        """Answer one request, or fail to."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        fault = self.fault
        self.refused += fault != "none"
        if fault in _ANSWERS:
            status, code = _ANSWERS[fault]
            _answer(request, status, [], f"<Error><Code>{code}</Code></Error>".encode())
            return
        if fault == "slow":
            time.sleep(self.delay)
        status, headers, data = _forward(request, target, body)
        if fault == "cut":
            request.close_connection = True
            return
        _answer(request, status, headers, data)


def _forward(
    request: BaseHTTPRequestHandler, target: str, body: bytes
) -> tuple[int, list[tuple[str, str]], bytes]:
    upstream = http.client.HTTPConnection(target, timeout=30)
    try:
        upstream.request(request.command, request.path, body, dict(request.headers.items()))
        reply = upstream.getresponse()
        return reply.status, reply.getheaders(), reply.read()
    finally:
        upstream.close()


def _answer(
    request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], data: bytes
) -> None:
    with contextlib.suppress(OSError):
        request.send_response(status)
        kept = [(name, value) for name, value in headers if name.lower() not in _HOP_BY_HOP]
        for name, value in kept:
            request.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in kept):
            request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)
