"""Time a U-Net step in each stage: direct, patched, and with the authors' package.

    python -m benchmarks.network.unet                                  reduced width, on a CPU
    python -m benchmarks.network.unet --authors-python ENV/bin/python  beside the authors' package
    python -m benchmarks.network.unet --device cuda --dtype float16 --width 1 --batch 2 --compile \\
        --authors-python ENV/bin/python --cases sdxl:2048x2048 sdxl:4096x4096 sd15:1024x1024

Every variant runs in a process of its own, in turn, with the same seeded weights, dtype and
attention (PyTorch's scaled dot product). ENV is the environment of
tests/hidiffusion/reference/requirements.txt. The table is for people, the last line is JSON.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.network import flops

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parents[1] / "results"
WORKER = Path(__file__).parent / "unet_worker.py"
#: Sums of the weights of two releases may differ by rounding, not by more.
WEIGHT_TOLERANCE = 1e-6


def run_variant(variant: str, job: dict[str, Any], python: str) -> dict[str, Any]:
    """Time one variant in a process of its own.

    Raises:
        subprocess.CalledProcessError: The process failed; its own message is on standard error.
    """
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    if variant != "authors":
        environment["PYTHONPATH"] = str(ROOT)
    finished = subprocess.run(
        [python, "-W", "ignore", str(WORKER)],
        input=json.dumps({**job, "variant": variant}),
        env=environment,
        cwd=WORKER.parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return answer


def run_case(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time every variant of one case, such as ``sdxl:2048x2048``."""
    family, _, size = name.partition(":")
    height, width = (int(side) for side in size.split("x"))
    stages = flops.stages(family, height, width)
    job = {
        "family": family,
        "height": height,
        "pixel_width": width,
        "steps": [first for _, first, _ in stages],
        **{
            key: getattr(options, key)
            for key in ("device", "dtype", "width", "batch", "threads", "warmup", "repeats")
        },
    }
    variants = {"direct": sys.executable, "ours": sys.executable}
    if options.compile:
        variants["compiled"] = sys.executable
    if options.authors_python:
        variants["authors"] = options.authors_python
    answers = [run_variant(variant, job, python) for variant, python in variants.items()]
    _require_equal_weights(answers)
    counts = [(flops.mechanisms(active, "both"), first, n) for active, first, n in stages]
    return {"case": name, "job": job, "stages": counts, "variants": answers}


def _require_equal_weights(answers: list[dict[str, Any]]) -> None:
    sums = [answer["weights"] for answer in answers]
    if max(sums) - min(sums) > WEIGHT_TOLERANCE * max(sums):
        raise RuntimeError(f"the variants ran with different weights: sums {sums!r}")


def image_milliseconds(result: dict[str, Any], answer: dict[str, Any]) -> float:
    """Return the time of all U-Net calls of a run, each stage weighted by its steps."""
    times = answer["milliseconds"]
    return float(sum(steps * times[str(first)] for _, first, steps in result["stages"]))


def markdown(results: list[dict[str, Any]]) -> str:
    """Lay the timings out for people."""
    lines = [
        "| case | variant | ms a step, by stage (steps) | s, 50 steps | direct / this "
        "| peak, GiB | permutation |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        direct = image_milliseconds(result, result["variants"][0])
        for answer in result["variants"]:
            times, permuting = answer["milliseconds"], answer["permuting"]
            stages = ", ".join(
                f"{name} {times[str(first)]:.1f} ({steps})"
                for name, first, steps in result["stages"]
            )
            total = image_milliseconds(result, answer)
            shares = [permuting[step] / times[step] for step in permuting]
            lines.append(
                f"| {result['case']} | {answer['variant']} | {stages} | {total / 1e3:.1f} "
                f"| {direct / total:.2f} | {answer['peak_bytes'] / 2**30:.2f} "
                f"| {f'{max(shares):.1%}' if shares else ''} |"
            )
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=["sd15:1024x1024", "sdxl:2048x2048"])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--width", type=float, default=0.2, help="factor on the channels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="also time the compiled U-Net")
    parser.add_argument("--authors-python", help="interpreter that has the authors' package")
    parser.add_argument("--write", help="store the document as results/NAME.json")
    return parser.parse_args()


def main() -> None:
    options = parse()
    results = [run_case(name, options) for name in options.cases]
    document = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "results": results}
    if options.write:
        (RESULTS / f"{options.write}.json").write_text(json.dumps(document, indent=1) + "\n")
    print(markdown(results))
    print(json.dumps(document))


if __name__ == "__main__":
    main()
