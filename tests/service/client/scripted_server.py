"""An HTTP server that answers as a test wrote it down, and cuts connections where told to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """One answer; `cut_after` is how many bytes of the body leave before the connection is cut."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None


@dataclass(frozen=True)
class Asked:
    """One request that came in."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class ScriptedServer:
    """Gives each path's answers in turn, the last one for good."""

    answers: dict[str, list[Answer]]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def next_answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        answers = self.answers[asked.path]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def headers(self, path: str, name: str) -> list[str | None]:
        """What each request for `path` held in a header."""
        return [asked.headers.get(name) for asked in self.asked if asked.path == path]


@contextmanager
def scripted_server(answers: dict[str, list[Answer]]) -> Iterator[ScriptedServer]:
    """A server for the length of the block."""
    script = ScriptedServer(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = script.next_answer(Asked(self.command, self.path, headers))
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut_after])
            self.close_connection = answer.cut_after is not None

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
