"""What the service costs over the pipeline that it calls: the same pictures, the same run.

    python -m benchmarks.service.overhead --write

All sides make the same PNG from the same request with the shipped model, in turn, warm. `script`
loads diffusers' pipeline once, calls it, and saves the file. `litserve` serves the same calls over
HTTP (`pip install --no-deps --target .cache/litserve litserve pyzmq`). The service is asked over
HTTP and the clock stops when the last byte of the picture has arrived, with progress, previews,
tiles, manifest and checkpoints as they are by default. Work such as 256:4:6 is sent all at once,
and the clock stops at the last picture. The pictures are compared. Prints a table for people and
JSON as its last line.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from benchmarks.service.asking import difference, picture_of, wait_until_made
from benchmarks.service.result import report, where
from benchmarks.service.rivals import LitServe, Rival, Script
from service.cli.embedded import embedded_service
from service.settings import ApiSettings, Settings
from tests.servers import free_port

RESULT = Path(__file__).parents[1] / "results" / "overhead.json"

Make = Callable[[dict[str, Any]], tuple[float, bytes]]


class Work(NamedTuple):
    """Pictures of one kind: side in pixels, steps, and how many are asked for at once."""

    size: int
    steps: int
    at_once: int = 1

    @classmethod
    def parse(cls, text: str) -> "Work":
        """Reads `SIZE:STEPS` or `SIZE:STEPS:AT_ONCE`."""
        try:
            return cls(*map(int, text.split(":")))
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not SIZE:STEPS or SIZE:STEPS:AT_ONCE, such as 256:25 or 256:4:6"
            ) from error

    def requests(self) -> list[dict[str, Any]]:
        """What is asked for."""
        return [
            {
                "prompt": "a red guitar",
                "width": self.size,
                "height": self.size,
                "num_inference_steps": self.steps,
                "guidance_scale": 3.0,
                "scheduler": "DDIMScheduler",
                "method": "hidiffusion",
                "seed": 7 + number,
            }
            for number in range(self.at_once)
        ]


class Service:
    """The service, asked over HTTP."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=3600)

    def make(self, request: dict[str, Any]) -> tuple[float, bytes]:
        """Returns the seconds to the last byte of a picture, and the picture."""
        client, begin = self._client, time.perf_counter()
        record = client.post("/v1/generations", json=request).raise_for_status().json()
        wait_until_made(client, record)
        picture = picture_of(client, record)
        return time.perf_counter() - begin, picture


def seconds_of(make: Make, requests: Sequence[dict[str, Any]]) -> float:
    """Returns the seconds until the last of the pictures is there."""
    if len(requests) == 1:
        return make(requests[0])[0]
    with ThreadPoolExecutor(len(requests)) as pool:
        begin = time.perf_counter()
        list(pool.map(make, requests))
        return time.perf_counter() - begin


def measure(name: str, rival: Rival, service: Service, work: Work, repeats: int) -> dict[str, Any]:
    """Times both in turn, after a picture of each to warm up; these are compared."""
    requests = work.requests()
    differs = difference(rival.make(requests[0])[1], service.make(requests[0])[1])
    theirs, ours = [], []
    for _ in range(repeats):
        theirs.append(seconds_of(rival.make, requests))
        ours.append(seconds_of(service.make, requests))
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    return {
        **work._asdict(),
        "rival": name,
        "rival_seconds": [round(seconds, 3) for seconds in theirs],
        "service_seconds": [round(seconds, 3) for seconds in ours],
        "ratio_median": round(statistics.median(ratios), 4),
        "ratio_of_fastest": round(min(ours) / min(theirs), 4),
        "largest_difference": differs,
    }


def line(row: dict[str, Any]) -> str:
    """Returns a row of the table."""
    theirs, ours = (statistics.median(row[f"{side}_seconds"]) for side in ("rival", "service"))
    return (
        f"| {row['size']}x{row['size']} | {row['steps']} | {row['at_once']} | {row['rival']} "
        f"| {theirs:.2f} | {ours:.2f} | {row['ratio_median']:.2f} | {row['ratio_of_fastest']:.2f} |"
    )


def main() -> None:
    """Measure, print and, if asked to, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.service.overhead", description=__doc__
    )
    parser.add_argument(
        "--work",
        nargs="+",
        type=Work.parse,
        metavar="SIZE:STEPS[:AT_ONCE]",
        default=[Work(1024, 25), Work(256, 25), Work(256, 1), Work(256, 4, 6)],
        help="pictures to make, such as 256:25, or 256:4:6 for six at once, which a script cannot",
    )
    parser.add_argument("--repeats", type=int, default=5)
    packages = Path(".cache/litserve")
    parser.add_argument("--litserve", type=Path, default=packages, help="folder of its packages")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT}")
    options = parser.parse_args()
    settings = Settings(api=ApiSettings(http_port=free_port(), grpc_port=free_port()))
    rows = []
    print("| size | steps | at once | rival | rival (s) | service (s) | ratio | of the fastest |")
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name, embedded_service(Path(name), settings) as running:
        running.wait_until_ready()
        service, folder = Service(running.url), Path(name)
        rivals: dict[str, Callable[[], Rival]] = {
            "script": lambda: Script(folder),
            "litserve": lambda: LitServe(folder, options.litserve),
        }
        for rival, start in rivals.items():
            with start() as opponent:
                for work in options.work:
                    if work.at_once == 1 or rival != "script":
                        rows.append(measure(rival, opponent, service, work, options.repeats))
                        print(line(rows[-1]), flush=True)
    result = {
        "rows": rows,
        **where(),
    }
    report(result, RESULT, write=options.write)


if __name__ == "__main__":
    main()
