"""What clients get to see of a generation: links in place of object keys, nothing internal."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from service.api.http import links
from service.application.generations.query import ModelStatus
from service.application.generations.queue_place import QueuePlace
from service.application.ports import Page
from service.domain.artifacts import ArtifactRef, Manifest, Pyramid, PyramidLevel, TileFormat
from service.domain.generations.generation import Failure, Generation, Progress, Status
from service.domain.models.catalog import Kind
from service.domain.models.methods import Method
from service.domain.requests.request import ClientMetadata, Priority, ResolvedRequest
from service.domain.webhooks import Webhook

_ID = "01K9RZ5T3W8Y7V6X2QJ4N1M0BD"


class View(BaseModel):
    """Base of everything a client reads."""

    model_config = ConfigDict(frozen=True)


class ArtifactView(View):
    """One stored picture."""

    href: str = Field(examples=[links.image(_ID)])
    media_type: str = Field(examples=["image/png"])
    bytes: int = Field(description="Length in bytes.")
    sha256: str = Field(description="Of the bytes, in lower-case hexadecimal.")

    @classmethod
    def of(cls, ref: ArtifactRef, href: str) -> Self:
        """The view of `ref`, which is served at `href`."""
        return cls(href=href, media_type=ref.media_type, bytes=ref.bytes, sha256=ref.sha256)


class PyramidView(View):
    """The Deep Zoom pyramid; sizes in pixels."""

    href: str = Field(description="The descriptor, for any Deep Zoom viewer.")
    tile_size: int
    overlap: int
    format: TileFormat
    levels: tuple[PyramidLevel, ...] = Field(description="From level 0, a single pixel, up.")

    @classmethod
    def of(cls, pyramid: Pyramid, href: str) -> Self:
        """The view of a pyramid whose descriptor is served at `href`."""
        return cls(href=href, **dict(pyramid))


class ResultView(View):
    """What a generation that succeeded left."""

    width: int = Field(description="Pixels.")
    height: int = Field(description="Pixels.")
    image: ArtifactView
    thumbnail: ArtifactView
    pyramid: PyramidView | None = Field(description="Null where no tiles were asked for.")
    recipe: dict[str, Any] = Field(
        description="The request as it ran, the versions that ran it, and the times it took."
    )

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """The view of a finished result."""
        generation_id, pyramid = manifest.generation_id, manifest.pyramid
        tiles = links.tiles(generation_id)
        return cls(
            width=manifest.width,
            height=manifest.height,
            image=ArtifactView.of(manifest.image, links.image(generation_id)),
            thumbnail=ArtifactView.of(manifest.thumbnail, links.thumbnail(generation_id)),
            pyramid=PyramidView.of(pyramid, tiles) if pyramid else None,
            recipe=manifest.recipe,
        )


class LinksView(View):
    """Where to go on; null for what does not exist, or not yet."""

    self: str = Field(examples=[links.generation(_ID)])
    events: str = Field(examples=[links.events(_ID)])
    tiles: str | None = Field(examples=[links.tiles(_ID)])
    iiif: str | None = Field(examples=[links.iiif_info(_ID)])
    image: str | None = Field(examples=[links.image(_ID)])
    thumbnail: str | None = Field(examples=[links.thumbnail(_ID)])

    @classmethod
    def of(cls, generation: Generation) -> Self:
        """The links of `generation` as it stands."""
        done = generation.result is not None
        tiled = generation.attempt and generation.request.tiles
        return cls(
            self=links.generation(generation.id),
            events=links.events(generation.id),
            tiles=links.tiles(generation.id) if tiled else None,
            iiif=links.iiif_info(generation.id) if tiled else None,
            image=links.image(generation.id) if done else None,
            thumbnail=links.thumbnail(generation.id) if done else None,
        )


class QueueView(View):
    """Where a queued generation stands."""

    position: int = Field(description="1 for the next to run.")
    estimated_wait_seconds: float | None = Field(
        description="Until it begins, judged by recent durations; null when nothing tells."
    )


class GenerationView(View):
    """The record of one generation."""

    id: str = Field(examples=[_ID])
    status: Status
    request: ResolvedRequest = Field(description="What runs, with every default filled in.")
    priority: Priority = Field(description="Who is served first among those that wait.")
    timeout_seconds: int | None = Field(description="Longest run of one attempt, as asked for.")
    client_metadata: ClientMetadata = Field(description="As the client gave it.")
    webhook: Webhook | None = Field(description="As the client gave it.")
    expires_in_seconds: int | None = Field(
        description="How long it is kept once final, as asked for."
    )
    attempt: int = Field(description="How often a worker has begun it.")
    progress: Progress
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None = Field(description="Begin of the current attempt.")
    finished_at: datetime | None
    result: ResultView | None = Field(description="Present when it succeeded.")
    error: Failure | None = Field(description="Present when it failed.")
    queue: QueueView | None = Field(
        description="Present while it is queued, where a single record is read."
    )
    links: LinksView

    @classmethod
    def of(cls, generation: Generation, place: QueuePlace | None = None) -> Self:
        """The view of `generation`, which waits at `place`."""
        return cls(
            id=generation.id,
            status=generation.status,
            request=generation.request,
            priority=generation.priority,
            timeout_seconds=generation.timeout_seconds,
            client_metadata=generation.client_metadata,
            webhook=generation.webhook,
            expires_in_seconds=generation.expires_in_seconds,
            attempt=generation.attempt,
            progress=generation.progress,
            cancel_requested=generation.cancel_requested,
            created_at=generation.created_at,
            started_at=generation.started_at,
            finished_at=generation.finished_at,
            result=ResultView.of(generation.result) if generation.result else None,
            error=generation.error,
            queue=QueueView(**asdict(place)) if place else None,
            links=LinksView.of(generation),
        )


class GenerationPage(View):
    """Some generations, newest first."""

    generations: tuple[GenerationView, ...]
    next_cursor: str | None = Field(description="Cursor of the next page; null on the last.")

    @classmethod
    def of(cls, page: Page) -> Self:
        """The view of `page`."""
        views = tuple(GenerationView.of(generation) for generation in page.generations)
        return cls(generations=views, next_cursor=page.next_cursor)


class AdditionView(View):
    """A LoRA or a ControlNet of a model."""

    name: str = Field(description="Name to use in requests.")
    title: str


class EmbeddingView(View):
    """A learned word of a model, by textual inversion."""

    token: str = Field(description="What to write in a prompt.")
    title: str


class ModelView(View):
    """One model, its limits and defaults, and the state of the workers that serve it."""

    name: str = Field(description="Name to use in requests.")
    aliases: tuple[str, ...] = Field(description="Other names that requests may use.")
    title: str
    native_size: int = Field(description="Side, in pixels, of the squares it was trained on.")
    min_size: int = Field(description="Smallest width and height in pixels.")
    max_size: int = Field(description="Largest width and height in pixels.")
    default_size: int = Field(description="Width and height in pixels when left out.")
    default_steps: int
    default_guidance_scale: float
    default_scheduler: str
    default_method: str
    schedulers: tuple[str, ...]
    methods: tuple[str, ...]
    method_details: tuple[Method, ...] = Field(
        description="Limits and options of each of its methods."
    )
    loras: tuple[AdditionView, ...] = Field(description="LoRAs that requests can name.")
    embeddings: tuple[EmbeddingView, ...] = Field(
        description="Words that its prompts can have beside those of the language."
    )
    controls: tuple[AdditionView, ...] = Field(description="ControlNets that can guide requests.")
    prompt_weighting: bool = Field(description="Whether prompts can be read with weights.")
    image_prompt: bool = Field(description="Whether requests can have a picture as a prompt.")
    kind: Kind = Field(description="What it makes pictures from.")
    classes: tuple[str, ...] = Field(
        description="Names of each class of a class-to-image model, several divided by commas."
    )
    scales: tuple[int, ...] = Field(
        description="Of an upscaler: how many times larger it makes a picture."
    )
    size_multiple: int = Field(description="Sides of pictures are multiples of so many pixels.")
    warm_workers: int = Field(description="Workers that hold it ready.")
    queued: int = Field(description="Generations waiting for it.")

    @classmethod
    def of(cls, status: ModelStatus) -> Self:
        """The view of a model; where its weights lie stays inside."""
        model, own = status.model, set(cls.model_fields) - {"loras", "embeddings", "controls"}
        return cls(
            **model.model_dump(include=own),
            loras=tuple(AdditionView(name=each.name, title=each.title) for each in model.loras),
            controls=tuple(
                AdditionView(name=each.name, title=each.title) for each in model.controls
            ),
            embeddings=tuple(
                EmbeddingView(token=word.token, title=word.title) for word in model.embeddings
            ),
            method_details=model.method_details,
            image_prompt=model.image_prompt,
            warm_workers=status.warm_workers,
            queued=status.queued,
        )


class OpenAiModel(View):
    """One model as OpenAI's clients list it."""

    id: str = Field(description="Name to use in requests.")
    object: Literal["model"] = "model"
    created: int = Field(0, description="Unknown here, so always 0.")
    owned_by: str = "hidiffusion"


class ModelList(View):
    """Every model on offer; the first is the default."""

    models: tuple[ModelView, ...]
    object: Literal["list"] = "list"
    data: tuple[OpenAiModel, ...] = Field(description="The same models, for OpenAI's clients.")

    @classmethod
    def of(cls, statuses: Iterable[ModelStatus]) -> Self:
        """The view of every model in `statuses`."""
        models = tuple(ModelView.of(status) for status in statuses)
        return cls(models=models, data=tuple(OpenAiModel(id=model.name) for model in models))
