"""Every method of the gRPC service over a real channel."""

import threading
import time

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RequestInfo
from grpc_status import rpc_status

from hidiffusion_api.v1 import generation_pb2 as pb
from hidiffusion_api.v1 import generation_service_pb2 as rpc
from service.domain.requests.request_examples import EXAMPLE_PICTURE
from tests.service.api.http.pictures.test_uploads import picture, url
from tests.service.api.played_worker import IMAGE
from tests.service.api.stack import Stack

TIMEOUT = 10


def _create(stack: Stack, **fields: object) -> pb.Generation:
    request = rpc.CreateGenerationRequest(**{"prompt": "a red guitar", **fields})  # type: ignore[arg-type]
    return stack.stub.CreateGeneration(request, timeout=TIMEOUT).generation


def _watch(stack: Stack, generation_id: str, token: str = "") -> list[rpc.WatchGenerationResponse]:
    request = rpc.WatchGenerationRequest(id=generation_id, resume_token=token)
    return list(stack.stub.WatchGeneration(request, timeout=TIMEOUT))


def _tiles(stack: Stack, generation_id: str, token: str = "") -> list[rpc.StreamTilesResponse]:
    request = rpc.StreamTilesRequest(id=generation_id, resume_token=token)
    return list(stack.stub.StreamTiles(request, timeout=TIMEOUT))


def test_fields_left_out_take_defaults_and_zero_is_kept(stack: Stack) -> None:
    generation = _create(stack, seed=0, guidance_scale=0.0)

    assert generation.status == pb.GENERATION_STATUS_QUEUED
    assert generation.request.seed == 0
    assert generation.request.guidance_scale == 0.0
    assert (generation.request.width, generation.request.height) == (512, 512)
    assert generation.request.scheduler == "DDIMScheduler"
    assert generation.request.output_format == pb.OUTPUT_FORMAT_PNG
    assert generation.priority == pb.PRIORITY_NORMAL
    assert generation.created_at.ToDatetime().timestamp() > 0
    assert not generation.HasField("started_at")


def test_both_front_ends_accept_the_same_request(stack: Stack) -> None:
    fields = {
        "prompt": "a fox",
        "negative_prompt": "text",
        "prompt_weighting": True,
        "tiles": False,
        "loras": [{"name": "ink", "weight": 0.5}],
        "model": "emoji",
        "width": 1024,
        "height": 768,
        "num_inference_steps": 10,
        "guidance_scale": 3.5,
        "seed": 9007199254740991,
        "scheduler": "EulerDiscreteScheduler",
        "method": "direct",
        "bit_depth": 10,
        "quality": 55,
        "metadata": False,
        "image": EXAMPLE_PICTURE,
        "mask": url(picture(8, 8)),
        "strength": 0.5,
        "image_prompt": {"image": EXAMPLE_PICTURE, "scale": 0.5},
        "controls": [
            {"name": "canny", "image": EXAMPLE_PICTURE, "scale": 0.5, "start": 0.25, "end": 0.75}
        ],
    }
    beside = {"timeout_seconds": 90, "client_metadata": {"order": "7", "shop": "ü"}}

    by_grpc = _create(
        stack,
        **fields,
        output_format=pb.OUTPUT_FORMAT_AVIF,
        tile_format=pb.TILE_FORMAT_WEBP,
        priority=pb.PRIORITY_HIGH,
        **beside,
    )
    formats = {"output_format": "avif", "tile_format": "webp"}
    by_http = stack.submit(**fields, **formats, **beside, priority="high")

    first = stack.http.get(f"/v1/generations/{by_grpc.id}").json()
    second = stack.http.get(f"/v1/generations/{by_http}").json()
    ids = {"image": by_grpc.request.image, "mask": by_grpc.request.mask}
    guided = {"controls": [fields["controls"][0] | {"image": ids["image"]}]}
    guided["image_prompt"] = fields["image_prompt"] | {"image": ids["image"]}
    unset = {"method_options": {}, "scale": None, "class_label": None, "upscale": None}
    resolved = fields | formats | unset | ids | guided
    assert first["request"] == second["request"] == resolved
    assert first["priority"] == second["priority"] == "high"
    for record in (first, second):
        assert {name: record[name] for name in beside} == beside
    assert by_grpc.priority == pb.PRIORITY_HIGH
    assert by_grpc.timeout_seconds == 90
    assert by_grpc.client_metadata == beside["client_metadata"]
    assert by_grpc.request.tile_format == pb.TILE_FORMAT_WEBP
    assert not by_grpc.request.metadata


def test_idempotency_key_holds_across_front_ends(stack: Stack) -> None:
    generation = _create(stack, idempotency_key="one")
    response = stack.http.post(
        "/v1/generations", json={"prompt": "a red guitar"}, headers={"Idempotency-Key": '"one"'}
    )

    assert response.json()["id"] == generation.id
    assert _create(stack, idempotency_key="one").id == generation.id
    with pytest.raises(grpc.RpcError) as caught:
        _create(stack, idempotency_key="one", width=1024)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert stack.count() == 1


def test_finished_record_has_its_result_and_recipe(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)

    request = rpc.GetGenerationRequest(id=generation_id)
    generation = stack.stub.GetGeneration(request, timeout=TIMEOUT).generation

    assert generation.status == pb.GENERATION_STATUS_SUCCEEDED
    assert generation.progress.phase == pb.PHASE_DONE
    assert generation.result.image.size_bytes == len(IMAGE)
    assert generation.result.pyramid.levels[0].columns == 1
    assert generation.result.recipe["versions"]["torch"] == "2.13.0"
    assert "generations/" not in str(generation)


def test_pages_are_newest_first_and_lose_nothing(stack: Stack) -> None:
    submitted = {stack.submit() for _ in range(5)}

    seen: list[str] = []
    token = ""
    while True:
        request = rpc.ListGenerationsRequest(page_size=2, page_token=token)
        page = stack.stub.ListGenerations(request, timeout=TIMEOUT)
        seen += [generation.id for generation in page.generations]
        token = page.next_page_token
        if not token:
            break

    assert set(seen) == submitted
    assert len(seen) == 5


def test_list_narrows_to_a_status(stack: Stack) -> None:
    done, waiting = stack.submit(), stack.submit()
    stack.worker.run(done)

    request = rpc.ListGenerationsRequest(status=pb.GENERATION_STATUS_QUEUED)
    page = stack.stub.ListGenerations(request, timeout=TIMEOUT)

    assert [generation.id for generation in page.generations] == [waiting]


@pytest.mark.parametrize(
    "request_",
    [rpc.ListGenerationsRequest(page_size=101), rpc.ListGenerationsRequest(status=42)],  # type: ignore[arg-type]
)
def test_bad_list_request_is_refused(stack: Stack, request_: rpc.ListGenerationsRequest) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.ListGenerations(request_, timeout=TIMEOUT)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_cancel_and_delete(stack: Stack) -> None:
    generation_id = stack.submit()
    cancelled = stack.stub.CancelGeneration(
        rpc.CancelGenerationRequest(id=generation_id), timeout=TIMEOUT
    )
    stack.stub.DeleteGeneration(rpc.DeleteGenerationRequest(id=generation_id), timeout=TIMEOUT)

    assert cancelled.generation.status == pb.GENERATION_STATUS_CANCELLED
    assert stack.count() == 0


def test_running_generation_cannot_be_deleted(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.start(generation_id)

    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.DeleteGeneration(rpc.DeleteGenerationRequest(id=generation_id), timeout=TIMEOUT)

    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_events_come_in_order_and_end_with_the_final_one(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)

    events = [response.event for response in _watch(stack, generation_id)]

    assert [event.WhichOneof("event") for event in events] == [
        "queued", "started", "step", "step", "step", "preview", "tile", "tile", "succeeded",
    ]  # fmt: skip
    assert events[1].started.worker == "played"
    assert events[2].step.eta.ToMilliseconds() == 250
    assert events[-1].succeeded.result.width == 512


def test_resumed_watch_has_exactly_the_missing_events(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)
    whole = _watch(stack, generation_id)

    for index, response in enumerate(whole):
        assert _watch(stack, generation_id, response.event.resume_token) == whole[index + 1 :]


def test_live_watch_sees_what_happens_and_leaving_stops_nothing(stack: Stack) -> None:
    generation_id = stack.submit()
    call = stack.stub.WatchGeneration(rpc.WatchGenerationRequest(id=generation_id))
    assert next(call).event.WhichOneof("event") == "queued"

    generation = stack.worker.start(generation_id)
    assert next(call).event.WhichOneof("event") == "started"
    call.cancel()
    stack.worker.step(generation, 1)

    request = rpc.GetGenerationRequest(id=generation_id)
    record = stack.stub.GetGeneration(request, timeout=TIMEOUT).generation
    assert record.status == pb.GENERATION_STATUS_RUNNING
    assert not record.cancel_requested


def test_tiles_arrive_while_the_picture_is_made(stack: Stack) -> None:
    generation_id = stack.submit()
    call = stack.stub.StreamTiles(rpc.StreamTilesRequest(id=generation_id), timeout=TIMEOUT)

    generation = stack.worker.start(generation_id)
    stack.worker.tile(generation, 0, b"tile zero")
    first = next(call).chunk
    stack.worker.tile(generation, 1, b"tile one", done=2)
    second = next(call).chunk
    stack.worker.succeed(generation)
    rest = list(call)

    assert (first.data, second.data) == (b"tile zero", b"tile one")
    assert (first.tile.level, first.tile.column, second.tile.column) == (9, 0, 1)
    assert first.media_type == "image/png"
    assert [response.final_status for response in rest] == [pb.GENERATION_STATUS_SUCCEEDED]


def test_large_tile_comes_in_pieces_and_resumes_whole(stack: Stack) -> None:
    large = bytes(range(256)) * 10_000
    generation_id = stack.submit()
    generation = stack.worker.start(generation_id)
    stack.worker.tile(generation, 0, large)
    stack.worker.tile(generation, 1, b"small", done=2)
    stack.worker.succeed(generation)

    *chunks, small, end = _tiles(stack, generation_id)

    pieces = [response.chunk for response in chunks]
    assert b"".join(piece.data for piece in pieces) == large
    assert max(len(piece.data) for piece in pieces) == 1024 * 1024
    assert [piece.offset for piece in pieces] == [0, 1 << 20, 2 << 20]
    assert [bool(piece.resume_token) for piece in pieces] == [False, False, True]
    assert _tiles(stack, generation_id, pieces[-1].resume_token) == [small, end]


def test_a_picture_without_tiles_streams_its_end_alone(stack: Stack) -> None:
    generation_id = stack.submit(tiles=False)
    stack.worker.succeed(stack.worker.start(generation_id))

    (last,) = _tiles(stack, generation_id)
    assert last.final_status == pb.GENERATION_STATUS_SUCCEEDED
    result = stack.stub.GetGeneration(rpc.GetGenerationRequest(id=generation_id)).generation.result
    assert not result.HasField("pyramid")
    assert result.image.size_bytes


def test_tiles_of_a_failed_generation_end_with_its_status(stack: Stack) -> None:
    generation_id = stack.submit()
    generation = stack.worker.start(generation_id)
    stack.worker.tile(generation, 0, b"tile zero")
    stack.worker.fail(generation)

    chunk, end = _tiles(stack, generation_id)

    assert chunk.chunk.data == b"tile zero"
    assert end.final_status == pb.GENERATION_STATUS_FAILED


def test_image_downloads_in_pieces_and_resumes(stack: Stack) -> None:
    image = bytes(range(251)) * 10_000
    generation_id = stack.submit()
    stack.worker.succeed(stack.worker.start(generation_id), image)

    whole = list(
        stack.stub.DownloadImage(rpc.DownloadImageRequest(id=generation_id), timeout=TIMEOUT)
    )
    request = rpc.DownloadImageRequest(id=generation_id, offset=2_000_000)
    rest = list(stack.stub.DownloadImage(request, timeout=TIMEOUT))

    assert b"".join(response.data for response in whole) == image
    assert whole[0].image.size_bytes == len(image)
    assert not whole[1].HasField("image")
    assert b"".join(response.data for response in rest) == image[2_000_000:]


@pytest.mark.parametrize("offset", [-1, len(IMAGE)])
def test_download_beyond_the_end_is_refused(stack: Stack, offset: int) -> None:
    generation_id = stack.submit()
    stack.worker.run(generation_id)

    with pytest.raises(grpc.RpcError) as caught:
        list(
            stack.stub.DownloadImage(
                rpc.DownloadImageRequest(id=generation_id, offset=offset), timeout=TIMEOUT
            )
        )

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_models_tell_limits_but_not_where_weights_lie(stack: Stack) -> None:
    stack.add_worker()

    (model,) = stack.stub.ListModels(rpc.ListModelsRequest(), timeout=TIMEOUT).models

    assert (model.name, model.min_size, model.max_size) == ("emoji", 128, 4096)
    assert model.warm_workers == 1
    assert "somewhere" not in str(model)


def test_unknown_generation_is_not_found_with_details(stack: Stack) -> None:
    request = rpc.GetGenerationRequest(id="nobody")
    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.GetGeneration(request, timeout=TIMEOUT, metadata=(("x-request-id", "trace-7"),))

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    info, named = ErrorInfo(), RequestInfo()
    status = rpc_status.from_call(caught.value)
    assert status is not None
    assert any(detail.Unpack(info) for detail in status.details)
    assert any(detail.Unpack(named) for detail in status.details)
    assert (info.reason, info.domain) == ("GENERATION_NOT_FOUND", "hidiffusion")
    assert named.request_id == "trace-7"


def test_streams_of_an_unknown_generation_are_not_found(stack: Stack) -> None:
    for call in (
        stack.stub.WatchGeneration(rpc.WatchGenerationRequest(id="nobody"), timeout=TIMEOUT),
        stack.stub.StreamTiles(rpc.StreamTilesRequest(id="nobody"), timeout=TIMEOUT),
        stack.stub.DownloadImage(rpc.DownloadImageRequest(id="nobody"), timeout=TIMEOUT),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_token_that_is_no_event_id_is_refused(stack: Stack) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _watch(stack, stack.submit(), "yesterday")

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_deadline_ends_the_watch_and_not_the_generation(stack: Stack) -> None:
    generation_id = stack.submit()

    begun = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        list(stack.stub.WatchGeneration(rpc.WatchGenerationRequest(id=generation_id), timeout=0.3))

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - begun < 5
    assert stack.http.get(f"/v1/generations/{generation_id}").json()["status"] == "queued"


def test_unexpected_error_keeps_its_cause_inside(stack: Stack) -> None:
    generation_id = stack.submit()
    stack.records.redis.delete(f"hidiffusion:generation:{generation_id}")
    stack.records.redis.set(f"hidiffusion:generation:{generation_id}", "{secret")

    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.GetGeneration(rpc.GetGenerationRequest(id=generation_id), timeout=TIMEOUT)

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value.details())


def test_many_watchers_see_the_same(stack: Stack) -> None:
    generation_id = stack.submit()
    seen: list[list[rpc.WatchGenerationResponse]] = []
    watchers = [
        threading.Thread(target=lambda: seen.append(_watch(stack, generation_id))) for _ in range(8)
    ]
    for watcher in watchers:
        watcher.start()
    stack.worker.run(generation_id)
    for watcher in watchers:
        watcher.join(TIMEOUT)

    assert len(seen) == 8
    assert all(events == seen[0] for events in seen)
    assert len(seen[0]) == 9
