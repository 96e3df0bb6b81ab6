"""What the service is compared with: the same pipeline, called in a script or behind LitServe."""

import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import httpx

from tests.servers import free_port

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "fluent-emoji-256"
#: As the pipeline process of the service has it: spinning threads would starve each other.
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}
START_SECONDS = 120

_DRAW = """
import io, json, os, sys, time
import diffusers, torch
from hidiffusion.methods import registry

def load(source):
    pipe = diffusers.DiffusionPipeline.from_pretrained(source)
    pipe.set_progress_bar_config(disable=True)
    return pipe

def draw(pipe, request):
    pipe.scheduler = getattr(diffusers, request["scheduler"]).from_config(pipe.scheduler.config)
    with registry.get(request["method"]).patched(pipe, seed=request["seed"]):
        return pipe(request["prompt"], width=request["width"], height=request["height"],
                    num_inference_steps=request["num_inference_steps"],
                    guidance_scale=request["guidance_scale"],
                    generator=torch.Generator("cpu").manual_seed(request["seed"])).images[0]
"""

_SCRIPT = f"""{_DRAW}
pipe = load(sys.argv[1])
for line in sys.stdin:
    begin = time.perf_counter()
    draw(pipe, json.loads(line)).save(sys.argv[2])
    print(time.perf_counter() - begin, flush=True)
"""

_LITSERVE = f"""{_DRAW}
import litserve
from fastapi import Response

class Pictures(litserve.LitAPI):
    def setup(self, device):
        self.pipe = load(sys.argv[1])

    def decode_request(self, request):
        return request

    def predict(self, request):
        return draw(self.pipe, request)

    def encode_response(self, picture):
        file = io.BytesIO()
        picture.save(file, "png")
        return Response(file.getvalue(), media_type="image/png")

if __name__ == "__main__":
    server = litserve.LitServer(Pictures(), accelerator="cpu", timeout=False)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False,
               log_level="error", pretty_logs=False)
"""


class Rival(ABC):
    """A process with the pipeline warm."""

    _process: subprocess.Popen[str]

    @abstractmethod
    def make(self, request: dict[str, Any]) -> tuple[float, bytes]:
        """Returns the seconds that a picture takes, and its PNG."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


class Script(Rival):
    """It saves the file itself, and nobody asks over a network."""

    def __init__(self, folder: Path) -> None:
        self._picture = folder / "script.png"
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _SCRIPT, str(MODEL), str(self._picture)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | ENVIRONMENT,
        )

    def make(self, request: dict[str, Any]) -> tuple[float, bytes]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline()), self._picture.read_bytes()


class LitServe(Rival):
    """An HTTP server with a worker process, and nothing between them but a queue.

    Args:
        folder: where its program is written.
        packages: where `pip install --target` has put litserve.
    """

    def __init__(self, folder: Path, packages: Path) -> None:
        if not (packages / "litserve").is_dir():
            raise SystemExit(
                f"{packages} has no litserve; "
                f"pip install --no-deps --target {packages} litserve pyzmq"
            )
        program, port = folder / "pictures.py", free_port()
        program.write_text(_LITSERVE)
        path = os.pathsep.join(map(str, (ROOT, packages)))
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(program), str(MODEL), str(port)],
            text=True,
            cwd=ROOT,
            env=os.environ | ENVIRONMENT | {"PYTHONPATH": path},
            start_new_session=True,
        )
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=3600)
        self._wait_until_ready()

    def make(self, request: dict[str, Any]) -> tuple[float, bytes]:
        begin = time.perf_counter()
        picture = self._client.post("/predict", json=request).raise_for_status().content
        return time.perf_counter() - begin, picture

    def __exit__(self, *_: object) -> None:
        self._client.close()
        os.killpg(self._process.pid, signal.SIGKILL)  # its worker and its manager too
        self._process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if self._client.get("/health").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        self.__exit__()
        raise SystemExit(f"LitServe was not ready after {START_SECONDS} s")
