"""Draw nouns beside each other, a method a row: the pictures of the README and of docs/model.md.

    python -m benchmarks.quality.showcase --size 1024 --steps 12 --out sheet.webp
    python -m benchmarks.quality.showcase --methods native direct hidiffusion --out rows.webp

No labels: the caption says what the rows are. "native" is the picture at native size.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from benchmarks.quality.plan import DIRECT, NATIVE_SIZE, Job, Prompt, Size, prompts
from benchmarks.quality.studio import Sampling, Studio, known_variant

#: Row of the pictures at native size.
NATIVE = "native"


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.showcase",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--out", type=Path, required=True, help="picture to write")
    result.add_argument("--nouns", nargs="+", help="a column each; all of them by default")
    result.add_argument(
        "--methods", nargs="+", default=["direct", "hidiffusion", "hidiffusion-guided"]
    )
    result.add_argument("--size", type=Size.parse, default=Size(512, 512), help="width first")
    result.add_argument("--seed", type=int, default=0)
    result.add_argument("--steps", type=int, default=25)
    result.add_argument("--side", type=int, default=256, help="height of a row in pixels")
    return result


def columns(nouns: list[str] | None) -> list[Prompt]:
    """Return the plainest prompt of each noun, in the order asked for.

    Raises:
        ValueError: The model does not know a noun.
    """
    every = prompts()
    plainest = every[: len({prompt.noun for prompt in every})]
    known = {prompt.noun: prompt for prompt in plainest}
    for noun in nouns or ():
        if noun not in known:
            raise ValueError(f"noun is {noun!r}; choose from {', '.join(sorted(known))}")
    return [known[noun] for noun in nouns or known]


def rows(options: argparse.Namespace) -> list[list[Job]]:
    """Return what is shown, a row a method.

    Raises:
        ValueError: A noun, a method or an option is not known.
    """
    chosen = columns(options.nouns)
    kinds = [
        (NATIVE_SIZE, DIRECT) if name == NATIVE else (options.size, known_variant(name))
        for name in options.methods
    ]
    return [[Job(one, options.seed, size, kind) for one in chosen] for size, kind in kinds]


def sheet(studio: Studio, shown: list[list[Job]], side: int) -> Image.Image:
    """Lay pictures out, each `side` pixels high."""
    width = max(side * job.size.width // job.size.height for row in shown for job in row)
    result = Image.new("RGB", (width * len(shown[0]), side * len(shown)), "white")
    for line, row in enumerate(shown):
        for place, job in enumerate(row):
            picture = Image.fromarray(studio.picture(job))
            picture = picture.resize(
                (side * job.size.width // job.size.height, side), Image.Resampling.LANCZOS
            )
            result.paste(picture, (place * width + (width - picture.width) // 2, line * side))
    return result


def main() -> None:
    """Draw what is missing, and the sheet."""
    command = parser()
    options = command.parse_args()
    try:
        shown = rows(options)
    except ValueError as error:
        command.error(str(error))
    studio = Studio(Sampling(steps=options.steps))
    studio.draw(job for row in shown for job in row)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(studio, shown, options.side).save(options.out, quality=90, method=6)


if __name__ == "__main__":
    main()
