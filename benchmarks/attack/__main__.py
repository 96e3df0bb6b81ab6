"""What other clients notice while one without a key does its worst.

    python -m benchmarks.attack --seconds 20 --write

One API process, as deployed. Attackers in a process of their own send headers that never end, leave
headers, bodies and calls unfinished on hundreds of connections, ask for conversions of one large
picture, begin calls and take them back, and open streams of events by thousands, all at once and
again, over HTTP and over gRPC. Meanwhile another client reads /healthz and a record over HTTP, and
the health service and a record over gRPC, ten times a second each, and /healthz on a new connection
each time. The result of each attack is that client's 99th percentile, beside the one without any.
Prints a table for people and JSON as its last line.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.attack import over_grpc, over_http
from benchmarks.load.stage import ROOT, Stage, raise_file_limit, stage
from hidiffusion_api.v1 import generation_service_pb2 as rpc
from hidiffusion_api.v1 import generation_service_pb2_grpc
from service.domain.artifacts import ArtifactKeys, ArtifactRef, Manifest, Pyramid
from service.domain.generations.events import Succeeded
from service.events.connection import connect
from service.records.records import RedisRecords
from service.settings import RedisSettings, StoreSettings
from service.storage.metadata import encode_marked
from service.storage.store import open_store
from tests.generations import make_generation, now
from tests.servers import free_port

RESULTS = Path(__file__).parents[1] / "results"

#: Longest that a probe waits; one that fails counts as this.
_PATIENCE_SECONDS = 30.0

_PROBES_A_SECOND = 10

#: What another client asks for.
PROBES = ("/healthz", "new connection", "record", "gRPC health", "gRPC record")


ATTACKS = over_http.ATTACKS | over_grpc.ATTACKS


def attack(name: str, address: tuple[str, int], path: str) -> None:
    """Run one attack until killed."""
    count, one = ATTACKS[name]

    def again() -> None:
        while True:
            with contextlib.suppress(OSError):
                one(address, path)
            time.sleep(0.01)

    for _ in range(count):
        threading.Thread(target=again, daemon=True).start()
    time.sleep(3600)


@contextlib.contextmanager
def attacking(name: str, address: tuple[str, int], path: str) -> Iterator[None]:
    """One attack, in a process of its own, for the length of the block."""
    if not name:
        yield
        return
    command = [sys.executable, "-m", "benchmarks.attack", "--attacker", name, *map(str, address)]
    process = subprocess.Popen([*command, path], cwd=ROOT)
    try:
        time.sleep(1.0)
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def behind_haproxy(address: str) -> Iterator[str]:
    """Where HAProxy serves the gRPC of `address`, as in our compose files."""
    text = (ROOT / "deploy" / "compose" / "haproxy.cfg").read_text()
    defaults = text[text.index("defaults") : text.index("frontend http")]
    front = f"127.0.0.1:{free_port()}"
    frontend = text[text.index("frontend grpc") : text.index("\nbackend http")]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "haproxy.cfg"
        config.write_text(
            f"global\n  maxconn 8000\n\n{defaults}\n"
            f"{frontend.replace(':50051', front)}"
            f"backend grpc\n  server api {address} proto h2\n"
        )
        process = subprocess.Popen(["haproxy", "-db", "-q", "-f", config])
        try:
            time.sleep(1.0)
            yield front
        finally:
            process.kill()
            process.wait()


def probe(running: Stage, grpc_address: str, record: str, seconds: float) -> dict[str, float]:
    """The 99th percentile in seconds of what another client asks for meanwhile."""
    taken: dict[str, list[float]] = {name: [] for name in PROBES}

    def follow(name: str, ask: Callable[[], object]) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            try:
                ask()
                taken[name].append(time.monotonic() - began)
            except (httpx.HTTPError, grpc.RpcError, OSError):
                taken[name].append(_PATIENCE_SECONDS)
            time.sleep(max(0.0, began + 1 / _PROBES_A_SECOND - time.monotonic()))

    url = f"http://{running.http_address}"
    with (
        httpx.Client(base_url=url, timeout=_PATIENCE_SECONDS) as http,
        grpc.insecure_channel(grpc_address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        service = generation_service_pb2_grpc.GenerationServiceStub(channel)
        asks = {
            "/healthz": lambda: http.get("/healthz").raise_for_status(),
            "new connection": lambda: newcomer(running.http_address),
            "record": lambda: http.get(f"/v1/generations/{record}").raise_for_status(),
            "gRPC health": lambda: health.Check(
                health_pb2.HealthCheckRequest(), timeout=_PATIENCE_SECONDS
            ),
            "gRPC record": lambda: service.GetGeneration(
                rpc.GetGenerationRequest(id=record), timeout=_PATIENCE_SECONDS
            ),
        }
        threads = [threading.Thread(target=follow, args=each) for each in asks.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {name: round(float(np.percentile(each, 99)), 3) for name, each in taken.items()}


def newcomer(address: str) -> None:
    """Ask on a new connection whether all is well."""
    with contextlib.closing(HTTPConnection(address, timeout=_PATIENCE_SECONDS)) as connection:
        connection.request("GET", "/healthz")
        connection.getresponse().read()


def finished(running: Stage, store: StoreSettings, side: int) -> str:
    """A generation whose picture is stored, of noise: the hardest to convert."""
    records = RedisRecords(connect(running.redis_url), RedisSettings(url=running.redis_url))
    accepted = records.accept(make_generation(size=side), None)
    generation = records.begin_attempt(accepted.id, "played", now())
    assert generation is not None
    keys = ArtifactKeys(generation.id, generation.attempt)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    data = encode_marked(pixels, "png", None)
    open_store(store).put(keys.image("png"), data, "image/png")
    image = ArtifactRef(key=keys.image("png"), media_type="image/png", bytes=len(data), sha256="")
    request = generation.request
    manifest = Manifest(
        generation_id=generation.id,
        attempt=generation.attempt,
        width=request.width,
        height=request.height,
        image=image,
        thumbnail=image,
        pyramid=Pyramid(tile_size=512, overlap=1, format="png", levels=()),
        recipe={},
        created_at=now(),
    )
    records.record(
        generation.id, Succeeded(attempt=generation.attempt, at=now(), manifest=manifest)
    )
    return generation.id


def measure(
    seconds: float, side: int, names: Sequence[str], *, haproxy: bool
) -> list[dict[str, Any]]:
    """The row of each attack, and one without any."""
    rows = []
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(stage())
        over_grpc_at = running.grpc_address
        if haproxy:
            over_grpc_at = stack.enter_context(behind_haproxy(over_grpc_at))
        record = finished(running, running.store, side)
        path = f"/iiif/{record}/full/max/0/default.jpg"
        httpx.head(f"http://{running.http_address}{path}", timeout=120).raise_for_status()
        waiting = running.accept()
        events = f"/v1/generations/{waiting}/events"
        for name in ("", *names):
            over_grpc_too = name in over_grpc.ATTACKS
            host, _, port = (over_grpc_at if over_grpc_too else running.http_address).partition(":")
            target = events if name.endswith("streams") else path
            with attacking(name, (host, int(port)), waiting if over_grpc_too else target):
                found = probe(running, over_grpc_at, record, seconds)
            memory = running.memory_bytes()
            rows.append({"attack": name or "none", **found, "resident_bytes": memory})
            cells = [name or "none", *(f"{each:.3f}" for each in found.values())]
            print("| " + " | ".join([*cells, f"{memory / 1e6:.0f}"]) + " |", flush=True)
    return rows


def main() -> None:
    """Attack, print and, if asked to, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attack",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=48.0, help="length of each attack")
    parser.add_argument("--side", type=int, default=4096, help="of the picture, in pixels")
    parser.add_argument("--attacks", nargs="*", default=[*ATTACKS], help="these and no others")
    parser.add_argument("--haproxy", action="store_true", help="put it in front of gRPC")
    parser.add_argument("--write", action="store_true", help="keep the result in results/")
    parser.add_argument("--attacker", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attacker:
        name, host, port, path = options.attacker
        attack(name, (host, int(port)), path)
        return
    raise_file_limit(6000)
    print("99th percentile in seconds; memory of the API in MB\n")
    head = ("attack", *PROBES, "memory")
    print(f"| {' | '.join(head)} |\n| --- |{' ---: |' * (len(head) - 1)}")
    document = {
        "rows": measure(options.seconds, options.side, options.attacks, haproxy=options.haproxy),
        "seconds": options.seconds,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load_average": os.getloadavg()[0],
    }
    if options.write:
        (RESULTS / f"attack{'-haproxy' * options.haproxy}.json").write_text(
            json.dumps(document, indent=1) + "\n"
        )
    print(json.dumps(document))


if __name__ == "__main__":
    main()
