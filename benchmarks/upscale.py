"""The small Inf-DiT beside bicubic and Lanczos, on pictures that it has not seen.

    python -m benchmarks.upscale --pictures 24            a table, and one JSON document last
    python -m benchmarks.upscale --pictures 24 --write    also renew results, card and picture

Every picture is shrunk four times by Pillow's bicubic, which is not the resampling that training
used, and enlarged again by each way. PSNR says how near the pixels are. GMSD (Xue et al., IEEE
Transactions on Image Processing 2014, 0 is best) says how near the edges are: the deviation of the
similarity of gradients, which people's judgements follow better. Intervals are of 95 %, from
pictures drawn with replacement; "beside Lanczos" is the mean difference, picture by picture.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from benchmarks.quality.enlarge import inf_dit, lanczos
from benchmarks.quality.measures import Pixels
from benchmarks.quality.statistics import bootstrap, resamples
from models.train.blocks import write_figures
from models.train.config import TrainConfig
from models.train.trainings.upscaler import unseen_pictures

#: Enlarges a square picture to a side.
Way = Callable[[Image.Image, int], Image.Image]
SCALE = 4
RESULT = Path(__file__).parent / "results" / "upscale.json"


def psnr(made: Pixels, true: Pixels) -> float:
    """Peak signal-to-noise ratio in dB."""
    error = np.mean((made.astype(np.float64) - true) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def gmsd(made: Pixels, true: Pixels) -> float:
    """Gradient magnitude similarity deviation of the luminance, at half size as its authors do."""
    one, other = (_gradients(picture) for picture in (made, true))
    constant = 170.0  # of the paper, for values up to 255
    similarity = (2 * one * other + constant) / (one**2 + other**2 + constant)
    return float(similarity.std())


def _gradients(picture: Pixels) -> NDArray[np.float64]:
    light = picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    half = ndimage.uniform_filter(light, 2)[::2, ::2]
    across, down = (ndimage.prewitt(half, axis) / 3 for axis in (0, 1))
    return np.hypot(across, down)


def bicubic(small: Image.Image, side: int) -> Image.Image:
    """Enlarge by the filter that made the picture small."""
    return small.resize((side, side), Image.Resampling.BICUBIC)


def measure(ways: dict[str, Way], pictures: Pixels) -> dict[str, Any]:
    """Measure each way on each picture."""
    rows: dict[str, Any] = {}
    draws = resamples([str(number) for number in range(len(pictures))])
    figures: dict[str, dict[str, list[float]]] = {}
    for name, enlarge in ways.items():
        _enlarged(enlarge, _shrunk(pictures[0]))  # loads what it needs
        figures[name] = {"psnr": [], "gmsd": [], "seconds": []}
        for true in pictures:
            small = _shrunk(true)
            begin = time.process_time()
            made = _enlarged(enlarge, small)
            figures[name]["seconds"].append(time.process_time() - begin)
            figures[name]["psnr"].append(psnr(made, true))
            figures[name]["gmsd"].append(gmsd(made, true))
    for name, values in figures.items():
        row: dict[str, Any] = {"seconds": round(float(np.mean(values["seconds"])), 3)}
        for measure_name in ("psnr", "gmsd"):
            own = np.array(values[measure_name])
            lanczos = np.array(figures["Lanczos"][measure_name])
            for label, numbers in (("", own), ("_beside_lanczos", own - lanczos)):
                estimate = bootstrap(lambda r, n=numbers: float(n[r].mean()), draws, len(own))
                row[measure_name + label] = estimate.rounded(4)
        rows[name] = row
    return {"pictures": len(pictures), "scale": SCALE, "ways": rows}


def table(figures: dict[str, Any]) -> str:
    """Lay the figures out for the card."""
    lines = [
        "| enlarged by | PSNR, dB | beside Lanczos | GMSD | beside Lanczos | processor seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in figures["ways"].items():
        cells = [
            f"{row[key]['value']:.{digits}f} ({row[key]['low']:.{digits}f} to "
            f"{row[key]['high']:.{digits}f})"
            for key, digits in (
                ("psnr", 2),
                ("psnr_beside_lanczos", 2),
                ("gmsd", 4),
                ("gmsd_beside_lanczos", 4),
            )
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {row['seconds']:.2f} |")
    return "\n".join(lines)


def sheet(ways: list[Way], pictures: Pixels) -> Image.Image:
    """Put six pictures side by side: a row of the true ones, then a row a way."""
    shown = pictures[:: max(1, len(pictures) // 6)][:6]
    rows = [shown, *([_enlarged(enlarge, _shrunk(true)) for true in shown] for enlarge in ways)]
    return Image.fromarray(np.concatenate([np.concatenate([*row], 1) for row in rows]))


def _enlarged(enlarge: Way, small: Image.Image) -> Pixels:
    return np.asarray(enlarge(small, small.width * SCALE))


def _shrunk(true: Pixels) -> Image.Image:
    size = (true.shape[1] // SCALE, true.shape[0] // SCALE)
    return Image.fromarray(true).resize(size, Image.Resampling.BICUBIC)


def main() -> None:
    """Measure, print the table and, last, the figures as one JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="python -m benchmarks.upscale",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--write", action="store_true", help="renew results, card and picture")
    options = parser.parse_args()
    config = TrainConfig()
    pictures, _ = unseen_pictures(config, options.pictures)
    small: dict[str, Way] = {
        f"Inf-DiT small, steps: {steps}": partial(inf_dit, num_inference_steps=steps)
        for steps in options.steps
    }
    figures = measure({"bicubic": bicubic, "Lanczos": lanczos, **small}, pictures)
    print(table(figures))
    if options.write:
        RESULT.write_text(json.dumps(figures, indent=2) + "\n")
        write_figures(config.paths.upscaler / "README.md", table(figures))
        picture = sheet([lanczos, next(iter(small.values()))], pictures)
        picture.save(config.paths.images / "upscale.webp", quality=90)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
