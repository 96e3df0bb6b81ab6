"""Hold the count of objects against pictures that were judged by eye.

    python -m benchmarks.quality.eye

`judged/` has 64 pictures of 512x512, the native pictures of their prompts and seeds, and what a
person saw in each. docs/quality.md says what was asked, and when.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.quality import measures
from benchmarks.quality.enlarge import enlarge
from benchmarks.quality.plan import NATIVE, Size

JUDGED = Path(__file__).with_name("judged")
#: Side of the judged pictures in pixels.
SIDE = 512


@dataclass(frozen=True)
class Verdict:
    """What the eye and the count say of a picture.

    Args:
        weights: Whose picture it is.
        method: How it was drawn.
        noun: What it should show.
        several: The eye sees more separate objects than in the native picture.
        repeats: The eye sees an object or a part of it repeated, separate or grown together.
        counted: `measures.count_objects` counts more than in the enlarged native picture.
    """

    weights: str
    method: str
    noun: str
    several: bool
    repeats: bool
    counted: bool


def verdicts() -> list[Verdict]:
    """Return every judged picture with its count, in the order of the sheet."""
    pictures, natives = _tiles("pictures.webp", SIDE), _tiles("natives.webp", NATIVE)
    entries = json.loads((JUDGED / "eye.json").read_text())
    size = Size(SIDE, SIDE)
    references = [measures.count_objects(enlarge(native, size), native) for native in natives]
    found = []
    for entry, picture in zip(entries, pictures, strict=True):
        number = entry.pop("native")
        native, wanted = natives[number], references[number]
        found.append(Verdict(**entry, counted=measures.count_objects(picture, native) > wanted))
    return found


def _tiles(name: str, side: int) -> list[measures.Pixels]:
    sheet = np.asarray(Image.open(JUDGED / name).convert("RGB"))
    corners = [
        (y, x) for y in range(0, sheet.shape[0], side) for x in range(0, sheet.shape[1], side)
    ]
    return [sheet[y : y + side, x : x + side] for y, x in corners]


def main() -> None:
    """Print how often count and eye agree, and where they do not."""
    every = verdicts()
    for asked in ("several", "repeats"):
        seen = [getattr(verdict, asked) for verdict in every]
        both = sum(verdict.counted and eye for verdict, eye in zip(every, seen, strict=True))
        counted = sum(verdict.counted for verdict in every)
        agreed = sum(verdict.counted == eye for verdict, eye in zip(every, seen, strict=True))
        print(
            f"{asked}: {agreed} of {len(every)} agree; "
            f"the eye sees it in {sum(seen)}, the count in {counted}, both in {both}"
        )
    for verdict in every:
        if verdict.counted != verdict.several:
            print(verdict)


if __name__ == "__main__":
    main()
