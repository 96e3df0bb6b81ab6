"""What the noun classifier sees in pictures, and how sure a share of them is."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from models.train.data.dataset import to_tensor
from models.train.trainings.classifier import SIDE, load_classifier


@torch.no_grad()
def recognised(folder: Path, pictures: Tensor, nouns: list[str]) -> list[bool]:
    """Tells of each picture whether the classifier sees its noun, among all that it knows.

    Args:
        folder: The classifier's.
        pictures: Shape (n, 3, h, w), in -1..1.
        nouns: What each should show.
    """
    classifier, known = load_classifier(folder)
    seen = classifier(F.interpolate(pictures, (SIDE, SIDE), mode="area")).argmax(1)
    return [known[int(best)] == noun for best, noun in zip(seen, nouns, strict=True)]


def small(pictures: list[Image.Image]) -> Tensor:
    """Returns copies of pictures of any size as the classifier takes them, (n, 3, 64, 64)."""
    pixels = (to_tensor(np.array(picture)[None]) for picture in pictures)
    return torch.cat([F.interpolate(each, (SIDE, SIDE), mode="area") for each in pixels])


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share (Wilson, 1927)."""
    z = 1.96
    share, weight = hits / count, z * z / count
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)
