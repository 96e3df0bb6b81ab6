"""Watch generations from a process of its own, and keep when each event arrived.

    python -m benchmarks.load.watcher sse 127.0.0.1:8000 --watchers 1000 --ids ID ID ...

Every watcher has a connection of its own. It prints `ready` when each has got the first event, and
then, when all streams have ended, one line of JSON: for each watcher the generation, the ids of the
events in the order of their arrival, and the times, in seconds of the machine's monotonic clock.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

#: Connections that are made at a time.
_AT_ONCE = 50

#: Yields the id of each event of a generation.
Watch = Callable[[str, str], AsyncIterator[str]]


async def watch_sse(address: str, generation_id: str) -> AsyncIterator[str]:
    """Server-sent events over HTTP/1.1; the server sends them in chunks."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"GET /v1/generations/{generation_id}/events HTTP/1.1\r\nhost: {address}\r\n"
        "accept: text/event-stream\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 ") or b"chunked" not in head:
        raise RuntimeError(f"refused: {head!r}")
    while length := int(await reader.readline(), 16):
        chunk = await reader.readexactly(length + 2)
        for line in chunk.splitlines():
            if line.startswith(b"id: "):
                yield line[4:].decode()
    writer.close()


async def watch_grpc(address: str, generation_id: str) -> AsyncIterator[str]:
    """A server stream over a connection of its own: equal channels share one unless told not to."""
    import grpc

    from hidiffusion_api.v1 import generation_service_pb2 as rpc
    from hidiffusion_api.v1 import generation_service_pb2_grpc as stubs

    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub: Any = stubs.GenerationServiceStub(channel)
        async for answer in stub.WatchGeneration(rpc.WatchGenerationRequest(id=generation_id)):
            yield answer.event.resume_token


async def watch_all(watch: Watch, address: str, ids: list[str], watchers: int) -> list[Any]:
    """What each watcher saw; they take the generations in turn."""
    doors, waiting = asyncio.Semaphore(_AT_ONCE), watchers

    async def one(generation_id: str) -> dict[str, Any]:
        nonlocal waiting
        seen: list[str] = []
        times: list[float] = []
        await doors.acquire()
        async for event_id in watch(address, generation_id):
            seen.append(event_id)
            times.append(time.monotonic())
            if len(seen) == 1:
                doors.release()
                waiting -= 1
                if not waiting:
                    print("ready", flush=True)
        return {"generation": generation_id, "ids": seen, "times": times}

    seen: list[Any] = await asyncio.gather(
        *(one(ids[number % len(ids)]) for number in range(watchers))
    )
    return seen


def main() -> None:
    """Watch and tell."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load.watcher",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=("sse", "grpc"))
    parser.add_argument("address", help="host:port")
    parser.add_argument("--ids", nargs="+", required=True, help="generations, watched in turn")
    parser.add_argument("--watchers", type=int, default=1)
    options = parser.parse_args()
    watch = watch_sse if options.kind == "sse" else watch_grpc
    seen = asyncio.run(watch_all(watch, options.address, options.ids, options.watchers))
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main()
