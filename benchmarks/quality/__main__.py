"""Measure what methods do to pictures, with the bundled model.

    python -m benchmarks.quality                    every size, method, prompt and two seeds
    python -m benchmarks.quality --sizes 512:24 1024:8 --seeds 1 --steps 12
    python -m benchmarks.quality sweep --sizes 512 --prompts 12 --t1 0.2 0.4 0.7 1
    python -m benchmarks.quality ... --write        also renew the results, docs and grids

Pictures are kept in .cache/quality: a run that was stopped goes on, another one reuses them. A
method is a name of hidiffusion.methods.registry, with options if need be, such as
hidiffusion:t1_ratio=0.7; or the native picture enlarged: "lanczos", or "inf-dit" by the small
upscaler, such as inf-dit:num_inference_steps=4. The table is for people, the last line is JSON.
docs/quality.md says what the numbers mean.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality import report
from benchmarks.quality.plan import DIRECT, LANCZOS, Part, Size, Variant, prompts
from benchmarks.quality.results import measure_part
from benchmarks.quality.studio import SCHEDULERS, Sampling, Studio, known_variant
from models.train.blocks import fill_block
from models.train.config import ROOT

RESULTS = Path(__file__).parents[1] / "results"
DOCUMENT = ROOT / "docs" / "quality.md"


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("task", nargs="?", choices=("run", "sweep"), default="run")
    result.add_argument("--prompts", type=int, help="how many; all of them by default")
    result.add_argument("--seeds", type=int, default=2, help="seeds of each prompt")
    result.add_argument(
        "--sizes",
        nargs="+",
        default=["512", "768", "1024", "1024x512"],
        metavar="SIZE[:PROMPTS]",
        help="512 or 1024x512, width first",
    )
    methods = ["direct", "hidiffusion", "raunet", "msw-msa", LANCZOS]
    result.add_argument("--methods", nargs="+", default=methods)
    result.add_argument("--steps", type=int, default=25)
    result.add_argument("--scheduler", choices=SCHEDULERS, default="ddim")
    result.add_argument("--guidance-scale", type=float, default=3.0)
    result.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    result.add_argument("--device", default="cpu")
    result.add_argument("--threads", type=int, default=1, help="threads of torch on a CPU")
    result.add_argument("--t1", nargs="+", type=float, default=[0.2, 0.4, 0.6, 0.8, 1.0])
    result.add_argument("--t2", nargs="+", type=float, default=[0.0])
    result.add_argument("--write", action="store_true", help="renew results, docs and grids")
    return result


def plan(options: argparse.Namespace) -> list[Part]:
    """Return the parts of the bench that were asked for.

    Raises:
        ValueError: A size, a method or a number is not known or not allowed.
    """
    variants = sweep_variants(options) if options.task == "sweep" else run_variants(options)
    parts = []
    for text in options.sizes:
        size, _, count = text.partition(":")
        chosen = prompts(int(count) if count else options.prompts)
        parts.append(Part(Size.parse(size), chosen, options.seeds, variants))
    return parts


def run_variants(options: argparse.Namespace) -> tuple[Variant, ...]:
    """Return the methods that were asked for, checked."""
    return tuple(known_variant(text) for text in options.methods)


def sweep_variants(options: argparse.Namespace) -> tuple[Variant, ...]:
    """Return HiDiffusion with every pair of thresholds, direct sampling and the baseline."""
    pairs = itertools.product(options.t1, options.t2)
    swept = (
        Variant("hidiffusion", (("t1_ratio", t1), ("t2_ratio", t2))) for t1, t2 in pairs if t2 <= t1
    )
    return (DIRECT, *swept, Variant(LANCZOS))


def write_run(document: dict[str, Any], studio: Studio, parts: list[Part]) -> None:
    """Renew the result, the tables of the documentation and the grids.

    What another run of the same model and sampling has written stays. A grid is drawn again by a
    run that has all of its rows.
    """
    document = with_earlier(document, RESULTS / "quality.json")
    _write_json("quality", document)
    for part in parts:
        rows = document["sizes"][str(part.size)]["methods"]
        if rows.keys() == {str(variant) for variant in part.variants}:
            report.grid(studio, part, report.grid_file(part.size))
    fill_block(DOCUMENT, "measured", report.tables(document))


def with_earlier(document: dict[str, Any], file: Path) -> dict[str, Any]:
    """Add what an earlier document has, if its pictures were drawn in the same way.

    That is: other sizes, and other methods of a size with the same prompts and seeds.
    """
    earlier = json.loads(file.read_text()) if file.exists() else {}
    if any(earlier.get(key) != document[key] for key in ("model", "sampling")):
        return document
    sizes = earlier["sizes"] | document["sizes"]
    for size in earlier["sizes"].keys() & document["sizes"].keys():
        before, now = earlier["sizes"][size], document["sizes"][size]
        if before | {"methods": None} == now | {"methods": None}:
            sizes[size] = now | {"methods": before["methods"] | now["methods"]}
    smallest_first = sorted(sizes.items(), key=lambda item: Size.parse(item[0]).pixels)
    return document | {"sizes": dict(smallest_first)}


def write_sweep(document: dict[str, Any]) -> None:
    """Renew the sweep's result, its tables and its plot of the first size."""
    _write_json("quality-sweep", document)
    sizes = document["sizes"]
    report.plot_sweep(next(iter(sizes.values())), report.IMAGES / "quality-sweep.png")
    fill_block(DOCUMENT, "sweep", report.sweep_tables(document))


def _write_json(name: str, document: dict[str, Any]) -> None:
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def main() -> None:
    """Draw, measure, print, and write if asked to."""
    command = parser()
    options = command.parse_args()
    torch.set_num_threads(options.threads)
    try:
        parts = plan(options)
    except ValueError as error:
        command.error(str(error))
    sampling = Sampling(options.steps, options.scheduler, options.guidance_scale, options.precision)
    studio = Studio(sampling, options.device)
    studio.draw(job for part in parts for job in part.sampled())
    document = {
        "model": studio.fingerprint,
        "sampling": asdict(sampling),
        "sizes": {str(part.size): measure_part(studio, part) for part in parts},
    }
    if options.write and options.task == "sweep":
        write_sweep(document)
    elif options.write:
        write_run(document, studio, parts)
    print(report.tables(document))
    print(json.dumps(document))


if __name__ == "__main__":
    main()
