"""What samples at native size show: the right noun, how crisply, and where the seed puts it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.train.config import TrainConfig
from models.train.data.dataset import load_nouns
from models.train.figures.judge import recognised, small
from models.train.figures.samples import sample_nouns

#: Darkest channel from which on, of 255, a pixel is ground: 15 % below white, as in the bench.
GROUND = 217
#: Share of the steepest gradients that edges are measured by.
STEEPEST = 0.02


@dataclass(frozen=True)
class Native:
    """Samples of every noun from as many seeds each.

    Args:
        seeds: How many of each noun.
        right: How many of each the classifier takes for it, among all nouns that it knows.
        edges: Mean of the steepest fiftieth of the gradients, in grey levels a pixel.
        place: Deviation of an object's middle over the seeds, in pixels along an axis; mean.
        size: The same of the side of a square of its area.
    """

    seeds: int
    right: dict[str, int]
    edges: float
    place: float
    size: float

    @property
    def samples(self) -> int:
        """Returns the number of samples."""
        return self.seeds * len(self.right)

    @property
    def hits(self) -> int:
        """Returns the number of those that show their noun."""
        return sum(self.right.values())


def native(config: TrainConfig) -> Native:
    """Draws every noun from `config.seeds` seeds with the exported model, and measures it."""
    nouns = [noun.name for noun in load_nouns(config.paths)]
    rounds = [list(sample_nouns(config, seed)) for seed in range(config.seeds)]
    right: Counter[str] = Counter(dict.fromkeys(nouns, 0))
    for pictures in rounds:
        hits = recognised(config.paths.classifier, small(pictures), nouns)
        right.update(noun for noun, hit in zip(nouns, hits, strict=True) if hit)
    shapes = np.array([[shape(picture) for picture in pictures] for pictures in rounds])
    across, down, side = shapes.std(axis=0).mean(axis=0)
    return Native(
        seeds=config.seeds,
        right=dict(right),
        edges=float(np.mean([edges(picture) for pictures in rounds for picture in pictures])),
        place=float((across + down) / 2),
        size=float(side),
    )


def edges(picture: Image.Image) -> float:
    """Returns the mean of the steepest gradients of a picture, in grey levels a pixel."""
    grey = np.asarray(picture.convert("L"), np.float64)
    down, across = grey[1:, :-1] - grey[:-1, :-1], grey[:-1, 1:] - grey[:-1, :-1]
    steep = np.sort(np.hypot(down, across), axis=None)
    return float(steep[-max(1, round(STEEPEST * len(steep))) :].mean())


def shape(picture: Image.Image) -> tuple[float, float, float]:
    """Returns the middle of what is shown, and the side of a square of its area, in pixels.

    A picture that shows nothing has its middle in the frame's.
    """
    shown: NDArray[np.bool_] = np.asarray(picture.convert("RGB")).min(axis=2) < GROUND
    down, across = np.nonzero(shown)
    if not len(down):
        return picture.width / 2, picture.height / 2, 0.0
    return float(across.mean()), float(down.mean()), float(np.sqrt(shown.sum()))
