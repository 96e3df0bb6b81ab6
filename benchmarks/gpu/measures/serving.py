"""The service on this device: against a script, cancelled, killed, and after a CUDA error."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel

from benchmarks.gpu.bench import Bench
from hidiffusion.methods import registry
from service.cli.embedded import embedded_service
from service.settings import ApiSettings, Settings, WorkerSettings
from tests.servers import free_port

MODELS = Path(__file__).parents[3] / "models"
NAME = "fluent-emoji-256"
PIPELINE_PROCESS = "service.worker.process.main"
#: In the environment of every process of the service started here; nothing else is killed.
MARK = "BENCHMARK_OF"


def run(bench: Bench) -> None:
    """Play one user, then one operator's bad day."""
    size, steps = (256, 4) if bench.tiny else (1024, 50)
    request = {
        "prompt": "a red guitar",
        "width": size,
        "height": size,
        "num_inference_steps": steps,
        "scheduler": "DDIMScheduler",
        "method": "hidiffusion" if not bench.tiny else "direct",
        "seed": 7,
    }
    with tempfile.TemporaryDirectory() as name:
        catalog = _catalog(Path(name))
        with _serving(Path(name) / "data", bench, catalog) as client:
            begin = time.perf_counter()
            first = _picture(client, request)
            bench.row("first picture after a cold start", seconds=_since(begin))
            against_a_script(bench, client, catalog.parent / NAME, request)
            whole = client.get(f"/v1/generations/{first}/image").content
            cancelled(bench, client, request)
            killed(bench, client, request, whole)
        if bench.left > 25 and bench.device.type == "cuda":
            faulty(bench, Path(name) / "faulty", catalog, request)


def _since(begin: float) -> float:
    return round(time.perf_counter() - begin, 3)


def _catalog(folder: Path) -> Path:
    """Copy the bundled model; its U-Net gets random weights where the real ones are left out."""
    shutil.copytree(MODELS / NAME, folder / NAME)
    weights = folder / NAME / "unet" / "diffusion_pytorch_model.safetensors"
    if not weights.exists():
        torch.manual_seed(0)
        config = UNet2DConditionModel.load_config(weights.parent)
        UNet2DConditionModel.from_config(config).save_pretrained(weights.parent)
    shutil.copy(MODELS / "catalog.json", folder / "catalog.json")
    return folder / "catalog.json"


@contextmanager
def _serving(
    data: Path, bench: Bench, catalog: Path, checker: str | None = None
) -> Iterator[httpx.Client]:
    settings = Settings(
        api=ApiSettings(http_port=free_port(), grpc_port=free_port()),
        worker=WorkerSettings(
            device=bench.device.type, checker=checker, checkpoint_every_seconds=0.2
        ),
        catalog=catalog,
    )
    os.environ[MARK] = str(os.getpid())
    begin = time.perf_counter()
    try:
        with embedded_service(data, settings) as service:
            service.wait_until_ready()
            bench.row("service ready", seconds=_since(begin))
            with httpx.Client(base_url=service.url, timeout=max(5, bench.left - 5)) as client:
                yield client
    except Exception:
        for log in sorted(data.rglob("*.log")):
            sys.stderr.write(f"{log.name}: {log.read_text()[-1500:]}\n")
        raise


def _submit(client: httpx.Client, request: dict[str, Any]) -> str:
    identifier: str = client.post("/v1/generations", json=request).raise_for_status().json()["id"]
    return identifier


def _events(client: httpx.Client, identifier: str) -> Iterator[tuple[str, float]]:
    with client.stream("GET", f"/v1/generations/{identifier}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                yield line.removeprefix("event: "), time.perf_counter()


def _picture(client: httpx.Client, request: dict[str, Any]) -> str:
    identifier = _submit(client, request)
    final = [name for name, _ in _events(client, identifier)][-1]
    if final != "succeeded":
        raise RuntimeError(f"a generation ended with {final!r}")
    return identifier


def against_a_script(
    bench: Bench, client: httpx.Client, source: Path, request: dict[str, Any]
) -> None:
    """The same picture by the pipeline in this process, saved by Pillow, in turn."""
    dtype = torch.float32 if bench.device.type == "cpu" else torch.float16
    pipe = DiffusionPipeline.from_pretrained(source, dtype=dtype).to(bench.device)
    pipe.set_progress_bar_config(disable=True)
    method = registry.get(request["method"])

    def script() -> None:
        image = method.generate(
            pipe,
            width=request["width"],
            height=request["height"],
            seed=request["seed"],
            prompt=request["prompt"],
            num_inference_steps=request["num_inference_steps"],
        ).images[0]
        image.save(source.parent / "script.png")

    def service() -> None:
        client.get(f"/v1/generations/{_picture(client, request)}/image").raise_for_status()

    theirs, ours = bench.seconds(script, repeats=3), bench.seconds(service, repeats=3)
    side = request["width"]
    bench.row(
        f"{side}x{side}, service against a script",
        script_s=round(theirs, 3),
        service_s=round(ours, 3),
        ratio=round(ours / theirs, 3),
    )
    identifier, begin = _submit(client, request), time.perf_counter()
    first = next(at for name, at in _events(client, identifier) if name == "step")
    bench.row("accepted to first step", seconds=round(first - begin, 3))


def cancelled(bench: Bench, client: httpx.Client, request: dict[str, Any]) -> None:
    """Seconds from asking for a cancellation to its event, in the middle of the steps."""
    identifier = _submit(client, {**request, "num_inference_steps": 100})
    asked = 0.0
    for name, at in _events(client, identifier):
        if name == "step" and not asked:
            client.delete(f"/v1/generations/{identifier}").raise_for_status()
            asked = time.perf_counter()
        if name == "cancelled":
            bench.row("cancelled after", seconds=round(max(0.0, at - asked), 3))


def killed(bench: Bench, client: httpx.Client, request: dict[str, Any], whole: bytes) -> None:
    """Kill -9 of the pipeline process in the middle; the picture must be the same, bit for bit."""
    identifier = _submit(client, request)
    begin, last = 0.0, 0.0
    for name, at in _events(client, identifier):
        if name == "step" and not begin:
            begin = time.perf_counter()
            _kill()
        elif begin and name in ("started", "step") and not last:
            last = at
    picture = client.get(f"/v1/generations/{identifier}/image").raise_for_status().content
    bench.row(
        "pipeline process killed",
        runs_again_after_s=round(last - begin, 3),
        same_picture=picture == whole,
    )


def _kill() -> None:
    """Kill the pipeline process of the service that this process started."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode()
            environment = (entry / "environ").read_bytes().decode()
        except OSError:
            continue
        if PIPELINE_PROCESS in command and f"{MARK}={os.getpid()}" in environment:
            os.kill(int(entry.name), signal.SIGKILL)


def faulty(bench: Bench, data: Path, catalog: Path, request: dict[str, Any]) -> None:
    """A kernel that writes where it must not poisons the process; the next picture must come."""
    checker = "benchmarks.gpu.illegal_access:Checker"
    with _serving(data, bench, catalog, checker) as client:
        identifier = _submit(client, {**request, "prompt": "illegal access"})
        final = [name for name, _ in _events(client, identifier)][-1]
        record = client.get(f"/v1/generations/{identifier}").json()
        begin = time.perf_counter()
        _picture(client, request)
        reason = json.dumps(record.get("error"))[:160]
        bench.row("CUDA error", ended=final, reason=reason, next_picture_s=_since(begin))
