"""The protos are well-formed, the stubs are theirs, and they say what the domain says."""

import filecmp
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from google.protobuf.descriptor import EnumDescriptor

from hidiffusion_api.v1 import generation_pb2 as pb
from hidiffusion_api.v1 import generation_service_pb2 as rpc
from service.api.grpc.generate import PROTO_FOLDER, TARGET_FOLDER, generate
from service.domain.generations.generation import Status


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


@pytest.mark.long
def test_stubs_and_the_library_are_imported_together() -> None:
    code = "import hidiffusion, hidiffusion_api.v1.generation_service_pb2_grpc as stubs; stubs"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def _buf(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    buf = Path(sys.executable).parent / "buf"
    return subprocess.run(
        [buf, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_protos_pass_the_linter() -> None:
    linted = _buf("lint", PROTO_FOLDER)

    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_clients_of_the_last_release_are_understood() -> None:
    compared = _buf("breaking", PROTO_FOLDER, "--against", PROTO_FOLDER / "released.binpb")

    assert compared.returncode == 0, compared.stdout + compared.stderr


def test_a_change_that_breaks_clients_is_found(tmp_path: Path) -> None:
    changed = tmp_path / "proto"
    shutil.copytree(PROTO_FOLDER, changed)
    service = changed / "hidiffusion_api" / "v1" / "generation_service.proto"
    text = service.read_text(encoding="utf-8")
    service.write_text(text.replace("int64 seed = 8;", "int64 seed = 9999;"), encoding="utf-8")

    compared = _buf("breaking", changed, "--against", PROTO_FOLDER / "released.binpb")

    assert compared.returncode != 0
    assert 'field "8" with name "seed"' in compared.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files in a wheel that is built from a copy of the sources."""
    root, copy = PROTO_FOLDER.parent, tmp_path_factory.mktemp("sources")
    for name in ("hidiffusion", "hidiffusion_api", "hidiffusion_client", "service"):
        shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(root / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", copy / "dist", copy], check=True, timeout=120)
    (built,) = (copy / "dist").glob("*.whl")
    return zipfile.ZipFile(built).namelist()


def test_the_wheel_has_the_stubs_and_their_types(wheel: list[str]) -> None:
    kept = {
        f"hidiffusion_api/{path.relative_to(TARGET_FOLDER).as_posix()}"
        for path in TARGET_FOLDER.rglob("*.py*")
        if "__pycache__" not in path.parts
    }

    assert any(name.endswith("_pb2.pyi") for name in kept)
    assert kept <= set(wheel)
    assert {"service/py.typed", "hidiffusion/py.typed", "hidiffusion_api/py.typed"} <= set(wheel)


def test_every_status_has_its_enumeration_value() -> None:
    enumeration: EnumDescriptor = pb.GenerationStatus.DESCRIPTOR
    names = {value.name.removeprefix("GENERATION_STATUS_") for value in enumeration.values}

    assert names == {status.name for status in Status} | {"UNSPECIFIED"}


def test_every_method_is_in_the_documentation() -> None:
    text = (PROTO_FOLDER.parent / "docs" / "api" / "grpc.md").read_text(encoding="utf-8")

    for method in rpc.DESCRIPTOR.services_by_name["GenerationService"].methods:
        assert f"`{method.name}`" in text
