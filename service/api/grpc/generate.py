"""Generate the Python stubs from `proto/`: `python -m service.api.grpc.generate`.

They are the package `hidiffusion_api`, as protoc names it: what anyone gets who generates stubs.
"""

import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

PROTO_FOLDER = Path(__file__).parents[3] / "proto"
TARGET_FOLDER = Path(__file__).parents[3] / "hidiffusion_api"

_MESSAGES = ("python_out=", "mypy_out=quiet:")
_SERVICES = ("grpc_python_out=", "mypy_grpc_out=quiet:")
_HEADER = '"""gRPC stubs generated from proto/; regenerate with `make proto`, never edit."""\n'


def generate(target: Path) -> None:
    """Write the stubs of every proto file into `target`, replacing what was there.

    Raises:
        RuntimeError: protoc refused a file; its message is on standard error.
    """
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        _run_protoc(scratch)
        package = scratch / TARGET_FOLDER.name
        for folder in (package, package / "v1"):
            (folder / "__init__.py").write_text(_HEADER, encoding="utf-8")
        (package / "py.typed").touch()
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(package, target)


def _run_protoc(output: Path) -> None:
    from grpc_tools import protoc  # type: ignore[import-untyped]

    well_known = resources.files("grpc_tools") / "_proto"
    binaries = Path(sys.executable).parent
    common = [
        "protoc",
        f"-I{PROTO_FOLDER}",
        f"-I{well_known}",
        f"--plugin=protoc-gen-mypy={binaries / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={binaries / 'protoc-gen-mypy_grpc'}",
    ]
    for plugins, pattern in ((_MESSAGES, "*.proto"), (_SERVICES, "*_service.proto")):
        outputs = [f"--{plugin}{output}" for plugin in plugins]
        sources = sorted(str(path) for path in PROTO_FOLDER.rglob(pattern))
        if status := protoc.main([*common, *outputs, *sources]):
            raise RuntimeError(f"protoc refused {', '.join(sources)} with status {status}")


if __name__ == "__main__":
    generate(TARGET_FOLDER)
    sys.stdout.write(f"stubs written to {TARGET_FOLDER}\n")
