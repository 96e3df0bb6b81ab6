"""Time one picture by every method on the bundled model, on a CPU.

    python -m benchmarks.method_times --sides 512 1024     the table, and one JSON document last
    python -m benchmarks.method_times --write              also renew results/method-times.json

Counted is the processor time of one thread, from the prompt to the pixels, so that work beside it
counts little. `lanczos` and `inf-dit` are the native picture and its enlargement, the rivals of
every method.
Sampled as in the quality bench: 12 steps of DDIM with guidance, in bfloat16.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality.enlarge import enlarge
from benchmarks.quality.plan import (
    DIRECT,
    INF_DIT,
    LANCZOS,
    NATIVE_SIZE,
    Job,
    Prompt,
    Size,
    Variant,
)
from benchmarks.quality.studio import Sampling, Studio

RESULTS = Path(__file__).parent / "results" / "method-times.json"
METHODS = (
    "direct",
    "hidiffusion",
    "raunet",
    "msw-msa",
    "upsample-guidance",
    "diffuse-high",
    "hidiffusion-guided",
    "hidiffusion-guided:attention_weight=0.5",
    "hidiffusion-refresh",
    f"{INF_DIT}:num_inference_steps=1",
    LANCZOS,
)
PROMPT = Prompt("guitar", "a guitar")


def seconds(studio: Studio, method: str, size: Size, repeats: int) -> float:
    """Return the least processor time of a picture over some repeats."""
    return min(_once(studio, Variant.parse(method), size) for _ in range(repeats))


def _once(studio: Studio, variant: Variant, size: Size) -> float:
    job = Job(PROMPT, 0, *((NATIVE_SIZE, DIRECT) if variant.enlarges else (size, variant)))
    begun = time.process_time()
    (picture,) = studio.sample([job])
    if variant.enlarges:
        enlarge(picture, size, variant)
    return time.process_time() - begun


def markdown(sizes: dict[str, dict[str, float]]) -> str:
    """Lay the times out for people: a method a row."""
    heads = "".join(f" {size}, s | of direct |" for size in sizes)
    lines = ["| method |" + heads, "| --- |" + " --- | --- |" * len(sizes)]
    for method in METHODS:
        cells = "".join(
            f" {times[method]:.1f} | {times[method] / times['direct']:.0%} |"
            for times in sizes.values()
        )
        lines.append(f"| {method} |{cells}")
    return "\n".join(lines)


def main() -> None:
    """Time, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sides", nargs="+", type=int, default=[512])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"renew {RESULTS.name}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    studio = Studio(Sampling(steps=12))
    seconds(studio, "direct", NATIVE_SIZE, 1)
    sizes = {
        str(size): {method: seconds(studio, method, size, options.repeats) for method in METHODS}
        for size in (Size(side, side) for side in options.sides)
    }
    document: dict[str, Any] = {"model": studio.fingerprint, "threads": 1, "steps": 12}
    document["seconds"] = sizes
    if options.write:
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(markdown(sizes))
    print(json.dumps(document))


if __name__ == "__main__":
    main()
