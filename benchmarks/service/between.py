"""How long the device has nothing to do between two pictures that wait in the queue.

    python -m benchmarks.service.between --work 512:1:6 --write

The pictures are asked for at once; the times come from the service's own traces. `between` is from
the last decoded region of a picture to the moment when the next one is begun. `one by one` is what
it would be if the next one waited until the last one is encoded and stored, with its manifest: the
same run's time for that, and `between` once more. The bundled model's pictures are smooth and soon
encoded; `--grain` times the same for pictures with grain of these sizes, without a service or a
network. Prints tables for people and JSON as its last line.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import torch

from benchmarks.service.asking import wait_until_made
from benchmarks.service.overhead import Work
from benchmarks.service.result import report, where
from service.cli.embedded import embedded_service
from service.settings import ApiSettings, Settings, StoreSettings, WorkerSettings
from service.storage.store import open_store
from service.worker.job.attempt import Attempt
from service.worker.job.region import Missing, Region
from service.worker.job.stopwatch import Stopwatch
from service.worker.result.render import Rendering
from tests.generations import make_generation
from tests.otlp_collector import Received, otlp_collector
from tests.servers import free_port

RESULT = Path(__file__).parents[1] / "results" / "between.json"

#: One trace for all pictures, so that their spans are found together.
_TRACE = "6869646966667573696f6e2062656e63"

#: Standard deviation of the grain, of 255, on a slope over the whole range.
_GRAIN = 2.0
#: Side of the regions that a decoder hands over, in pixels.
_REGION = 1024


def ask(client: httpx.Client, work: Work) -> None:
    """Asks for all pictures at once; returns when all are made."""
    headers = {"traceparent": f"00-{_TRACE}-6869646966667573-01"}

    def make(request: dict[str, Any]) -> None:
        answer = client.post("/v1/generations", json=request, headers=headers)
        wait_until_made(client, answer.raise_for_status().json())

    with ThreadPoolExecutor(work.at_once) as pool:
        list(pool.map(make, work.requests()))


def summary(work: Work, spans: Sequence[Received]) -> dict[str, Any]:
    """Returns the row of some work, from the spans of all its pictures; seconds."""

    def of(name: str) -> list[Received]:
        return sorted((span for span in spans if span.name == name), key=lambda span: span.begin)

    decoded = [span.end for span in of("decode")]
    begun = [span.begin for span in of("load")]
    between = [(next_ - end) / 1e9 for end, next_ in zip(decoded, begun[1:], strict=False)]
    storing = [
        (manifest.end - encode.begin) / 1e9
        for encode, manifest in zip(of("encode"), of("manifest"), strict=True)
    ]
    one_by_one = statistics.median(storing) + statistics.median(between)
    return {
        **work._asdict(),
        "between_seconds": [round(seconds, 4) for seconds in between],
        "storing_seconds": [round(seconds, 4) for seconds in storing],
        "ratio": round(statistics.median(between) / one_by_one, 3),
    }


def line(row: dict[str, Any]) -> str:
    """Returns a row of the table."""
    between = 1e3 * statistics.median(row["between_seconds"])
    one_by_one = between + 1e3 * statistics.median(row["storing_seconds"])
    return (
        f"| {row['size']}x{row['size']} | {row['steps']} | {row['at_once']} "
        f"| {between:.0f} | {one_by_one:.0f} | {row['ratio']:.2f} |"
    )


def measure(work: Work) -> dict[str, Any]:
    """Makes the pictures in a service of their own, after one to warm up."""
    with (
        otlp_collector() as collector,
        tempfile.TemporaryDirectory() as name,
        embedded_service(
            Path(name),
            Settings(
                api=ApiSettings(http_port=free_port(), grpc_port=free_port()),
                tracing_endpoint=collector.url,
            ),
        ) as running,
        httpx.Client(base_url=running.url, timeout=3600) as client,
    ):
        running.wait_until_ready()
        warm_up = client.post("/v1/generations", json=work.requests()[0]).raise_for_status()
        wait_until_made(client, warm_up.json())
        ask(client, work)
        wanted = ["load", "decode", "encode", "manifest"] * work.at_once
        return summary(work, collector.wait_for(_TRACE, *wanted))


def storing_grain(size: int) -> float:
    """Returns the seconds from the last region of a picture with grain to its manifest."""
    slope = torch.linspace(-0.9, 0.9, size).expand(1, 3, size, size)
    noise = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    pixels = slope + noise * _GRAIN / 127.5

    def draw(_: Missing) -> Generator[Region]:
        for top in range(0, size, _REGION):
            for left in range(0, size, _REGION):
                yield Region(top, left, pixels[..., top : top + _REGION, left : left + _REGION])

    attempt = Attempt(make_generation(size=size), lambda _: None, lambda: False)
    with (
        tempfile.TemporaryDirectory() as name,
        Rendering(
            attempt,
            store=open_store(StoreSettings(url=Path(name).as_uri())),
            settings=WorkerSettings(),
            recipe={"request": attempt.generation.request.model_dump()},
            stopwatch=Stopwatch(),
        ) as rendering,
    ):
        rendering.draw(draw)
        begin = time.perf_counter()
        rendering.finish()
        return time.perf_counter() - begin


def main() -> None:
    """Measure, print and, if asked to, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.service.between", description=__doc__
    )
    parser.add_argument(
        "--work",
        nargs="+",
        type=Work.parse,
        metavar="SIZE:STEPS:AT_ONCE",
        default=[Work(512, 1, 6)],
        help="pictures to make, such as 512:1:6 for six at once",
    )
    parser.add_argument("--grain", nargs="*", type=int, metavar="SIZE", default=[])
    parser.add_argument("--write", action="store_true", help=f"write {RESULT}")
    options = parser.parse_args()
    if any(work.at_once < 2 for work in options.work):
        parser.error("--work needs SIZE:STEPS:AT_ONCE, at least two at once, such as 512:1:6")
    print("| size | steps | at once | between (ms) | one by one (ms) | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    rows = []
    for work in options.work:
        rows.append(measure(work))
        print(line(rows[-1]), flush=True)
    grain = {size: [round(storing_grain(size), 3) for _ in range(3)] for size in options.grain}
    for size, seconds in grain.items():
        print(f"{size}x{size} with grain: {statistics.median(seconds):.2f} s to the manifest")
    result = {
        "rows": rows,
        "grain_storing_seconds": grain,
        **where(),
    }
    report(result, RESULT, write=options.write)


if __name__ == "__main__":
    main()
