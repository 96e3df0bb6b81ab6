"""`hidiffusion generate` and `models` against a service with TLS that asks for certificates."""

import io
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import typer
from PIL import Image
from typer.testing import CliRunner

from service.api.serve import Endpoints
from service.cli.app import app
from service.domain.generations.generation import Status
from service.settings import ApiSettings, StoreSettings
from service.storage.store import open_store
from tests.service.api.played_worker import PlayedWorker
from tests.service.api.stack import serving, use_cases

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "command-line.md"


class Certified:
    """A service that asks for certificates, and the files that open it."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        authority = trustme.CA()
        self.root = folder / "root.pem"
        self.server, self.client = folder / "server.pem", folder / "client.pem"
        authority.cert_pem.write_to_path(self.root)
        for name, file in (("127.0.0.1", self.server), ("somebody", self.client)):
            authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(file)
        store = open_store(StoreSettings(url=(folder / "store").as_uri()))
        self._cases, self.records = use_cases(redis_url, store)
        self.worker = PlayedWorker(self.records, store)
        self.endpoints: Endpoints

    @property
    def options(self) -> list[str]:
        """The whole of what a client has to give."""
        client = ["--client-certificate", str(self.client), "--client-key", str(self.client)]
        return [*self.server_option, "--ca-certificate", str(self.root), *client]

    @property
    def server_option(self) -> list[str]:
        return ["--server", self.endpoints.http_url]

    @contextmanager
    def running(self) -> Iterator["Certified"]:
        settings = ApiSettings(
            http_port=0,
            grpc_port=0,
            tls_certificate=self.server,
            tls_key=self.server,
            tls_client_ca=self.root,
        )
        with serving(settings, self._cases, None) as self.endpoints:
            yield self
        self.records.redis.close()

    @contextmanager
    def painting(self, image: bytes) -> Iterator[None]:
        """A worker that makes one picture."""
        stop = threading.Event()

        def paint() -> None:
            while not stop.wait(0.05):
                page = self.records.list(status=Status.QUEUED, cursor=None, limit=1)
                for generation in page.generations:
                    self.worker.succeed(self.worker.start(generation.id), image)

        painter = threading.Thread(target=paint)
        painter.start()
        try:
            yield
        finally:
            stop.set()
            painter.join()


@pytest.fixture
def certified(redis_url: str, tmp_path: Path) -> Iterator[Certified]:
    with Certified(tmp_path, redis_url).running() as service:
        yield service


def _picture(file: Path, colour: str) -> Path:
    Image.new("RGB", (256, 128), colour).save(file)
    return file


def test_a_picture_from_a_picture_over_mutual_tls(certified: Certified, tmp_path: Path) -> None:
    image = _picture(tmp_path / "fox.jpg", "orange")
    mask = _picture(tmp_path / "mask.png", "grey")
    target = tmp_path / "made.png"
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    command = [sys.executable, "-m", "service.cli", "generate", "a fox"]
    pictures = ["--image", str(image), "--mask", str(mask), "--strength", "0.6"]
    with certified.painting(stream.getvalue()):
        made = subprocess.run(
            [*command, *pictures, "--output", str(target), *certified.options],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    assert made.returncode == 0, made.stdout + made.stderr
    assert target.read_bytes() == stream.getvalue()
    (generation,) = certified.records.list(status=None, cursor=None, limit=9).generations
    request = generation.request
    assert (request.width, request.height, request.strength) == (256, 128, 0.6)
    assert set(generation.inputs) == {request.image, request.mask}
    assert request.image != request.mask


def _models(*options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["models", "list", *options])
    return result.exit_code, " ".join(result.output.split())


def test_without_the_authority_it_says_what_is_missing_at_once(certified: Certified) -> None:
    code, output = _models(*certified.server_option)

    assert code == 1
    assert "no secure connection" in output
    assert "CERTIFICATE_VERIFY_FAILED" in output


def test_certificates_come_from_the_environment_too(
    certified: Certified, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIDIFFUSION_SERVER", certified.endpoints.http_url)
    monkeypatch.setenv("HIDIFFUSION_CA_CERTIFICATE", str(certified.root))
    monkeypatch.setenv("HIDIFFUSION_CLIENT_CERTIFICATE", str(certified.client))

    code, output = _models()

    assert code == 0, output
    assert "emoji" in output


def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("nothing")
    server = ("--server", "https://127.0.0.1:1")

    for option in ("--ca-certificate", "--client-certificate"):
        code, output = _models(*server, option, str(tmp_path / "bad.pem"))
        assert (code, "bad.pem" in output) == (1, True), output
    code, output = _models(*server, "--client-key", str(tmp_path / "bad.pem"))
    assert code == 1
    assert "--client-certificate" in output


def test_a_missing_picture_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["generate", "a fox", "--image", str(tmp_path / "none.png")])

    assert result.exit_code == 2
    assert "--image" in re.sub(r"\x1b\[[\d;]*m", "", result.output)


def _options(command: Any) -> set[str]:
    """Every option of a command, and of those below it."""
    below = [_options(each) for each in getattr(command, "commands", {}).values()]
    own = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    return {name for name in own.union(*below) if name.startswith("-")}


def test_every_command_and_every_option_is_in_the_documentation() -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    group: Any = typer.main.get_command(app)
    documented = set(re.findall(r"(?<![\w-])(--?[a-z][\w-]*|-V)", text))

    assert set(group.commands) <= set(re.findall(r"`(\w+)`", text))
    assert _options(group) - {"--help"} <= documented
