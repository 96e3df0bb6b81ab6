"""The measures of one picture, as plain functions of pixels.

docs/quality.md says what each of them means and where it misleads. Pictures are uint8 arrays
`[height, width, 3]` of an object on white; lengths and areas are in pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch.nn import functional as F

from benchmarks.quality.plan import NATIVE
from models.train.trainings.classifier import SIDE, Classifier

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

#: Darkest channel below white from which on a pixel is part of an object; the ground of the
#: bundled model's pictures stays under it.
INK_THRESHOLD = 0.15
#: Blur before thresholds, so that single pixels decide nothing.
SMOOTHING = 1.5
#: A component counts as an object from this share of the native object's area on.
OBJECT_SHARE = 0.25
#: Side of the pictures whose agreement is measured.
LAYOUT_SIDE = 32


def ink(picture: Pixels) -> Floats:
    """Return how far each pixel is from white, 0..1, smoothed; shape `[height, width]`."""
    smooth = ndimage.gaussian_filter(picture.astype(np.float64), (SMOOTHING, SMOOTHING, 0))
    distance: Floats = 1 - smooth.min(axis=2) / 255
    return distance


def object_areas(picture: Pixels) -> list[int]:
    """Return the areas of the separate objects, the largest first.

    What an object encloses belongs to it, white or not.
    """
    mask = ndimage.binary_fill_holes(ink(picture) > INK_THRESHOLD)
    labels, _ = ndimage.label(mask)
    return sorted(np.bincount(labels.ravel())[1:].tolist(), reverse=True)


def count_objects(picture: Pixels, native: Pixels) -> int:
    """Count the objects that are no crumbs beside the native picture's largest object.

    The area is compared pixel by pixel, not as a share of the picture: an object repeated at native
    size is as large as the native one, however large the picture is.
    """
    largest = max(object_areas(native), default=NATIVE**2)
    return sum(area >= OBJECT_SHARE * largest for area in object_areas(picture))


def agreement(picture: Pixels, native: Pixels) -> float:
    """Return the correlation of two pictures' layouts, -1..1, where 1 is the same layout.

    Both are reduced to 32 pixels a side. Of a picture that is not square the best square counts.
    """
    height, width = picture.shape[:2]
    side = min(height, width)
    wanted = _layout(native)
    steps = range(0, max(height, width) - side + 1, max(1, side // LAYOUT_SIDE))
    return max(
        float(np.corrcoef(_layout(_square(picture, offset, side)), wanted)[0, 1])
        for offset in steps
    )


def _square(picture: Pixels, offset: int, side: int) -> Pixels:
    wide = picture.shape[1] > picture.shape[0]
    return picture[:, offset : offset + side] if wide else picture[offset : offset + side]


def _layout(picture: Pixels) -> Floats:
    small = Image.fromarray(picture).resize((LAYOUT_SIDE, LAYOUT_SIDE), Image.Resampling.BOX)
    flat = np.asarray(small, dtype=np.float64).ravel()
    # A blank picture has no layout; a trace of noise gives it a correlation of about nought.
    return flat + np.random.default_rng(0).normal(0, 1e-3, flat.shape)


def detail(picture: Pixels) -> float:
    """Return what a picture shows beyond native resolution: a root mean square, 0..255.

    It is the difference to the same picture reduced to native resolution and enlarged again.
    """
    height, width = picture.shape[:2]
    shrink = min(height, width) / NATIVE
    image = Image.fromarray(picture)
    small = image.resize((round(width / shrink), round(height / shrink)), Image.Resampling.LANCZOS)
    coarse = small.resize((width, height), Image.Resampling.LANCZOS)
    difference = np.asarray(image, np.float64) - np.asarray(coarse, np.float64)
    return float(np.sqrt((difference**2).mean()))


@torch.no_grad()
def classify(classifier: Classifier, pictures: list[Pixels]) -> tuple[Floats, Floats]:
    """Return the classifier's logits `[n, classes]` and features `[n, f]`.

    Pictures that are not square are put on a white square first.
    """
    seen = torch.cat([_seen(picture) for picture in pictures])
    features = classifier.features(seen)
    return classifier(seen).double().numpy(), features.double().numpy()


def _seen(picture: Pixels) -> torch.Tensor:
    height, width = picture.shape[:2]
    side = max(height, width)
    sheet = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    sheet[top : top + height, left : left + width] = picture
    pixels = torch.from_numpy(sheet).permute(2, 0, 1)[None].float() / 127.5 - 1
    return F.interpolate(pixels, (SIDE, SIDE), mode="area")
