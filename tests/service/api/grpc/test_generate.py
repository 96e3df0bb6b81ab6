"""The protos are well-formed, the stubs are theirs, and they say what the domain says."""

import filecmp
import subprocess
import sys
from pathlib import Path

from google.protobuf.descriptor import EnumDescriptor

from service.api.grpc._generated.hidiffusion.v1 import generation_pb2 as pb
from service.api.grpc._generated.hidiffusion.v1 import generation_service_pb2 as rpc
from service.api.grpc.generate import PROTO_FOLDER, TARGET_FOLDER, generate
from service.domain.generation import GenerationRequest, ResolvedRequest, Status


def test_stubs_are_those_of_the_protos(tmp_path: Path) -> None:
    generate(tmp_path / "stubs")

    fresh = {path.relative_to(tmp_path / "stubs") for path in (tmp_path / "stubs").rglob("*.py*")}
    names = [str(name) for name in fresh]
    _, different, missing = filecmp.cmpfiles(
        tmp_path / "stubs", TARGET_FOLDER, names, shallow=False
    )
    assert (different, missing) == ([], []), "run `make proto`"
    kept = {path.relative_to(TARGET_FOLDER) for path in TARGET_FOLDER.rglob("*.py*")}
    assert {path for path in kept if "__pycache__" not in path.parts} == fresh


def test_protos_pass_the_linter() -> None:
    buf = Path(sys.executable).parent / "buf"
    linted = subprocess.run(
        [buf, "lint", PROTO_FOLDER], capture_output=True, text=True, timeout=60, check=False
    )

    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_requests_have_the_fields_of_the_domain() -> None:
    asked = set(rpc.CreateGenerationRequest.DESCRIPTOR.fields_by_name)
    resolved = set(pb.ResolvedRequest.DESCRIPTOR.fields_by_name)

    assert asked == set(GenerationRequest.model_fields) | {"idempotency_key"}
    assert resolved == set(ResolvedRequest.model_fields)


def test_every_status_has_its_enumeration_value() -> None:
    enumeration: EnumDescriptor = pb.GenerationStatus.DESCRIPTOR
    names = {value.name.removeprefix("GENERATION_STATUS_") for value in enumeration.values}

    assert names == {status.name for status in Status} | {"UNSPECIFIED"}


def test_every_method_is_in_the_documentation() -> None:
    text = (PROTO_FOLDER.parent / "docs" / "api" / "grpc.md").read_text(encoding="utf-8")

    for method in rpc.DESCRIPTOR.services_by_name["GenerationService"].methods:
        assert f"`{method.name}`" in text
