"""Server reflection under its present name and under its old one.

grpcio-reflection serves `grpc.reflection.v1alpha`; newer tools ask for `grpc.reflection.v1` first.
The two versions have the same messages on the wire, so one servicer answers for both.
"""

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

V1_SERVICE_NAME = "grpc.reflection.v1.ServerReflection"


def add_reflection(server: grpc.aio.Server, service_names: tuple[str, ...]) -> None:
    """Let clients ask `server` for the descriptors of `service_names`."""
    names = (*service_names, reflection.SERVICE_NAME, V1_SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(names)  # type: ignore[attr-defined]
    for name in (reflection.SERVICE_NAME, V1_SERVICE_NAME):
        method = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        handler = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
        server.add_generic_rpc_handlers((handler,))
