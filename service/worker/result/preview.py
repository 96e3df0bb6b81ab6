"""Pictures of latents, stored without making the denoising wait."""

import contextlib
import logging
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from PIL.Image import Resampling
from torch.nn import functional

from hidiffusion.decode import PreviewFactors, latents_to_rgb
from service.application.ports import ObjectStore
from service.domain.artifacts import MEDIA_TYPES
from service.domain.errors import ServiceError
from service.domain.generations.events import Previewed
from service.storage.encode import encode
from service.worker.job.attempt import Attempt
from service.worker.job.region import Missing

_log = logging.getLogger(__name__)

#: Longer side of a preview of unfinished latents, in pixels.
PREVIEW_PIXELS = 256


class Previews:
    """Makes previews of one attempt.

    A preview is left out when it cannot be stored, or while the one before is still being stored.

    Args:
        attempt: told of each preview once it is stored.
        store: takes the previews.
        factors: the map from the model's latents to RGB; None, or latents of three channels: RGB.
    """

    def __init__(
        self, attempt: Attempt, store: ObjectStore, factors: PreviewFactors | None
    ) -> None:
        self._attempt = attempt
        self._store = store
        self._factors = factors
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="preview")
        self._under_way: Future[None] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator["Previews"]:
        """Store previews inside the block; at its end none is under way any more."""
        with self._pool:
            yield self

    def settled_before(self, missing: Missing) -> Missing:
        """`missing`, asked once no preview is under way any more: they come before the tiles."""

        def ask(side: int) -> Container[tuple[int, int]]:
            if self._under_way is not None:
                self._under_way.result()
            return missing(side)

        return ask

    def show(self, step: int, latents: torch.Tensor) -> None:
        """Make a preview of `latents`, `[1, C, h, w]`, and store it on another thread."""
        if self._under_way is None or self._under_way.done():
            self._submit(step, latents, PREVIEW_PIXELS)

    def show_last(self, step: int, latents: torch.Tensor) -> None:
        """Make one of the finished latents: what is seen until tiles come.

        It is never shrunk, and stored in any case, after one that is under way.
        """
        self._submit(step, latents, max(PREVIEW_PIXELS, *latents.shape[2:]))

    def _submit(self, step: int, latents: torch.Tensor, pixels_along: int) -> None:
        factors = self._factors
        if factors is None or latents.shape[1] == 3:  # pixels, of an upscaler
            rgb = latents[:1]
        else:
            rgb = latents_to_rgb(latents[:1], factors)
        size = _scaled(rgb.shape[2:], pixels_along)
        if pixels_along < max(rgb.shape[2:]):  # so that little is copied from a device
            rgb = functional.interpolate(rgb, size, mode="bilinear", antialias=True)
        values = ((rgb[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        pixels = values.permute(1, 2, 0).contiguous().cpu().numpy()
        self._under_way = self._pool.submit(self._store_preview, step, pixels, size)

    def _store_preview(self, step: int, pixels: NDArray[np.uint8], size: tuple[int, int]) -> None:
        key = self._attempt.keys.preview(step)
        height, width = size
        # What is small is enlarged here, beside the next step and not before it.
        picture = PIL.Image.fromarray(pixels).resize((width, height), Resampling.BILINEAR)
        try:
            data = encode(np.asarray(picture), "jpeg")
            self._store.put(key, data, MEDIA_TYPES["jpeg"])
        except ServiceError as error:
            _log.warning("no preview of step %d: %s", step, error)
            return
        self._attempt.tell(Previewed, step=step, key=key, width=width, height=height)


def _scaled(size: Sequence[int], along: int) -> tuple[int, int]:
    """`size`, its longer side `along`."""
    height, width = (max(1, round(side * along / max(size))) for side in size)
    return height, width
