"""What batching brings: the same small pictures with and without it, the same run.

    python -m benchmarks.service.batching --write

Two embedded services with the shipped model get the same requests at once, in turn: one draws each
by itself, the other up to `--batch` together. The clock stops when the last picture is stored. The
pictures of both are compared. Prints a table for people and JSON as its last line.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from benchmarks.service.asking import difference, picture_of, wait_until_made
from benchmarks.service.result import report, where
from service.cli.embedded import embedded_service
from service.settings import ApiSettings, Settings, WorkerSettings
from tests.servers import free_port

RESULT = Path(__file__).parents[1] / "results" / "batching.json"
NOUNS = ("apple", "pizza", "frog", "tree", "mushroom", "strawberry", "balloon", "guitar")


def make_all(url: str, requests: Sequence[dict[str, Any]]) -> tuple[float, list[bytes]]:
    """Seconds from the first request to the last picture, and the pictures."""
    with httpx.Client(base_url=url, timeout=3600) as client:
        begin = time.perf_counter()
        records = [client.post("/v1/generations", json=each).json() for each in requests]
        for record in records:
            wait_until_made(client, record)
        seconds = time.perf_counter() - begin
        return seconds, [picture_of(client, record) for record in records]


def measure(size: int, steps: int, count: int, batch: int, repeats: int) -> dict[str, Any]:
    """Time both services in turn, after a picture of each to warm up."""
    requests = [
        {
            "prompt": f"a {NOUNS[number % len(NOUNS)]}",
            "width": size,
            "height": size,
            "num_inference_steps": steps,
            "method": "direct",
            "seed": number,
        }
        for number in range(count)
    ]
    seconds: dict[int, list[float]] = {1: [], batch: []}
    pictures: dict[int, list[bytes]] = {}
    with ExitStack() as stack:
        urls = {}
        for rows in seconds:
            api = ApiSettings(http_port=free_port(), grpc_port=free_port())
            settings = Settings(api=api, worker=WorkerSettings(max_batch=rows))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            running = stack.enter_context(embedded_service(folder, settings))
            running.wait_until_ready()
            urls[rows] = running.url
            make_all(running.url, requests[:1])
        for repeat in range(repeats):
            for rows, url in urls.items():
                spent, pictures[rows] = make_all(url, requests)
                seconds[rows].append(spent)
            one, other = seconds[1][-1], seconds[batch][-1]
            print(f"{repeat}: one by one {one:.2f} s, together {other:.2f} s, {one / other:.2f}")
    differences = [
        difference(alone, together)
        for alone, together in zip(pictures[1], pictures[batch], strict=True)
    ]
    ratios = [one / other for one, other in zip(seconds[1], seconds[batch], strict=True)]
    return {
        "size": size,
        "steps": steps,
        "pictures": count,
        "batch": batch,
        "seconds_one_by_one": [round(each, 2) for each in seconds[1]],
        "seconds_together": [round(each, 2) for each in seconds[batch]],
        "throughput_ratio_median": round(statistics.median(ratios), 3),
        "largest_difference": max(differences),
        **where(),
    }


def main() -> None:
    """Measure, print and, if asked to, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.service.batching", description=__doc__
    )
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--pictures", type=int, default=17)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT}")
    options = parser.parse_args()
    result = measure(options.size, options.steps, options.pictures, options.batch, options.repeats)
    print("| size | steps | pictures | batch | one by one (s) | together (s) | throughput |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    one, other = (
        statistics.median(result[name]) for name in ("seconds_one_by_one", "seconds_together")
    )
    print(
        f"| {options.size}x{options.size} | {options.steps} | {options.pictures} | {options.batch} "
        f"| {one:.1f} | {other:.1f} | {result['throughput_ratio_median']:.2f} |"
    )
    report(result, RESULT, write=options.write)


if __name__ == "__main__":
    main()
