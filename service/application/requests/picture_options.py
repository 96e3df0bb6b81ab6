"""Which options of the full-size picture go together."""

from collections.abc import Iterator

from service.domain.artifacts import BIT_DEPTHS, DEFAULT_QUALITY, MAX_SIDES
from service.domain.errors import FieldViolation
from service.domain.requests.request import GenerationRequest, ResolvedRequest


def resolved_quality(request: GenerationRequest) -> int | None:
    """The quality asked for, else the format's own; None where the format is lossless."""
    return request.quality or DEFAULT_QUALITY.get(request.output_format)


def picture_violations(request: ResolvedRequest) -> Iterator[FieldViolation]:
    """Name each option that the format of the full-size picture cannot fulfil."""
    output_format = request.output_format
    if request.bit_depth not in BIT_DEPTHS[output_format]:
        yield FieldViolation("bit_depth", repr(request.bit_depth), _depths(output_format))
    if request.quality is not None and output_format not in DEFAULT_QUALITY:
        yield FieldViolation(
            "quality",
            repr(request.quality),
            f"{output_format} is lossless and has none; leave it out, or set output_format to one "
            f"of {', '.join(DEFAULT_QUALITY)}",
        )
    limit = MAX_SIDES.get(output_format)
    if limit is not None and max(request.output_width, request.output_height) > limit:
        yield FieldViolation(
            "output_format",
            repr(output_format),
            f"its longest side is {limit} pixels; use png for larger pictures",
        )


def _depths(output_format: str) -> str:
    """What `output_format` holds, and which formats hold more."""
    own = _listed(output_format)
    others = ", ".join(
        f"{name} {_listed(name)}" for name, depths in BIT_DEPTHS.items() if len(depths) > 1
    )
    return f"{output_format} holds {own} bits per channel; formats with a choice are {others}"


def _listed(output_format: str) -> str:
    return " or ".join(str(depth) for depth in BIT_DEPTHS[output_format])
