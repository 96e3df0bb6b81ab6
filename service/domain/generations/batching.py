"""Which generations may be drawn as one batch, each row as if it were alone."""

from service.domain.requests.request import ResolvedRequest

#: What each row of a batch has for itself.
_OWN = {
    "prompt",
    "class_label",
    "negative_prompt",
    "seed",
    "output_format",
    "bit_depth",
    "quality",
    "tile_format",
    "tiles",
    "metadata",
}


def batch_key(request: ResolvedRequest) -> str | None:
    """What requests must share to be drawn together; None for one that is drawn by itself.

    Requests with and without a negative prompt do not go together: some models embed "none" in
    another way than an empty one. Weighted prompts may be longer than others, and a row that is
    padded to the length of its neighbour is another picture.
    """
    pictured = request.image is not None or request.controls or request.image_prompt
    if pictured or request.prompt_weighting or request.upscale:
        return None
    shared = request.model_dump_json(exclude=_OWN)
    return f"{bool(request.negative_prompt)} {shared}"
