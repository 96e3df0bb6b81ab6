"""What the service costs over calling the pipeline in a script: the same picture, the same run.

    python -m benchmarks.service.overhead --write

Both sides make the same PNG from the same request with the shipped model, in turn, warm. The script
loads the pipeline once, calls it, and saves the file; the service is asked over HTTP and the clock
stops when the last byte of the picture has arrived, with progress, previews, tiles, manifest and
checkpoints as they are by default. The rival is `direct`: diffusers' pipeline, its own VAE decode
and Pillow. The pictures of both are compared. Prints a table for people and JSON as its last line.
"""

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from service.cli.embedded import embedded_service
from service.settings import ApiSettings, Settings
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
RESULT = Path(__file__).parents[1] / "results" / "overhead.json"
MODEL = ROOT / "models" / "fluent-emoji-256"

_SCRIPT = """
import json, sys, time
import diffusers, torch
from hidiffusion.methods import registry
source, path = sys.argv[1:]
pipe = diffusers.DiffusionPipeline.from_pretrained(source)
pipe.set_progress_bar_config(disable=True)
for line in sys.stdin:
    request = json.loads(line)
    begin = time.perf_counter()
    pipe.scheduler = getattr(diffusers, request["scheduler"]).from_config(pipe.scheduler.config)
    with registry.get(request["method"]).patched(pipe, seed=request["seed"]):
        pipe(request["prompt"], width=request["width"], height=request["height"],
             num_inference_steps=request["num_inference_steps"],
             guidance_scale=request["guidance_scale"],
             generator=torch.Generator("cpu").manual_seed(request["seed"])).images[0].save(path)
    print(time.perf_counter() - begin, flush=True)
"""


class Script:
    """A process that has the pipeline warm and makes a picture for each request."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "direct.png"
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _SCRIPT, str(MODEL), str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def make(self, request: dict[str, Any]) -> float:
        """Seconds that it takes to make a picture and save it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def ask(url: str, request: dict[str, Any]) -> tuple[float, bytes]:
    """Seconds from the request to the last byte of the picture, and the picture."""
    with httpx.Client(base_url=url, timeout=3600) as client:
        begin = time.perf_counter()
        record = client.post("/v1/generations", json=request).raise_for_status().json()
        with client.stream("GET", record["links"]["events"]) as events:
            final = [line for line in events.iter_lines() if line.startswith("event: ")][-1]
        if final != "event: succeeded":
            raise RuntimeError(f"the generation ended with {final!r}")
        picture = client.get(f"/v1/generations/{record['id']}/image").raise_for_status().content
        return time.perf_counter() - begin, picture


def measure(size: int, steps: int, repeats: int) -> dict[str, Any]:
    """Time both, in turn, after one of each to warm up; the warm-ups' pictures are compared."""
    request = {
        "prompt": "a red guitar",
        "width": size,
        "height": size,
        "num_inference_steps": steps,
        "guidance_scale": 3.0,
        "scheduler": "DDIMScheduler",
        "method": "hidiffusion",
        "seed": 7,
    }
    settings = Settings(api=ApiSettings(http_port=free_port(), grpc_port=free_port()))
    direct, service = [], []
    with tempfile.TemporaryDirectory() as name, embedded_service(Path(name), settings) as running:
        running.wait_until_ready()
        script = Script(Path(name))
        try:
            script.make(request)
            _, picture = ask(running.url, request)
            difference = _difference(script.path.read_bytes(), picture)
            for repeat in range(repeats):
                direct.append(script.make(request))
                service.append(ask(running.url, request)[0])
                ratio = service[-1] / direct[-1]
                print(
                    f"{repeat}: direct {direct[-1]:.2f} s, service {service[-1]:.2f} s, {ratio:.4f}"
                )
        finally:
            script.stop()
    ratios = [ours / theirs for ours, theirs in zip(service, direct, strict=True)]
    return {
        "size": size,
        "steps": steps,
        "repeats": repeats,
        "direct_seconds": [round(seconds, 3) for seconds in direct],
        "service_seconds": [round(seconds, 3) for seconds in service],
        "ratio_median": round(statistics.median(ratios), 4),
        "ratio_of_fastest": round(min(service) / min(direct), 4),
        "largest_difference": difference,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 1),
    }


def _difference(first: bytes, second: bytes) -> int:
    """Largest difference of two pictures in any channel, of 255."""
    one, two = (np.asarray(Image.open(io.BytesIO(data)), np.int16) for data in (first, second))
    return int(np.abs(one - two).max())


def main() -> None:
    """Measure, print and, if asked to, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.service.overhead", description=__doc__
    )
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT}")
    options = parser.parse_args()
    result = measure(options.size, options.steps, options.repeats)
    print("| size | steps | direct (s) | service (s) | ratio, median | ratio of the fastest |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    seconds = [statistics.median(result[f"{side}_seconds"]) for side in ("direct", "service")]
    print(
        f"| {options.size}x{options.size} | {options.steps} | {seconds[0]:.2f} | {seconds[1]:.2f} "
        f"| {result['ratio_median']} | {result['ratio_of_fastest']} |"
    )
    if options.write:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
