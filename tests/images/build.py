"""Build both images with buildah, on a Debian that debootstrap makes."""

import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.images.tools import debian_mirror, pip_mounts, run

BASE = "localhost/python:debian"
PACKAGES = "python3,python3-venv,ca-certificates"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Image:
    """A built image: where its file system is mounted, and what it says of itself."""

    root: Path
    entrypoint: list[str]
    command: list[str]
    environment: dict[str, str]
    user: str
    labels: dict[str, str]
    healthcheck: list[str] = field(default_factory=list)
    megabytes: int = 0


class Builder:
    """buildah with a storage of its own below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._containers: list[str] = []
        storage = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]
        self._buildah = ["buildah", *storage]

    def base(self) -> Path:
        """The base: a Debian with Python, made once; returns the folder of its file system."""
        root = self.folder / "base" / "root"
        if not (root / "usr/bin/python3").exists():
            shutil.rmtree(root, ignore_errors=True)
            root.parent.mkdir(parents=True, exist_ok=True)
            include = f"--include={PACKAGES}"
            run(
                "debootstrap",
                "--variant=minbase",
                include,
                "bookworm",
                root,
                debian_mirror(),
                quiet=True,
            )
        known = run(*self._buildah, "images", "--format", "{{.Name}}:{{.Tag}}").split()
        if BASE not in known:
            recipe = root.parent / "Dockerfile"
            path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            recipe.write_text(f"FROM scratch\nCOPY root/ /\nENV PATH={path}\n")
            options = ("--isolation", "chroot", "--layers", "-t", BASE)
            run(*self._buildah, "bud", *options, root.parent, quiet=True)
        return root

    def build(self, target: str) -> Image:
        """Build one target of the Dockerfile; returns the image, mounted."""
        tag, started = f"localhost/hidiffusion-{target}", time.monotonic()
        arguments = ["--build-arg", f"PYTHON_IMAGE={BASE}", "--target", target, "-t", tag]
        options = ["--isolation", "chroot", "--format", "docker", "--layers"]
        mounts = pip_mounts(self.folder)
        run(*self._buildah, "bud", *options, *arguments, *mounts, ROOT, quiet=True)
        print(f"  {target}: built in {time.monotonic() - started:.0f} s")
        return self._mounted(tag)

    def _mounted(self, tag: str) -> Image:
        container = run(*self._buildah, "from", "--pull-never", tag).strip()
        self._containers.append(container)
        root = Path(run(*self._buildah, "mount", container).strip())
        told: dict[str, Any] = json.loads(run(*self._buildah, "inspect", "--type", "image", tag))
        config = told["Docker"]["config"]
        check = (config.get("Healthcheck") or {}).get("Test") or []
        size = int(run("du", "-sxm", root).split()[0])
        return Image(
            root=root,
            entrypoint=config.get("Entrypoint") or [],
            command=config.get("Cmd") or [],
            environment=dict(each.split("=", 1) for each in config.get("Env") or []),
            user=config.get("User") or "0:0",
            labels=config.get("Labels") or {},
            healthcheck=check[1:],
            megabytes=size,
        )

    def close(self) -> None:
        """Unmount everything; the layers stay for the next time."""
        for container in self._containers:
            run(*self._buildah, "rm", container, quiet=True)
