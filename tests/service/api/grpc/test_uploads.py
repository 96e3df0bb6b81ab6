"""Uploads over gRPC, in pieces."""

from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from hidiffusion_api.v1 import uploads_pb2
from tests.service.api.http.pictures.test_uploads import picture
from tests.service.api.stack import MAX_UPLOAD_BYTES, Stack, violations_of


def pieces(data: bytes, size: int = 1000) -> Iterator[rpc.UploadImageRequest]:
    for at in range(0, len(data), size):
        yield rpc.UploadImageRequest(data=data[at : at + size])


def upload(stack: Stack, data: bytes) -> uploads_pb2.Upload:
    return stack.stub.UploadImage(pieces(data), timeout=20).upload


def violated(error: grpc.RpcError) -> dict[str, str]:
    return {each.field: each.description for each in violations_of(error)}


def test_both_front_ends_know_the_same_uploads(stack: Stack) -> None:
    made = upload(stack, picture())

    view = stack.http.get(f"/v1/uploads/{made.id}").json()
    assert (made.width, made.height, made.size_bytes) == (300, 200, view["bytes"])
    assert stack.http.post("/v1/uploads", content=picture()).json()["id"] == made.id
    known = stack.stub.GetUpload(rpc.GetUploadRequest(id=made.id)).upload
    assert (known.id, known.created_at) == (made.id, made.created_at)
    asked = rpc.CreateGenerationRequest(prompt="a fox", image=made.id, strength=0.5)
    request = stack.stub.CreateGeneration(asked).generation.request
    assert (request.image, request.width, request.strength) == (made.id, 304, 0.5)
    assert not request.HasField("mask")


def test_a_deleted_upload_is_not_found(stack: Stack) -> None:
    made = upload(stack, picture())
    stack.stub.DeleteUpload(rpc.DeleteUploadRequest(id=made.id))
    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.GetUpload(rpc.GetUploadRequest(id=made.id))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    info, status = error_details_pb2.ErrorInfo(), rpc_status.from_call(caught.value)
    assert any(detail.Unpack(info) for detail in status.details)
    assert info.reason == "UPLOAD_NOT_FOUND"


@pytest.mark.parametrize("data", [b"", b"hello", picture()[:-60]])
def test_what_is_no_picture_is_refused(stack: Stack, data: bytes) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        upload(stack, data)
    assert set(violated(caught.value)) == {"data"}


def test_a_stream_without_end_is_cut_off(stack: Stack) -> None:
    sent = 0

    def endless() -> Iterator[rpc.UploadImageRequest]:
        nonlocal sent
        while sent < 100 * MAX_UPLOAD_BYTES:
            sent += 10_000
            yield rpc.UploadImageRequest(data=bytes(10_000))

    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.UploadImage(endless(), timeout=20)
    assert f"up to {MAX_UPLOAD_BYTES} bytes" in violated(caught.value)["data"]
    assert sent < 100 * MAX_UPLOAD_BYTES


def test_a_field_that_is_unknown_is_refused(stack: Stack) -> None:
    strange = rpc.UploadImageRequest.FromString(b"\x98\x06\x01")
    with pytest.raises(grpc.RpcError) as caught:
        stack.stub.UploadImage(iter([strange]), timeout=20)
    assert set(violated(caught.value)) == {"field number 99"}
