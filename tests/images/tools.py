"""The programs of other projects that this needs, and whether this machine lets it work."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

#: Program and the Debian package that has it.
DEBIAN = {
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "redis-server": "redis-server",
    "ip": "iproute2",
    "haproxy": "haproxy",
    "dnsmasq": "dnsmasq-base",
    "prometheus": "prometheus",
    "wget": "wget",
}


def run(*command: str | Path, quiet: bool = False) -> str:
    """Run a command; returns what it wrote to standard output."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(
            f"{' '.join(map(str, command))}\nended with {done.returncode}\n{done.stdout[-4000:]}"
        )
    return done.stdout


def what_is_forbidden(folder: Path) -> str:
    """Why this machine cannot run containers by the kernel's own means; empty when it can."""
    if os.geteuid() != 0:
        return "only root may mount and make namespaces"
    if shutil.which("apt-get") is None:
        return "buildah, debootstrap and Redis are taken from Debian, and there is no apt-get here"
    lower, upper, work, root = (folder / f"probe-{name}" for name in ("l", "u", "w", "r"))
    for each in (lower, upper, work, root):
        each.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    script = f"mount -t overlay overlay -o {options} {root} && mount -t tmpfs tmpfs {root}"
    probe = ["unshare", "--mount", "--pid", "--net", "--fork", "sh", "-c", script]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return done.stderr.strip()


def install() -> None:
    """Install from Debian what is missing."""
    missing = sorted({package for name, package in DEBIAN.items() if not shutil.which(name)})
    if missing:
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        run("apt-get", "-qq", "update", quiet=True)
        run("apt-get", "-qq", "install", "--no-install-recommends", *missing, quiet=True)


def bundled(name: str) -> Path:
    """A program that comes as a Python package of the development environment."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        sys.exit(f"{path} is missing; pip install -e '.[dev]'")
    return path


def debian_mirror() -> str:
    """Where this machine's apt takes Debian from, so that debootstrap takes the same."""
    told = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    for line in told.splitlines():
        if "security" not in line:
            return line
    sys.exit("apt names no source of packages; see /etc/apt/sources.list")


def pip_mounts(folder: Path) -> Sequence[str]:
    """`--volume` options that have pip in a build do as pip does here: its settings and files."""
    settings, mounted = ["[global]"], set[str]()
    for line in run(sys.executable, "-m", "pip", "config", "list").splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        value = value.strip("'\"")
        if section not in {"global", ":env:"} or key == "constraint":
            continue
        settings.append(f"{key} = {value}")
        places = [Path(part.removeprefix("file://")) for part in value.split()]
        # The pages of an index in a folder refer to files beside it.
        places = [place.parent if key.endswith("index-url") else place for place in places]
        mounted |= {str(place) for place in places if place.is_absolute() and place.exists()}
    file = folder / "pip.conf"
    # Of a name that is set twice the last, the environment's, holds; as with pip itself.
    file.write_text("\n".join({line.partition(" =")[0]: line for line in settings}.values()) + "\n")
    volumes = [f"{file}:/etc/pip.conf:ro", *(f"{place}:{place}:ro" for place in sorted(mounted))]
    return [part for volume in volumes for part in ("--volume", volume)]
