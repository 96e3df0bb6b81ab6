"""Each extra, installed into an environment of its own, starts what it is for: `make extras`."""

import json
import os
import signal
import subprocess
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.events.connection import connect
from service.records.records import RedisRecords
from service.settings import RedisSettings
from tests.servers import free_port

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.installs, pytest.mark.timeout(1800)]

#: A start on a slow machine that has just unpacked torch.
START_SECONDS = 300.0

_APPLY = """
import torch
from diffusers import UNet2DConditionModel
from hidiffusion import apply_hidiffusion, remove_hidiffusion
unet = UNet2DConditionModel(
    sample_size=8, block_out_channels=(8, 8, 16, 16), layers_per_block=2, norm_num_groups=4,
    cross_attention_dim=8, attention_head_dim=(1, 1, 2, 2),
)
apply_hidiffusion(unet)
remove_hidiffusion(unet)
print("applied")
"""


class Environment:
    """A virtual environment with one extra in it, far from this repository's own."""

    def __init__(self, folder: Path, extra: str) -> None:
        venv.create(folder, with_pip=True)
        self.folder = folder
        what = f"{ROOT}[{extra}]" if extra else str(ROOT)
        install = ["-m", "pip", "install", "--quiet", what, "-c", str(ROOT / "constraints.txt")]
        self.python(*install, check=True)

    def python(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run its Python."""
        return self._run("python", arguments, check)

    def hidiffusion(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return self._run("hidiffusion", arguments, check=False, **settings)

    def _run(
        self, program: str, arguments: tuple[str, ...], check: bool, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            cwd=self.folder,
            env=self.variables(settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=check,
        )

    @contextmanager
    def running(self, *command: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
        """`hidiffusion` with some command, stopped by SIGTERM and well at the end of the block."""
        program = [str(self.folder / "bin" / "hidiffusion"), *command]
        environment = self.variables(settings)
        with subprocess.Popen(program, cwd=self.folder, env=environment) as process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(120) == 0

    def variables(self, settings: dict[str, str]) -> dict[str, str]:
        """The environment of a stranger to this repository."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        named = {f"HIDIFFUSION_{name}": value for name, value in settings.items()}
        catalog = str(ROOT / "models" / "catalog.json")
        return {**kept, "HIDIFFUSION_CATALOG": catalog, **named}


def _until(reached: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not reached():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _ready(url: str) -> Callable[[], bool]:
    def reached() -> bool:
        try:
            return httpx.get(f"{url}/readyz").is_success
        except httpx.TransportError:
            return False

    return reached


def test_nothing_but_the_client(tmp_path: Path) -> None:
    plain = Environment(tmp_path, "")
    asked = "from service.client import Client; Client('http://127.0.0.1:1').models()"
    assert "UnreachableError" in plain.python("-c", asked).stdout
    assert "pip install 'hidiffusion[torch]'" in plain.python("-c", "import hidiffusion").stdout
    told = plain.hidiffusion("api")
    assert "pip install 'hidiffusion[service]'" in told.stdout
    assert "Traceback" not in told.stdout
    assert "hidiffusion[worker]" in plain.hidiffusion("worker").stdout
    megabytes = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) / 1e6
    assert megabytes < 100


def test_the_library(tmp_path: Path) -> None:
    assert "applied" in Environment(tmp_path, "torch").python("-c", _APPLY).stdout


def test_the_front_ends(tmp_path: Path, redis_url: str) -> None:
    front = Environment(tmp_path / "env", "service")
    port = free_port()
    settings = {
        "REDIS__URL": redis_url,
        "STORE__URL": (tmp_path / "store").as_uri(),
        "API__HTTP_PORT": str(port),
        "API__GRPC_PORT": "0",
    }

    with front.running("api", **settings) as process:
        _until(_ready(f"http://127.0.0.1:{port}"), process)
        page = httpx.get(f"http://127.0.0.1:{port}/")
        assert page.is_success
    told = front.hidiffusion("worker", **settings).stdout
    assert "pip install 'hidiffusion[worker]'" in told
    assert "Traceback" not in told


def test_the_gpu_process(tmp_path: Path, redis_url: str) -> None:
    worker = Environment(tmp_path / "env", "worker")
    health = tmp_path / "health"
    settings = {
        "REDIS__URL": redis_url,
        "STORE__URL": (tmp_path / "store").as_uri(),
        "HEALTH_FOLDER": str(health),
    }

    def warm() -> bool:
        workers = RedisRecords(connect(redis_url), RedisSettings()).workers()
        return any(each.state == "idle" for each in workers)

    with worker.running("worker", "--devices", "cpu", **settings) as process:
        _until(warm, process)
        checked = subprocess.run(
            [str(worker.folder / "bin" / "python"), "-m", "service.health"],
            env=worker.variables(settings),
            check=False,
        )
        assert checked.returncode == 0


def test_everything(tmp_path: Path) -> None:
    """The README's service: `hidiffusion up`, `hidiffusion generate` and curl."""
    everything = Environment(tmp_path / "env", "all")
    port, file = free_port(), tmp_path / "guitar.png"
    service = f"http://127.0.0.1:{port}"
    settings = {"API__HTTP_PORT": str(port), "API__GRPC_PORT": "0"}

    with everything.running("up", "--data", str(tmp_path / "data"), **settings) as process:
        _until(_ready(service), process)
        asked = ("a red guitar", "--size", "256", "--output", str(file))
        made = everything.hidiffusion("generate", *asked, SERVER=service)
        assert made.returncode == 0, made.stdout
        assert file.read_bytes().startswith(b"\x89PNG")
        body = '{"prompt": "a red guitar", "width": 1024, "height": 1024}'
        curl = ("curl", "-s", f"{service}/v1/generations", "-H", "content-type: application/json")
        told = subprocess.run([*curl, "-d", body], capture_output=True, check=True)
        assert json.loads(told.stdout)["status"] == "queued"
