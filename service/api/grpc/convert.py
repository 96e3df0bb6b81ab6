"""Between the domain and protobuf messages, field by field of the same name."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from hidiffusion_api.v1 import (
    artifacts_pb2,
    events_pb2,
    models_pb2,
    uploads_pb2,
)
from hidiffusion_api.v1 import generation_pb2 as pb
from hidiffusion_api.v1 import generation_service_pb2 as rpc
from service.application.generations.query import ModelStatus
from service.application.generations.queue_place import QueuePlace
from service.domain.artifacts import ArtifactRef, Manifest, TileRef
from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.generations.events import (
    Cancelled,
    Failed,
    Previewed,
    Queued,
    Started,
    Stepped,
    StoredEvent,
    Succeeded,
    TileStored,
    WaitingForStore,
)
from service.domain.generations.generation import Failure, Generation, Progress, Status
from service.domain.requests.request import ResolvedRequest
from service.domain.requests.uploads import Upload


def request_fields(message: rpc.CreateGenerationRequest) -> dict[str, Any]:
    """The fields a client set, under the names and with the values `parse_request` reads."""
    fields = _plain(message)
    fields.pop("idempotency_key", None)
    return fields


def _plain(message: Message) -> dict[str, Any]:
    """The fields that were set, as JSON would have them: by what each is declared to be."""
    return {field.name: _plain_value(field, value) for field, value in message.ListFields()}


def _plain_value(field: FieldDescriptor, value: Any) -> Any:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_plain_one(field, each) for each in value]
    return _plain_one(field, value)


def _plain_one(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        prefix = _prefix(field.enum_type)
        return str(value) if named is None else named.name.removeprefix(prefix).lower()
    if field.message_type is None:
        return value
    return MessageToDict(value) if isinstance(value, Struct) else _plain(value)


def _prefix(enumeration: EnumDescriptor) -> str:
    """What the names of the values begin with: that of the first ends in UNSPECIFIED."""
    return enumeration.values[0].name.removesuffix("UNSPECIFIED")


def _number(enumeration: EnumDescriptor, name: str) -> Any:
    return enumeration.values_by_name[_prefix(enumeration) + name.upper()].number


def status_filter(number: pb.GenerationStatus.ValueType) -> Status | None:
    """The status a list is narrowed to; unspecified means any.

    Raises:
        InvalidRequest: the enumeration has no such value.
    """
    if number == pb.GENERATION_STATUS_UNSPECIFIED:
        return None
    by_number = {status_value(status): status for status in Status}
    if number not in by_number:
        allowed = "allowed are " + ", ".join(pb.GenerationStatus.keys())
        raise InvalidRequest([FieldViolation("status", str(number), allowed)])
    return by_number[number]


def status_value(status: Status) -> pb.GenerationStatus.ValueType:
    """The status as the enumeration has it."""
    return pb.GenerationStatus.Value(f"GENERATION_STATUS_{status.name}")


def generation_message(
    generation: Generation, place: QueuePlace | None = None, *, recipe: bool = True
) -> pb.Generation:
    """A record that waits at `place`; without its result's `recipe` where many are sent at once."""
    message = pb.Generation(
        id=generation.id,
        status=status_value(generation.status),
        request=_resolved(generation.request),
        attempt=generation.attempt,
        progress=_progress(generation.progress),
        cancel_requested=generation.cancel_requested,
        priority=_number(pb.Priority.DESCRIPTOR, generation.priority),
        timeout_seconds=generation.timeout_seconds,
        client_metadata=generation.client_metadata,
        expires_in_seconds=generation.expires_in_seconds,
        created_at=_timestamp(generation.created_at),
    )
    if generation.webhook:
        message.webhook.CopyFrom(pb.Webhook(**generation.webhook.model_dump()))
    if generation.started_at:
        message.started_at.CopyFrom(_timestamp(generation.started_at))
    if generation.finished_at:
        message.finished_at.CopyFrom(_timestamp(generation.finished_at))
    if generation.result:
        message.result.CopyFrom(_result(generation.result, recipe=recipe))
    if generation.error:
        message.error.CopyFrom(_failure(generation.error))
    if place:
        message.queue.CopyFrom(_place(place))
    return message


def event_message(stored: StoredEvent) -> events_pb2.GenerationEvent:
    """An event with the token to resume after it."""
    event = stored.event
    message = events_pb2.GenerationEvent(
        resume_token=stored.id, at=_timestamp(event.at), attempt=event.attempt
    )
    match event:
        case Queued():
            message.queued.CopyFrom(events_pb2.QueuedEvent(reason=event.reason))
        case Started():
            message.started.worker = event.worker
        case Stepped():
            step = events_pb2.StepEvent(
                step=event.step, total=event.total, eta=_duration(event.eta_seconds)
            )
            message.step.CopyFrom(step)
        case Previewed():
            shown = event.model_dump(include={"step", "width", "height"})
            message.preview.CopyFrom(events_pb2.PreviewEvent(**shown))
        case TileStored():
            tile = tile_message(event.tile)
            message.tile.CopyFrom(
                events_pb2.TileEvent(tile=tile, done=event.done, total=event.total)
            )
        case WaitingForStore():
            message.waiting_for_store.reason = event.reason
        case Succeeded():
            message.succeeded.result.CopyFrom(_result(event.manifest))
        case Failed():
            message.failed.error.CopyFrom(_failure(event.error))
        case Cancelled():
            message.cancelled.SetInParent()
    return message


def tile_message(tile: TileRef) -> artifacts_pb2.Tile:
    """A tile without its object key."""
    return artifacts_pb2.Tile(**tile.model_dump(exclude={"key"}))


def artifact_message(ref: ArtifactRef) -> artifacts_pb2.Artifact:
    """A stored picture without its object key."""
    return artifacts_pb2.Artifact(
        media_type=ref.media_type, size_bytes=ref.bytes, sha256=ref.sha256
    )


def model_message(status: ModelStatus) -> models_pb2.Model:
    """A model as the message has it; whatever else the catalogue says of it stays inside."""
    model = status.model
    public = _declared(model.model_dump(), models_pb2.Model.DESCRIPTOR)
    public |= {"image_prompt": model.image_prompt}
    message = models_pb2.Model(**public, warm_workers=status.warm_workers, queued=status.queued)
    for method in model.method_details:
        details = message.method_details.add(**method.model_dump(exclude={"options"}))
        details.options.CopyFrom(_struct(method.options))
    return message


def _declared(fields: Mapping[str, Any], message: Descriptor) -> dict[str, Any]:
    """What of the fields a message has, down to the messages in it."""
    known = message.fields_by_name
    return {name: _of_kind(known[name], value) for name, value in fields.items() if name in known}


def _of_kind(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is None:
        return value
    return [_declared(each, field.message_type) for each in value]


def upload_message(upload: Upload) -> uploads_pb2.Upload:
    """An upload without its object key."""
    message = uploads_pb2.Upload(
        id=upload.id, width=upload.width, height=upload.height, size_bytes=upload.bytes
    )
    message.created_at.CopyFrom(_timestamp(upload.created_at))
    message.expires_at.CopyFrom(_timestamp(upload.expires_at))
    return message


def _resolved(request: ResolvedRequest) -> pb.ResolvedRequest:
    fields = request.model_dump()
    for field in pb.ResolvedRequest.DESCRIPTOR.fields:
        if field.enum_type is not None:
            fields[field.name] = _number(field.enum_type, fields[field.name])
        elif field.message_type is Struct.DESCRIPTOR:
            fields[field.name] = _struct(fields[field.name])
    return pb.ResolvedRequest(**fields)


def _progress(progress: Progress) -> pb.Progress:
    phase = pb.Phase.Value(f"PHASE_{progress.phase.upper()}")
    return pb.Progress(
        phase=phase, step=progress.step, total=progress.total, reason=progress.reason
    )


def _place(place: QueuePlace) -> pb.QueuePlace:
    message = pb.QueuePlace(position=place.position)
    if place.estimated_wait_seconds is not None:
        message.estimated_wait.CopyFrom(_duration(place.estimated_wait_seconds))
    return message


def _failure(error: Failure) -> pb.Failure:
    return pb.Failure(**error.model_dump())


def _result(manifest: Manifest, *, recipe: bool = True) -> artifacts_pb2.Result:
    message = artifacts_pb2.Result(
        width=manifest.width,
        height=manifest.height,
        image=artifact_message(manifest.image),
        thumbnail=artifact_message(manifest.thumbnail),
    )
    if manifest.pyramid:
        message.pyramid.CopyFrom(artifacts_pb2.Pyramid(**manifest.pyramid.model_dump()))
    if recipe:
        message.recipe.CopyFrom(_struct(manifest.recipe))
    return message


def _struct(fields: Mapping[str, Any]) -> Struct:
    """The fields as a message, which is there also when they are none."""
    message = Struct()
    message.update(fields)
    return message


def _timestamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def _duration(seconds: float) -> Duration:
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message
