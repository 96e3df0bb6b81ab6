"""Generate load from a process of its own, as fast as answers come.

    python -m benchmarks.load.generator http 127.0.0.1:8000 --clients 16 --seconds 5

Every client sends its next request when the last is answered. It speaks raw HTTP/1.1 over one
connection, or sends gRPC messages that were serialized before over a channel of its own, so that
the generator takes far less processor time than what answers. It prints `ready`, waits for a line,
and prints what it did as JSON.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

#: What every client asks for.
REQUEST: dict[str, Any] = {"prompt": "a red guitar", "width": 1024, "height": 1024, "seed": 7}

#: Sends one request and returns once it is answered; raises when it is refused.
Ask = Callable[[], Awaitable[None]]

CREATE = "/hidiffusion_api.v1.GenerationService/CreateGeneration"


async def http_client(address: str, method: str, path: str, body: bytes, status: int) -> Ask:
    """A client on a connection of its own."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: {address}\r\naccept: */*\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    request, expected = head.encode() + body, f"HTTP/1.1 {status} ".encode()

    async def ask() -> None:
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in answer.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        text = await reader.readexactly(length)
        if not answer.startswith(expected):
            raise RuntimeError(f"refused: {answer!r} {text!r}")

    return ask


async def grpc_client(address: str) -> Ask:
    """A client on a channel of its own, past the sharing of connections by equal channels."""
    import grpc

    from hidiffusion_api.v1 import generation_service_pb2 as rpc

    channel = grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
    unary: Any = channel.unary_unary  # the stubs want serializers; bytes need none
    create = unary(CREATE)
    message = rpc.CreateGenerationRequest(**REQUEST).SerializeToString()
    await channel.channel_ready()

    async def ask() -> None:
        await create(message)

    return ask


async def connect(kind: str, target: str, generation_id: str) -> Ask:
    """One client of the kind asked for."""
    match kind:
        case "http":
            body = json.dumps(REQUEST).encode()
            return await http_client(target, "POST", "/v1/generations", body, 202)
        case "get":
            return await http_client(target, "GET", f"/v1/generations/{generation_id}", b"", 200)
        case _:
            return await grpc_client(target)


async def generate(options: argparse.Namespace) -> dict[str, Any]:
    """Load for as long as asked, from as many clients as asked."""
    clients = [
        await connect(options.kind, options.target, options.id) for _ in range(options.clients)
    ]
    wait_for_start()
    seconds: list[float] = []
    cpu, began = time.process_time(), time.perf_counter()
    end = began + options.seconds

    async def client(ask: Ask) -> None:
        while (sent := time.perf_counter()) < end:
            await ask()
            seconds.append(time.perf_counter() - sent)
            if options.pause:
                await asyncio.sleep(options.pause)

    await asyncio.gather(*map(client, clients))
    return figures(seconds, time.perf_counter() - began, time.process_time() - cpu)


def enqueue_with_rq(options: argparse.Namespace) -> dict[str, Any]:
    """The rival: bare RQ with its defaults, one call after the other."""
    import redis
    from rq import Queue

    queue = Queue("bare", connection=redis.Redis.from_url(options.target))
    queue.enqueue("benchmarks.load.nothing", REQUEST)
    wait_for_start()
    seconds: list[float] = []
    cpu, began = time.process_time(), time.perf_counter()
    while (sent := time.perf_counter()) < began + options.seconds:
        queue.enqueue("benchmarks.load.nothing", REQUEST)
        seconds.append(time.perf_counter() - sent)
    return figures(seconds, time.perf_counter() - began, time.process_time() - cpu)


def wait_for_start() -> None:
    """Say that all is connected, and wait to be told to begin."""
    print("ready", flush=True)
    sys.stdin.readline()


def figures(seconds: list[float], wall: float, cpu: float) -> dict[str, Any]:
    """What is kept of a run."""
    percentiles = statistics.quantiles(seconds, n=100, method="inclusive")
    return {
        "count": len(seconds),
        "per_second": len(seconds) / wall,
        "p50_ms": 1000 * percentiles[49],
        "p99_ms": 1000 * percentiles[98],
        "cores": cpu / wall,
    }


def main() -> None:
    """Generate the load and print the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load.generator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=("http", "grpc", "get", "rq"))
    parser.add_argument("target", help="host:port, or a Redis URL for rq")
    parser.add_argument("--id", default="", help="the generation to get")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two requests")
    options = parser.parse_args()
    result = enqueue_with_rq(options) if options.kind == "rq" else uvloop.run(generate(options))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
