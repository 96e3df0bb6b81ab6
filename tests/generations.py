"""Generations and events for tests that need some, whatever is in them."""

from datetime import UTC, datetime

from ulid import ULID

from service.domain.artifacts import ArtifactKeys, ArtifactRef, Manifest, Pyramid, TileRef
from service.domain.generations.events import (
    Cancelled,
    Event,
    Failed,
    Previewed,
    Queued,
    Started,
    Stepped,
    Succeeded,
    TileStored,
    WaitingForStore,
)
from service.domain.generations.generation import Failure, Generation, Status
from service.domain.models.methods import METHODS, resolved_options
from service.domain.requests.request import Priority, ResolvedRequest

MODEL = "fox"

#: The largest seed: a store that goes through floating point bends it.
SEED = 2**53 - 1


def now() -> datetime:
    return datetime.now(UTC)


def make_generation(
    prompt: str = "paint",
    model: str = MODEL,
    priority: Priority = "normal",
    size: int = 64,
    timeout_seconds: int | None = None,
) -> Generation:
    request = ResolvedRequest(
        prompt=prompt,
        negative_prompt="",
        model=model,
        width=size,
        height=size,
        num_inference_steps=3,
        guidance_scale=5.1,
        seed=SEED,
        scheduler="DDIMScheduler",
        method="hidiffusion",
        method_options=resolved_options(METHODS["hidiffusion"], {}),
        output_format="png",
    )
    return Generation(
        id=str(ULID()),
        status=Status.QUEUED,
        request=request,
        priority=priority,
        timeout_seconds=timeout_seconds,
        created_at=now(),
    )


def make_manifest(generation: Generation, attempt: int) -> Manifest:
    key = ArtifactKeys(generation.id, attempt).image("png")
    nothing = ArtifactRef(key=key, media_type="image/png", bytes=0, sha256="")
    return Manifest(
        generation_id=generation.id,
        attempt=attempt,
        width=8,
        height=8,
        image=nothing,
        thumbnail=nothing,
        pyramid=Pyramid(tile_size=8, overlap=0, format="png", levels=()),
        recipe={"seed": generation.request.seed},
        created_at=now(),
    )


def step(attempt: int, number: int = 1) -> Stepped:
    return Stepped(attempt=attempt, at=now(), step=number, total=3, eta_seconds=0.5)


def one_of_each(generation: Generation, attempt: int = 1) -> list[Event]:
    """Every kind of event there is."""
    tile = TileRef(level=3, column=1, row=0, left=0, top=0, width=8, height=8, key="k")
    common = {"attempt": attempt, "at": now()}
    return [
        Queued(**common, reason="again"),
        Started(**common, worker="w"),
        step(attempt),
        Previewed(**common, step=1, key="k", width=8, height=8),
        TileStored(**common, tile=tile, done=1, total=2),
        WaitingForStore(**common, reason="STORE_UNAVAILABLE"),
        Succeeded(**common, manifest=make_manifest(generation, attempt)),
        Failed(**common, error=Failure(reason="OOM", detail="no room")),
        Cancelled(**common),
    ]
