"""The pictures that a generation names: from the store to pixels of its size.

A request names pictures by their uploads' ids; its generation knows where each of them lies. Any
field that names one is read in the same way.
"""

import contextlib
import inspect
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    AutoPipelineForInpainting,
    AutoPipelineForText2Image,
    ChromaImg2ImgPipeline,
    ChromaPipeline,
    MultiControlNetModel,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from PIL import ImageOps

from hidiffusion.decode import encode_tiles
from service.application.ports import ObjectStore
from service.domain.errors import NotFound
from service.domain.generations.generation import Generation
from service.domain.models.controls import picture_field
from service.domain.models.image_prompts import PICTURE_FIELD
from service.domain.requests.request import ResolvedRequest
from service.worker.job.failures import InputNotFound, UnsupportedRequest
from service.worker.weights.controls import control_arguments
from service.worker.weights.warm import WarmPipeline

#: Pipelines that start from a picture and that AutoPipeline does not know. Chroma's for masks asks
#: its transformer for a setting that it does not have (diffusers 0.42.1).
_UNLISTED: dict[Any, Any] = {ChromaPipeline: ChromaImg2ImgPipeline}

#: Fields of a request that name a picture, and what Pillow calls the pixels that each is read as;
#: the pictures of its controls come beside them.
_MODES = {"image": "RGB", "mask": "L"}

#: What shows through where an uploaded picture is transparent; a mask keeps what is under it there,
#: so it says luminance times alpha.
_GROUNDS = {"RGB": "white", "L": "black"}

#: The pictures of a generation, by the field that names them.
Pictures = Mapping[str, PIL.Image.Image]


def load_pictures(store: ObjectStore, generation: Generation) -> Pictures:
    """Every picture that a generation names; all but a prompt, and what is upscaled, fill its size.

    Raises:
        InputNotFound: the store has lost one.
        Unavailable, StoreError: the store cannot be asked.
    """
    request, pictures = generation.request, {}
    named = {field: (getattr(request, field), mode) for field, mode in _MODES.items()}
    named |= {picture_field(n): (each.image, "RGB") for n, each in enumerate(request.controls)}
    for field, (upload_id, mode) in named.items():
        if upload_id is not None:
            whole = load_picture(store, generation, upload_id, mode)
            if request.scale is not None:  # an upscaler's, of its own size
                pictures[field] = whole
                continue
            pictures[field] = filling(whole, request.width, request.height)
    if request.image_prompt is not None:
        whole = load_picture(store, generation, request.image_prompt.image)
        pictures[PICTURE_FIELD] = whole
    return pictures


def load_picture(
    store: ObjectStore, generation: Generation, upload_id: str, mode: str = "RGB"
) -> PIL.Image.Image:
    """One picture that a generation names, of its own size.

    Args:
        store: where it is.
        generation: knows under which key.
        upload_id: what the request calls it.
        mode: what Pillow calls the pixels wanted: "RGB" or "L".

    Raises:
        InputNotFound: the store has lost it.
        Unavailable, StoreError: the store cannot be asked.
    """
    try:
        data = store.get(generation.inputs[upload_id])
    except (KeyError, NotFound):
        raise InputNotFound(upload_id) from None
    picture: PIL.Image.Image = PIL.Image.open(io.BytesIO(data))
    if picture.has_transparency_data:
        ground = PIL.Image.new("RGBA", picture.size, _GROUNDS[mode])
        picture = PIL.Image.alpha_composite(ground, picture.convert("RGBA"))
    return picture.convert(mode)


def filling(picture: PIL.Image.Image, width: int, height: int) -> PIL.Image.Image:
    """A picture brought to a size in pixels, undistorted: what sticks out is cut off evenly."""
    if picture.size == (width, height):
        return picture
    return ImageOps.fit(picture, (width, height), PIL.Image.Resampling.LANCZOS)


def sibling(warm: WarmPipeline, pictures: Pictures) -> Any:
    """The pipeline for these pictures, on the modules that are loaded already.

    Raises:
        UnsupportedRequest: diffusers has none for the model.
    """
    build: Any = AutoPipelineForText2Image
    if "image" in pictures:
        build = AutoPipelineForInpainting if "mask" in pictures else AutoPipelineForImage2Image
    elif not warm.controlnets:
        return warm.pipe
    if build is AutoPipelineForImage2Image:
        build = _UNLISTED.get(type(warm.pipe), build)
    # One alone is also wrapped: so it is called, and passed over, in one way.
    wrap: Any = MultiControlNetModel
    nets = {"controlnet": wrap(warm.controlnets)} if warm.controlnets else {}
    try:
        pipe = build.from_pipe(warm.pipe, **nets)
    except ValueError as error:
        what = "be guided by controls" if nets else "start from a picture"
        field = "controls" if nets else "mask" if "mask" in pictures else "image"
        raise UnsupportedRequest(
            f"model {warm.model.name!r} cannot {what}: {error}; leave {field} out"
        ) from error
    if "image" in pictures and "strength" not in inspect.signature(type(pipe).__call__).parameters:
        raise UnsupportedRequest(
            f"model {warm.model.name!r} cannot start from a picture: {type(pipe).__name__} takes "
            "pictures to look at beside the prompt; leave image out"
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def arguments(pictures: Pictures, request: ResolvedRequest) -> dict[str, Any]:
    """What `sibling` is called with beside a prompt."""
    maps = [pictures[picture_field(number)] for number in range(len(request.controls))]
    given = control_arguments(request.controls, maps, image="image" in pictures)
    if "image" in pictures:
        given |= {"image": pictures["image"], "strength": request.strength}
    if "mask" in pictures:
        given["mask_image"] = pictures["mask"]
    if PICTURE_FIELD in pictures:
        given["ip_adapter_image"] = pictures[PICTURE_FIELD]
    return given


def restored(pixels: torch.Tensor, left: int, top: int, pictures: Pictures) -> torch.Tensor:
    """Decoded pixels, with the picture that was given back in its place where the mask keeps it.

    Args:
        pixels: `[1, 3, h, w]` on [-1, 1], a part of the whole.
        left: where the part begins, in pixels.
        top: likewise.
        pictures: what the generation started from, of the size of the whole.
    """
    if "mask" not in pictures:
        return pixels
    height, width = pixels.shape[2:]
    box = (left, top, left + width, top + height)
    given = torch.from_numpy(np.array(pictures["image"].crop(box))).to(pixels)
    drawn = torch.from_numpy(np.array(pictures["mask"].crop(box))).to(pixels) / 255
    kept = given.permute(2, 0, 1)[None] / 127.5 - 1
    return pixels * drawn + kept * (1 - drawn)


@contextlib.contextmanager
def encoding_in_tiles(vae: Any, alive: Callable[[], None]) -> Iterator[None]:
    """Have an autoencoder encode in bounded memory inside the block, wherever its weights wait.

    Pipelines may leave it in another dtype than they found it in; it gets back its own.
    """
    dtype = vae.dtype

    def encode(picture: Any) -> AutoencoderKLOutput:
        home = vae.device
        vae.to(picture.device)
        try:
            posterior = encode_tiles(vae, picture, progress=lambda *_: alive())
        finally:
            vae.to(home)
        parameters = posterior.parameters.to(picture.device)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(parameters))

    vae.encode = encode
    try:
        yield
    finally:
        del vae.encode
        if vae.dtype is not dtype:
            vae.to(dtype)
