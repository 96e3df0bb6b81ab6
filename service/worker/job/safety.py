"""Stable Diffusion's own safety checker, where the catalogue names its weights."""

from typing import Any

import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPImageProcessor

from service.domain.models.catalog import Catalog
from service.settings import WorkerSettings
from service.worker.job.checking import Block, Checker, Pass, Picture, load_checker

#: What a client is told of a blocked picture; which concepts were found is nobody's business.
REASON = "the safety checker takes it for unsafe"


class SafetyChecker:
    """Compares pictures with 17 concepts that the weights hold, by their CLIP embeddings.

    Args:
        source: folder or hub id of a `StableDiffusionSafetyChecker` with its preprocessor.
        device: where it computes, in float32.

    Raises:
        ValueError: it cannot be loaded.
    """

    def __init__(self, source: str, device: torch.device) -> None:
        load: Any = StableDiffusionSafetyChecker.from_pretrained
        try:
            self._network = load(source).to(device).eval()
            self._read = CLIPImageProcessor.from_pretrained(source)
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"the safety_checker {source!r} of the catalogue cannot be loaded ({error}); "
                "name a folder with its config.json, weights and preprocessor_config.json, "
                "or leave it out"
            ) from error
        self._device = device

    def __call__(self, picture: Picture) -> Pass | Block:
        """Block what is near one of the concepts."""
        pixels = self._read(picture.small, return_tensors="pt").pixel_values.to(self._device)
        _, found = self._network(clip_input=pixels, images=[picture.small.copy()])
        return Block(REASON) if found[0] else Pass()


def chosen_checker(
    settings: WorkerSettings, catalog: Catalog, device: torch.device
) -> Checker | None:
    """The operator's own checker, else the catalogue's, else none.

    Raises:
        ValueError: it cannot be loaded.
    """
    if settings.checker:
        return load_checker(settings.checker)
    source = catalog.safety_checker
    return None if source is None else SafetyChecker(source, device)
