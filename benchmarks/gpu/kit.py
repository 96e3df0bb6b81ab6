"""Collect as wheels what a bare GPU machine lacks, for one that no registry can be reached from.

    python -m benchmarks.gpu.kit                       what the extras need, for Python 3.12
    python -m benchmarks.gpu.kit --authors             the authors' package as well, beside it
    python -m benchmarks.gpu.kit --has torch pillow …  packages the machine has, with their needs

The machine is taken to have torch, transformers and accelerate, with what they need. Nothing is
compiled there: `pip install --no-index --no-deps --target SITE FOLDER/*.whl`. The last lines say
how much travels, the tree and the kit, and what a run can do without.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".gpu-kit"
EXTRAS = ("torch", "service", "worker", "embedded")
#: What such a machine has: torch's, transformers' and accelerate's needs, and what data science
#: images carry. Everything else travels, pydantic among it.
HAS = ("torch", "triton", "transformers", "accelerate", "pillow", "requests", "protobuf", "peft")
#: In the closure above by way of newer releases than such machines have.
LACKS = ("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "truststore")
#: pip wants each by name: a wheel for an older glibc runs on a newer one.
PLATFORMS = tuple(f"manylinux_2_{minor}_x86_64" for minor in (35, 34, 31, 28, 27, 24, 17))
OLD_PLATFORMS = ("manylinux2014_x86_64", "manylinux1_x86_64")
#: Published as source only; pure Python, so a wheel made here runs there.
PURE = ("pyvips",)
#: The authors' package with the newest diffusers that it runs on. Its own needs are the machine's.
AUTHORS = ("hidiffusion==0.1.10", "diffusers==0.35.2")
#: What a run can do without: (path, what for).
OPTIONAL = (
    ("docs", "pictures of the documentation"),
    ("tests/service", "tests of the service"),
    ("tests/hidiffusion/reference", "tensors of the parity tests"),
    (
        "models/fluent-emoji-256/unet/diffusion_pytorch_model.safetensors",
        "weights; random ones take their place",
    ),
)
#: 60 MiB: what one transfer may hold.
LIMIT_BYTES = 60 * 2**20


def closure(names: Iterable[str], python: str) -> set[str]:
    """Return everything that requirements need, by name, from what is installed here."""
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        found.add(name)
        try:
            needs = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            continue
        for need in needs:
            environments = [
                {"extra": extra, "python_version": python} for extra in ("", *requirement.extras)
            ]
            if need.marker is None or any(map(need.marker.evaluate, environments)):
                waiting.append(need)
    return found


def pins(has: Iterable[str], python: str) -> list[str]:
    """Return `name==version` of everything that travels, as pinned and installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(n for extra in EXTRAS for n in extras.get(extra, ()))]
    # An extra may name others of this project, which travels as the tree.
    there = closure(has, python) - set(LACKS) | {canonicalize_name(project["name"])}
    return [f"{name}=={version(name)}" for name in sorted(closure(wanted, python) - there)]


def download(names: Iterable[str], folder: Path, python: str) -> None:
    """Fetch wheels for the other machine's Python.

    Raises:
        SystemExit: pip has none; its own words say which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    platforms = [f"--platform={name}" for name in (*PLATFORMS, *OLD_PLATFORMS)]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    pure = [name for name in names if name.partition("==")[0] in PURE]
    binary = [name for name in names if name not in pure]
    fetch = [*pip, "download", "--no-deps", "--only-binary=:all:", f"--python-version={python}"]
    fetch += ["--implementation=cp", *platforms, "--dest", str(folder), *binary]
    commands = [fetch]
    if pure:
        commands.append([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), *pure])
    for command in commands:
        if subprocess.run(command, check=False).returncode:
            raise SystemExit(f"error: pip could not collect the kit: {' '.join(command[3:])}")


def size(paths: Iterable[Path]) -> int:
    """Return the bytes of files."""
    return sum(path.stat().st_size for path in paths if path.is_file())


def tree() -> list[Path]:
    """Return every file of the checkout that travels."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [ROOT / name for name in listed.splitlines()]


def report(folder: Path) -> list[str]:
    """Say what travels and what could stay."""
    files, kit = tree(), size(folder.rglob("*.whl"))
    whole = size(files)
    lines = [f"kit {kit / 2**20:.1f} MiB in {folder}, tree {whole / 2**20:.1f} MiB"]
    spared = 0
    for name, what in OPTIONAL:
        part = size(path for path in files if path.is_relative_to(ROOT / name))
        spared += part
        lines.append(f"  can stay here: {name}, {part / 2**20:.1f} MiB ({what})")
    least = whole - spared + kit
    verdict = "within" if least <= LIMIT_BYTES else "ABOVE"
    lines.append(
        f"together {(whole + kit) / 2**20:.1f} MiB, without those {least / 2**20:.1f} MiB: "
        f"{verdict} {LIMIT_BYTES / 2**20:.0f} MiB"
    )
    lines.append(
        "there: python3 -m pip install --no-index --no-deps --target /tmp/site "
        f"{folder.name}/*.whl && PYTHONPATH=/tmp/site python3 -m benchmarks.gpu --out results"
    )
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.kit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--python", default="3.12", help="the other machine's Python (3.12)")
    parser.add_argument("--has", nargs="*", default=HAS, help="packages that it has")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the wheels")
    parser.add_argument("--authors", action="store_true", help="the authors' package too")
    options = parser.parse_args(arguments)
    for old in options.out.rglob("*.whl"):
        old.unlink()
    download(pins(options.has, options.python), options.out, options.python)
    if options.authors:
        download(AUTHORS, options.out / "authors", options.python)
    print("\n".join(report(options.out)))


if __name__ == "__main__":
    main()
