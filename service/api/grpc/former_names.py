"""The names of the service up to 0.1, `hidiffusion.v1.*`, for clients generated from those protos.

The messages are the same on the wire, so it takes no more than the old service name for calls and
the old descriptors for reflection. Kept for one release: 0.3 drops this module.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor

from hidiffusion_api.v1 import generation_service_pb2

PACKAGE = generation_service_pb2.DESCRIPTOR.package
SERVICE_NAME = generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"].full_name
FORMER_PACKAGE = "hidiffusion.v1"
FORMER_SERVICE_NAME = SERVICE_NAME.replace(PACKAGE, FORMER_PACKAGE)


def add_former_descriptors() -> None:
    """Make the protos known under their former names too, to whoever asks by reflection."""
    _add(generation_service_pb2.DESCRIPTOR)


def _add(file: FileDescriptor) -> None:
    for imported in file.dependencies:
        if imported.package == PACKAGE:
            _add(imported)
    now = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(now)
    text = text_format.MessageToString(now).replace("hidiffusion_api", "hidiffusion")
    former = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    descriptor_pool.Default().AddSerializedFile(former.SerializeToString())
