"""What people read: tables, grids of pictures, the plot of the sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from PIL import Image, ImageDraw

from benchmarks.quality.plan import Part, Size
from benchmarks.quality.studio import Studio
from models.train.config import ROOT

mpl.use("Agg")

from matplotlib import pyplot as plt

IMAGES = ROOT / "docs" / "images"
HEADINGS = {
    "more_objects": "more objects",
    "agreement": "agreement",
    "accuracy": "right noun",
    "detail_ratio": "detail, of Lanczos",
    "frechet": "Fréchet",
}
SHARES = {"more_objects", "accuracy"}
#: Of a grid: pictures a row, their height, and the room for labels, in pixels.
COLUMNS, HEIGHT, LABEL = 8, 128, 96


def table(part: dict[str, Any]) -> str:
    """Lay one size out: a method a row, values with their 95 % intervals."""
    lines = [
        "| method | " + " | ".join(HEADINGS.values()) + " |",
        "| --- " * (len(HEADINGS) + 1) + "|",
    ]
    for method, row in part["methods"].items():
        cells = " | ".join(_cell(name, row[name]) for name in HEADINGS)
        lines.append(f"| {method} | {cells} |")
    return "\n".join(lines)


def tables(document: dict[str, Any]) -> str:
    """Lay every size out under a heading that says how much was compared, with its grid."""
    return _sections(document, lambda size: [f"![Pictures of {size}](images/quality-{size}.png)"])


def sweep_tables(document: dict[str, Any]) -> str:
    """Lay the sweep out, without grids."""
    return _sections(document, lambda _: [])


def _sections(document: dict[str, Any], after: Callable[[str], list[str]]) -> str:
    how = document["sampling"]
    lines = [
        f"Model `{document['model']}`, {how['steps']} steps, {how['scheduler']}, guidance "
        f"{how['guidance_scale']:g}, {how['precision']}."
    ]
    for size, part in document["sizes"].items():
        lines += [
            f"### {size}",
            f"{part['prompts']} prompts ({part['nouns']} nouns) x {part['seeds']} seeds, so "
            f"{part['pictures_each']} pictures a method.",
            table(part),
            *after(size),
        ]
    return "\n\n".join(lines)


def _cell(name: str, estimate: dict[str, float]) -> str:
    pattern = "{:.0%}" if name in SHARES else "{:.2f}"
    value, low, high = (pattern.format(estimate[key]) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def grid(studio: Studio, part: Part, file: Path) -> None:
    """Draw the first pictures of one size: a row of native ones, then a row a method.

    Args:
        studio: Has the pictures.
        part: The plan of this size.
        file: The picture to write.
    """
    rows = [("native 256", part.references())]
    rows += [(str(variant), part.jobs(variant)) for variant in part.variants]
    columns = min(len(part.prompts), COLUMNS)
    width = HEIGHT * part.size.width // part.size.height
    sheet = Image.new("RGB", (LABEL + columns * width, len(rows) * HEIGHT), "white")
    pen = ImageDraw.Draw(sheet)
    for line, (label, jobs) in enumerate(rows):
        words = label.replace(":", ":\n").replace(",", "\n")
        pen.text((4, line * HEIGHT + HEIGHT // 2), words, fill="black")
        for place, job in enumerate(jobs[: columns * part.seeds : part.seeds]):
            picture = Image.fromarray(studio.picture(job))
            picture.thumbnail((width, HEIGHT), Image.Resampling.LANCZOS)
            left = LABEL + place * width + (width - picture.width) // 2
            sheet.paste(picture, (left, line * HEIGHT))
    sheet.quantize(256, kmeans=8).save(file, optimize=True)


def plot_sweep(document: dict[str, Any], file: Path) -> None:
    """Draw what thresholds trade: right nouns and agreement against detail."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, axis in zip(("accuracy", "agreement"), axes, strict=True):
        for label, row in document["methods"].items():
            shown = label.removeprefix("hidiffusion:").replace("_ratio=", " ").replace(",", "\n")
            place = (row["detail"]["value"], row[name]["value"])
            colour = "#2f7d4f" if label.startswith("hidiffusion") else "#8c8c8c"
            axis.errorbar(*place, _reach(row[name]), _reach(row["detail"]), "o", color=colour)
            axis.annotate(shown, place, xytext=(4, 4), textcoords="offset points", fontsize=7)
        axis.set(xlabel="detail beyond native resolution, grey levels", ylabel=HEADINGS[name])
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=100)
    plt.close(figure)


def _reach(estimate: dict[str, float]) -> list[list[float]]:
    return [
        [max(0.0, estimate["value"] - estimate["low"])],
        [max(0.0, estimate["high"] - estimate["value"])],
    ]


def grid_file(size: Size) -> Path:
    """Return where the grid of a size belongs."""
    return IMAGES / f"quality-{size}.png"
