"""Whatever passes between the domain and protobuf arrives whole, and as HTTP would bring it.

What HTTP shows is turned into protobuf's JSON by the names of the fields alone. So the tests know
the fields of neither side: one that is on one side alone has no place to go, and fails.
"""

from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from hidiffusion_api.v1 import (
    artifacts_pb2,
    events_pb2,
    models_pb2,
    uploads_pb2,
)
from hidiffusion_api.v1 import generation_pb2 as pb
from hidiffusion_api.v1 import generation_service_pb2 as rpc
from service.api.grpc.convert import (
    event_message,
    generation_message,
    model_message,
    request_fields,
    upload_message,
)
from service.api.http.views import schemas
from service.api.http.views.batch_schemas import BatchRequest
from service.api.http.views.event_views import (
    PreviewEvent,
    SucceededEvent,
    TileEvent,
    TileView,
    event_view,
)
from service.api.http.views.upload_schemas import UploadView
from service.application.generations.query import ModelStatus
from service.application.generations.queue_place import QueuePlace
from service.application.requests.parse import parse_request
from service.application.requests.submit import fingerprint
from service.domain.artifacts import PyramidLevel
from service.domain.generations import events
from service.domain.generations.generation import Failure, Generation, Progress
from service.domain.models.methods import Method
from service.domain.requests.request import GenerationRequest, ResolvedRequest
from service.domain.requests.uploads import Upload
from service.domain.webhooks import Webhook
from tests.model_values import fields_of
from tests.service.api.stack import CATALOG

#: Fields that are called something else over gRPC, where units go without saying.
RENAMED = {
    "bytes": "size_bytes",
    "eta_seconds": "eta",
    "estimated_wait_seconds": "estimated_wait",
}
#: Addresses of what HTTP serves.
HTTP_ALONE = {"links", "href"}

#: Message, what it stands for over HTTP or in the domain, and the fields that gRPC alone has.
TWINS: list[tuple[type[Message], type[BaseModel], set[str]]] = [
    (rpc.CreateGenerationRequest, GenerationRequest, {"idempotency_key"}),
    (pb.ResolvedRequest, ResolvedRequest, set()),
    (pb.Generation, schemas.GenerationView, set()),
    (pb.Webhook, Webhook, set()),
    (pb.Progress, Progress, set()),
    (pb.Failure, Failure, set()),
    (pb.QueuePlace, schemas.QueueView, set()),
    (artifacts_pb2.Result, schemas.ResultView, set()),
    (artifacts_pb2.Artifact, schemas.ArtifactView, set()),
    (artifacts_pb2.Pyramid, schemas.PyramidView, set()),
    (artifacts_pb2.PyramidLevel, PyramidLevel, set()),
    (artifacts_pb2.Tile, TileView, set()),
    (models_pb2.Model, schemas.ModelView, set()),
    (models_pb2.Method, Method, set()),
    (uploads_pb2.Upload, UploadView, set()),
    (events_pb2.QueuedEvent, events.Queued, set()),
    (events_pb2.StartedEvent, events.Started, set()),
    (events_pb2.StepEvent, events.Stepped, set()),
    (events_pb2.PreviewEvent, PreviewEvent, set()),
    (events_pb2.TileEvent, TileEvent, set()),
    (events_pb2.WaitingForStoreEvent, events.WaitingForStore, set()),
    (events_pb2.SucceededEvent, SucceededEvent, set()),
    (events_pb2.FailedEvent, events.Failed, set()),
    (events_pb2.CancelledEvent, events.Cancelled, set()),
]
EVENTS = (
    events.Queued, events.Started, events.Stepped, events.Previewed, events.TileStored,
    events.WaitingForStore, events.Succeeded, events.Failed, events.Cancelled,
)  # fmt: skip
#: What every event has around what it tells.
ENVELOPE = {"type", "attempt", "at"}

#: Seconds that are exact in nanoseconds.
SECONDS = st.integers(0, 2**20).map(lambda number: number / 64)


def as_message(view: Mapping[str, Any], kind: type[Message]) -> Message:
    """What HTTP shows, as a message; fails on a field that the message does not have."""
    return ParseDict(_proto_json(view, kind.DESCRIPTOR), kind())


def _proto_json(view: Mapping[str, Any], descriptor: Descriptor) -> dict[str, Any]:
    found = {}
    for name, value in view.items():
        if name not in HTTP_ALONE and value is not None:
            field = descriptor.fields_by_name[RENAMED.get(name, name)]
            found[field.name] = _value(value, field)
    return found


def _value(value: Any, field: FieldDescriptor) -> Any:
    if isinstance(value, list | tuple):
        return [_value(each, field) for each in value]
    if field.enum_type:
        return _enumerated(value, field.enum_type)
    kind = field.message_type.full_name if field.message_type else ""
    if kind == "google.protobuf.Duration":
        return f"{value:.9f}s"
    if kind.startswith("hidiffusion_api.") and not field.message_type.GetOptions().map_entry:
        return _proto_json(value, field.message_type)
    return value


def _enumerated(value: str, enumeration: EnumDescriptor) -> str:
    return enumeration.values[0].name.removesuffix("UNSPECIFIED") + value.upper()


def _by_plain_names(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields over gRPC of a request whose fields over HTTP are these."""
    return request_fields(as_message(fields, rpc.CreateGenerationRequest))  # type: ignore[arg-type]


@given(fields_of(GenerationRequest))
@settings(max_examples=100)
def test_a_request_is_the_same_through_either_interface(fields: dict[str, Any]) -> None:
    over_http, over_grpc = parse_request(fields), parse_request(_by_plain_names(fields))

    assert over_grpc == over_http
    assert fingerprint(over_grpc, 1) == fingerprint(over_http, 1)


@pytest.mark.parametrize("field", GenerationRequest.model_fields)
def test_no_field_of_a_request_is_left_out(field: str) -> None:
    @given(fields_of(GenerationRequest).filter(lambda fields: field in fields))
    @settings(max_examples=5)
    def check(fields: dict[str, Any]) -> None:
        sent = fields[field]
        empty = type(sent)() if isinstance(sent, dict | list) else None  # which is not sent
        arrived = _by_plain_names(fields).get(field, empty)
        assert sent.items() <= arrived.items() if isinstance(sent, dict) else arrived == sent

    check()


@given(
    fields_of(Generation),
    st.none() | st.builds(QueuePlace, st.integers(1, 9), st.none() | SECONDS),
)
@settings(max_examples=60)
def test_a_record_shows_all_that_http_shows(
    fields: dict[str, Any], place: QueuePlace | None
) -> None:
    generation = Generation.model_validate(fields)
    view = schemas.GenerationView.of(generation, place).model_dump(mode="json")

    assert generation_message(generation, place) == as_message(view, pb.Generation)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_an_event_tells_all_that_http_tells(kind: type[events.Event]) -> None:
    @given(fields_of(kind, eta_seconds=SECONDS))
    @settings(max_examples=15)
    def check(fields: dict[str, Any]) -> None:
        event = kind.model_validate(fields)
        view = event_view("some", event).model_dump(mode="json")
        told = {name: value for name, value in view.items() if name not in ENVELOPE}
        envelope = {
            "resume_token": "1-0",
            "at": view["at"],
            "attempt": view["attempt"],
            view["type"]: told,
        }
        expected = as_message(envelope, events_pb2.GenerationEvent)
        assert event_message(events.StoredEvent("1-0", event)) == expected

    check()


@given(fields_of(Upload))
@settings(max_examples=20)
def test_an_upload_shows_all_that_http_shows(fields: dict[str, Any]) -> None:
    upload = Upload.model_validate(fields)
    view = UploadView.of(upload).model_dump(mode="json")

    assert upload_message(upload) == as_message(view, uploads_pb2.Upload)


@given(st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=5)
def test_a_model_shows_all_that_http_shows(warm: int, queued: int) -> None:
    status = ModelStatus(CATALOG.models[0], warm, queued)
    view = schemas.ModelView.of(status).model_dump(mode="json")

    assert model_message(status) == as_message(view, models_pb2.Model)


@pytest.mark.parametrize(("message", "twin", "more"), TWINS, ids=str)
def test_both_interfaces_have_the_same_fields(
    message: type[Message], twin: type[BaseModel], more: set[str]
) -> None:
    hidden = HTTP_ALONE | (ENVELOPE if "type" in twin.model_fields else set())
    named = {RENAMED.get(name, name) for name in twin.model_fields.keys() - hidden}

    assert set(message.DESCRIPTOR.fields_by_name) == named | more


def test_a_batch_adds_its_number_alone() -> None:
    more = BatchRequest.model_fields.keys() - GenerationRequest.model_fields.keys()
    named = set(rpc.BatchCreateGenerationsRequest.DESCRIPTOR.fields_by_name)

    assert named == more | {"request"}


def test_both_interfaces_have_the_same_events() -> None:
    (told,) = events_pb2.GenerationEvent.DESCRIPTOR.oneofs
    assert {field.name for field in told.fields} == {
        kind.model_fields["type"].default for kind in EVENTS
    }
