"""One container: a root of its own, its volumes, its network, and one program in it."""

import os
import resource
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

#: In which a killed container has gone.
_KILL_SECONDS = 60.0


@dataclass(frozen=True)
class Spec:
    """What a container is made from.

    Attributes:
        lower: its file system; changes go elsewhere.
        mounts: place in the container, and folder or file here, and whether it is read-only.
        network: name of its network namespace; None: a loopback interface alone.
    """

    name: str
    lower: Path
    command: list[str]
    environment: dict[str, str]
    user: str = "0:0"
    read_only: bool = False
    tmpfs: tuple[str, ...] = ()
    mounts: dict[str, tuple[Path, bool]] = field(default_factory=dict)
    network: str | None = None
    healthcheck: list[str] = field(default_factory=list)


class Container:
    """A running container; what it writes goes to a log in its folder."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        self.spec = spec
        self.log = folder / "log"
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / "start"
        script.write_text(_script(spec, folder))
        tied = ["setpriv", "--pdeathsig", "KILL"]  # nothing outlives a killed run
        inside = ["ip", "netns", "exec", spec.network] if spec.network else ["unshare", "--net"]
        namespaces = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child"]
        with self.log.open("ab") as log:
            self._outer = subprocess.Popen(
                [*tied, *inside, *namespaces, "sh", str(script)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def status(self) -> int | None:
        """Exit status, or None while it runs."""
        return self._outer.poll()

    def wait(self, seconds: float) -> int:
        """Its exit status."""
        return self._outer.wait(seconds)

    def stop(self, grace_seconds: float) -> tuple[int, float]:
        """SIGTERM to its first process, as `docker stop`; returns the status and the seconds."""
        started = time.monotonic()
        if self.status is None:
            os.kill(self._first(), signal.SIGTERM)
        try:
            status = self._outer.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{self.spec.name} has not stopped after {grace_seconds} s\n{self.tail()}"
            ) from None
        return status, time.monotonic() - started

    def kill(self) -> None:
        """End it at once: with the first process of its namespace the kernel ends all of them."""
        if self.status is None:
            for first in psutil.Process(self._outer.pid).children() or [self._outer]:
                first.kill()
            self._outer.wait(_KILL_SECONDS)

    def execute(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as `docker exec`."""
        user, _, group = self.spec.user.partition(":")
        enter = ["nsenter", "--target", str(self._first()), "--mount", "--net", "--pid"]
        enter += ["--root", "--wd", "--setgid", group, "--setuid", user, "--"]
        return subprocess.run(
            [*enter, "env", "-i", *_assigned(self.spec.environment), *command],
            capture_output=True,
            text=True,
            check=False,
        )

    def healthy(self) -> bool:
        """Whether its health check says so."""
        return self.status is None and self.execute(self.spec.healthcheck).returncode == 0

    def check_seconds(self) -> float:
        """Processor time of one health check."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.execute(self.spec.healthcheck)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:]

    def _first(self) -> int:
        return psutil.Process(self._outer.pid).children()[0].pid


def _script(spec: Spec, folder: Path) -> str:
    """What makes the root, and becomes the program."""
    root, upper, work = (folder / name for name in ("root", "upper", "work"))
    for each in (root, upper, work):
        each.mkdir(exist_ok=True)
    lines = [
        "set -e",
        f"mount -t overlay overlay -o lowerdir={spec.lower},upperdir={upper},workdir={work} {root}",
        f"mkdir -p {root}/proc {root}/dev {root}/etc",
    ]
    for place, (source, _) in spec.mounts.items():
        target = f"{root}{place}"
        make = (
            f"mkdir -p {target}"
            if source.is_dir()
            else f"mkdir -p $(dirname {target}); : >> {target}"
        )
        lines.append(make)
    if spec.read_only:
        lines.append(f"mount -o remount,ro {root}")
    lines += [f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]
    for each in spec.tmpfs:
        place, _, options = each.partition(":")
        lines.append(f"mount -t tmpfs -o {options or 'mode=1777'} tmpfs {root}{place}")
    for place, (source, read_only) in spec.mounts.items():
        lines.append(f"mount --bind {source} {root}{place}")
        if read_only:
            lines.append(f"mount -o remount,bind,ro {root}{place}")
    lines.append(f"hostname {spec.name}")
    environment = " ".join(shlex.quote(each) for each in _assigned(spec.environment))
    # As Docker with no-new-privileges; who is not root has no capabilities to drop.
    # Becoming another user made it forget that it is to end with its parent.
    drop = "" if spec.user == "0:0" else "setpriv --no-new-privs --pdeathsig KILL "
    chroot = f"chroot --userspec={spec.user} {root} env -i {environment} "
    lines.append(f"exec {chroot}{drop}{shlex.join(spec.command)}")
    return "\n".join(lines) + "\n"


def _assigned(environment: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environment.items()]
