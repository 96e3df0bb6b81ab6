"""Health checking and reflection, as other tools see them."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from service.api.grpc.server import SERVICE_NAME
from tests.service.api.stack import Stack

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def _check(stack: Stack, service: str) -> int:
    stub = health_pb2_grpc.HealthStub(stack.channel)
    status: int = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status
    return status


def test_process_is_alive_whatever_else_is_missing(stack: Stack) -> None:
    assert _check(stack, "") == SERVING


def test_service_serves_as_soon_as_requests_are_accepted(stack: Stack) -> None:
    stub = health_pb2_grpc.HealthStub(stack.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE_NAME), timeout=60)
    assert SERVING in (response.status for response in watch)
    watch.cancel()


def test_unknown_service_is_not_found(stack: Stack) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _check(stack, "nobody.v1.Service")

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def _ask(
    stack: Stack, version: str, request: reflection_pb2.ServerReflectionRequest
) -> reflection_pb2.ServerReflectionResponse:
    call = stack.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )

    def requests() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield request

    return next(iter(call(requests(), timeout=5)))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_describes_the_service(stack: Stack, version: str) -> None:
    listed = _ask(
        stack, version, reflection_pb2.ServerReflectionRequest(list_services="")
    ).list_services_response
    described = _ask(
        stack, version, reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE_NAME)
    ).file_descriptor_response

    names = {service.name for service in listed.service}
    assert {SERVICE_NAME, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} <= names
    files = [FileDescriptorProto.FromString(text) for text in described.file_descriptor_proto]
    assert "hidiffusion_api/v1/generation_service.proto" in {file.name for file in files}


def test_client_can_call_with_nothing_but_reflection(stack: Stack) -> None:
    database = ProtoReflectionDescriptorDatabase(stack.channel)

    assert SERVICE_NAME in database.get_services()
    file = database.FindFileContainingSymbol(SERVICE_NAME)
    methods = [method.name for method in file.service[0].method]
    assert {"CreateGeneration", "WatchGeneration", "StreamTiles"} <= set(methods)


FORMER_NAME = "hidiffusion.v1.GenerationService"


def test_clients_generated_under_the_former_name_are_served(stack: Stack) -> None:
    """As they do it who have nothing but reflection: no message of ours is imported here."""
    database = ProtoReflectionDescriptorDatabase(stack.channel)
    assert FORMER_NAME in database.get_services()
    pool = DescriptorPool(database)
    method = pool.FindServiceByName(FORMER_NAME).FindMethodByName("CreateGeneration")
    assert method.input_type.full_name == "hidiffusion.v1.CreateGenerationRequest"
    create = stack.channel.unary_unary(
        f"/{FORMER_NAME}/{method.name}",
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )

    made: Any = create(GetMessageClass(method.input_type)(prompt="a red guitar"), timeout=5)

    assert made.generation.request.prompt == "a red guitar"
    assert _check(stack, FORMER_NAME) in {SERVING, NOT_SERVING}
