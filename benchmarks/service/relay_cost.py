"""What the relay before gRPC's own server costs, against that server alone.

    python -m benchmarks.service.relay_cost

Both in one process with the event loop of the API; a client in another makes small calls, fifty
at a time and one after the other, and sends and receives 64 MiB, directly and through the relay
by turns. Prints the median and the best of five.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import uvloop

from service.api.grpc.relay.relay import Relay
from service.api.listening import ConnectionLimits, listen
from service.api.turns import Turns

ROOT = Path(__file__).parents[2]
ROUNDS = 5
CALLS, AT_ONCE, ALONE = 3000, 50, 300
PIECES, PIECE = 64, bytes(2**20)
NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


async def _echo(data: bytes, _: Any) -> bytes:
    return data


async def _down(_: bytes, __: Any) -> AsyncIterator[bytes]:
    for _piece in range(PIECES):
        yield PIECE


async def _up(pieces: AsyncIterator[bytes], _: Any) -> bytes:
    async for _piece in pieces:
        pass
    return b""


async def serve() -> None:
    """Serve at two ports, print them, and never end."""
    server = grpc.aio.server(options=NO_LIMIT)
    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(_echo),
        "Down": grpc.unary_stream_rpc_method_handler(_down),
        "Up": grpc.stream_unary_rpc_method_handler(_up),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("cost", methods),))
    path = str(Path(tempfile.mkdtemp()) / "socket")
    server.add_insecure_port(f"unix:{path}")
    direct = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    listener = listen("127.0.0.1", 0)
    await Relay(listener, path, ConnectionLimits(), None, Turns()).start()
    print(direct, listener.getsockname()[1], flush=True)
    await asyncio.Event().wait()


async def measure(port: int, process: psutil.Process) -> dict[str, float]:
    """One round through one port: seconds on the clock, and of the server's processor."""

    def used() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    found: dict[str, float] = {}
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=NO_LIMIT) as channel:
        calls: Any = channel  # raw bytes: without serialisers, which the types ask for
        echo = calls.unary_unary("/cost/Echo")
        await echo(b"")
        began, before = time.perf_counter(), used()
        for _ in range(CALLS // AT_ONCE):
            await asyncio.gather(*(echo(bytes(500)) for _ in range(AT_ONCE)))
        found["a call, us"] = (time.perf_counter() - began) / CALLS * 1e6
        found["a call, us of the processor"] = (used() - before) / CALLS * 1e6
        began = time.perf_counter()
        for _ in range(ALONE):
            await echo(bytes(500))
        found["a call alone, us"] = (time.perf_counter() - began) / ALONE * 1e6
        began, before = time.perf_counter(), used()
        async for _ in calls.unary_stream("/cost/Down")(b""):
            pass
        found["a MiB down, us"] = (time.perf_counter() - began) / PIECES * 1e6
        found["a MiB down, us of the processor"] = (used() - before) / PIECES * 1e6
        began, before = time.perf_counter(), used()
        await calls.stream_unary("/cost/Up")(iter([PIECE] * PIECES))
        found["a MiB up, us"] = (time.perf_counter() - began) / PIECES * 1e6
        found["a MiB up, us of the processor"] = (used() - before) / PIECES * 1e6
    return found


async def compare(command: list[str]) -> None:
    """Run a server, measure both ways by turns, and print a table."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ports = [int(port) for port in process.stdout.readline().split()]
        rounds: dict[str, list[list[float]]] = defaultdict(lambda: [[], []])
        for _ in range(ROUNDS):
            for way, port in enumerate(ports):
                for name, each in (await measure(port, psutil.Process(process.pid))).items():
                    rounds[name][way].append(each)
    finally:
        process.kill()
        process.wait()
    print(f"load average {os.getloadavg()[0]:.0f}; median (best) of {ROUNDS}\n")
    print("| | direct | relay | ratio |\n| --- | ---: | ---: | ---: |")
    for name, ways in rounds.items():
        middle = [statistics.median(each) for each in ways]
        cells = [f"{statistics.median(each):.0f} ({min(each):.0f})" for each in ways]
        print(f"| {name} | {cells[0]} | {cells[1]} | {middle[1] / middle[0]:.2f} |")


def main() -> None:
    """Measure, or serve to be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.service.relay_cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().serve:
        uvloop.run(serve())
    else:
        asyncio.run(compare([sys.executable, "-m", "benchmarks.service.relay_cost", "--serve"]))


if __name__ == "__main__":
    main()
