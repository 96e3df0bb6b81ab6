"""What Compose does with a file: services in order, volumes kept from one `up` to the next."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from tests.images.build import ROOT, Image
from tests.images.container import Container, Spec
from tests.images.network import Network
from tests.images.tools import bundled, run

#: A service that is not healthy after this long is broken, not slow.
HEALTHY_SECONDS = 300.0

_POLL_SECONDS = 0.2

#: Where the programs that come as Python packages are in the containers that run them.
_BUNDLED = "/opt/bundled"

#: What the images of others start, where the file leaves it to them.
_ENTRYPOINTS = {
    "chrislusf/seaweedfs": ["weed"],
    "haproxy": ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"],
    "prom/prometheus": [
        "prometheus",
        "--config.file=/etc/prometheus/prometheus.yml",
        "--storage.tsdb.path=/prometheus",
    ],
}

#: Images of which this machine's packages have no program.
_NOT_HERE = {"grafana/grafana"}


def configuration(*files: str) -> dict[str, Any]:
    """The files as Compose itself reads and merges them."""
    named = [part for file in files for part in ("--file", str(ROOT / file))]
    told = run(
        bundled("docker-compose"), "--project-directory", ROOT, *named, "config", "--format", "json"
    )
    read: dict[str, Any] = json.loads(told)
    services = read["services"].items()
    here = {name: what for name, what in services if _repository(what) not in _NOT_HERE}
    return read | {"services": here}


def _repository(service: dict[str, Any]) -> str:
    name: str = service["image"].partition(":")[0]
    return name


def scaled(config: dict[str, Any], name: str, count: int) -> dict[str, Any]:
    """The configuration with one service several times, as `up --scale` starts it."""
    services = dict(config["services"])
    service = services.pop(name)
    names = [f"{name}-{number}" for number in range(1, count + 1)]
    for other, what in services.items():
        needed = dict(what.get("depends_on") or {})
        if name in needed:
            condition = needed.pop(name)
            services[other] = what | {"depends_on": needed | dict.fromkeys(names, condition)}
    return config | {"services": services | dict.fromkeys(names, service)}


class Compose:
    """One project: `up`, `down`, and the containers in between.

    Args:
        config: as `configuration` returns it.
        images: the built images, by the name that the file has for them.
        base: a Debian for the images of others; this machine's own programs run in it.
        folder: where the volumes are kept, also for other projects, and the containers' files.
    """

    def __init__(
        self, config: dict[str, Any], images: dict[str, Image], base: Path, folder: Path
    ) -> None:
        self.config = config
        self._images = images
        self._base = base
        self._folder = folder
        self._started = 0
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / "containers", ignore_errors=True)
        self.network = Network(folder)
        self.containers: dict[str, Container] = {}
        self.seconds: dict[str, float] = {}

    def up(self) -> None:
        """Start every service once what it depends on is there, and wait until all are healthy."""
        services: dict[str, Any] = self.config["services"]
        for name, service in services.items():
            if "network_mode" not in service:
                self.network.add(name)
        self._start_all(list(services))
        for name, service in services.items():
            if self.containers[name].spec.healthcheck and service.get("restart"):
                self._wait_healthy(name)

    def run(self, name: str, *command: str, entrypoint: str = "") -> str:
        """`run --rm`: what a service depends on, and then it with this command; its output."""
        service: dict[str, Any] = self.config["services"][name] | {"command": list(command)}
        if entrypoint:
            service["entrypoint"] = [entrypoint]
        needed, found = [], list(service.get("depends_on", {}))
        while found:
            each = found.pop()
            needed.append(each)
            found += self.config["services"][each].get("depends_on", {})
        self._start_all(list(dict.fromkeys(needed)))
        while not self._may_start(service):
            time.sleep(_POLL_SECONDS)
            self._look()
        self._start(name, service)
        container = self.containers.pop(name)
        assert container.wait(HEALTHY_SECONDS) == 0, container.tail()
        return container.log.read_text()

    def down(self) -> None:
        """Stop everything, the last started first; the volumes stay."""
        for name in reversed(list(self.containers)):
            container = self.containers.pop(name)
            if container.status is None:
                grace = _seconds(self.config["services"][name].get("stop_grace_period", "10s"))
                container.stop(grace)

    def close(self) -> None:
        """End everything at once, after a failure too."""
        for container in self.containers.values():
            container.kill()
        self.network.close()

    def _start_all(self, names: list[str]) -> None:
        waiting = [name for name in names if name not in self.containers]
        services: dict[str, Any] = self.config["services"]
        while waiting:
            for name in [name for name in waiting if self._may_start(services[name])]:
                self._start(name, services[name])
                waiting.remove(name)
            time.sleep(_POLL_SECONDS)
            self._look()

    def _may_start(self, service: dict[str, Any]) -> bool:
        for other, how in service.get("depends_on", {}).items():
            container = self.containers.get(other)
            if container is None:
                return False
            if how["condition"] == "service_completed_successfully" and container.status != 0:
                return False
            if how["condition"] == "service_healthy" and not container.healthy():
                return False
        return True

    def _look(self) -> None:
        """Fail as soon as something has ended that should not have."""
        for name, container in self.containers.items():
            lasting = self.config["services"][name].get("restart")
            if container.status is not None and (lasting or container.status):
                raise AssertionError(
                    f"{name} ended with status {container.status}\n{container.tail()}"
                )

    def _wait_healthy(self, name: str) -> None:
        deadline = time.monotonic() + HEALTHY_SECONDS
        container = self.containers[name]
        while not container.healthy():
            self._look()
            if time.monotonic() > deadline:
                raise AssertionError(f"{name} is not healthy\n{container.tail()}")
            time.sleep(_POLL_SECONDS)
        self.seconds.setdefault(name, time.monotonic() - self._born[name])

    def _start(self, name: str, service: dict[str, Any]) -> None:
        self._started += 1
        folder = self._folder / "containers" / f"{self._started}-{name}"
        self._born = getattr(self, "_born", {}) | {name: time.monotonic()}
        self.containers[name] = Container(self._spec(name, service), folder)

    def _spec(self, name: str, service: dict[str, Any]) -> Spec:
        image = self._images.get(service["image"])
        mode = service.get("network_mode", "")
        shared = mode.removeprefix("service:") if mode.startswith("service:") else name
        network = None if mode == "none" else self.network.add(shared)
        mounts = {
            "/etc/hosts": (self.network.hosts, True),
            "/etc/resolv.conf": (self.network.resolver, True),
        }
        given = {key: value for key, value in service.get("environment", {}).items() if value}
        check = service.get("healthcheck", {})
        if image is None:
            entrypoint = service.get("entrypoint") or _ENTRYPOINTS.get(_repository(service), [])
            command = [*entrypoint, *(service.get("command") or [])]
            programs = [Path("/usr", each) for each in ("bin", "sbin", "lib", "share")]
            mounts |= {str(place): (place, True) for place in programs}
            mounts |= {_BUNDLED: (bundled("weed").parent, True)}
            path = f"{_BUNDLED}:/usr/local/bin:/usr/bin:/bin:/usr/sbin"
            environment = {"PATH": path, "HOME": "/tmp"} | given
            healthcheck = check.get("test", [])[1:]
            lower, user = self._base, "0:0"
        else:
            entrypoint = service.get("entrypoint") or image.entrypoint
            own = [] if service.get("entrypoint") else image.command
            command = [*entrypoint, *(service.get("command") or own)]
            environment = image.environment | given
            healthcheck = [] if check.get("disable") else image.healthcheck
            lower, user = image.root, service.get("user", image.user)
        return Spec(
            name=name,
            lower=lower,
            command=command,
            environment=environment,
            user=user,
            read_only=service.get("read_only", False),
            tmpfs=tuple(service.get("tmpfs", ())),
            mounts=mounts | self._mounts(service),
            network=network,
            healthcheck=healthcheck,
        )

    def volume(self, name: str) -> Path:
        """The folder that is a volume."""
        return self._folder / "volumes" / name

    def _mounts(self, service: dict[str, Any]) -> dict[str, tuple[Path, bool]]:
        mounts = {}
        for volume in service.get("volumes", ()):
            source = Path(volume["source"])
            if volume["type"] == "volume":
                source = self.volume(volume["source"])
                source.mkdir(parents=True, exist_ok=True)
            mounts[volume["target"]] = (source, volume.get("read_only", False))
        for config in service.get("configs", ()):
            file = Path(self.config["configs"][config["source"]]["file"])
            mounts[config["target"]] = (file, True)
        return mounts


def _seconds(duration: str) -> float:
    """Seconds of a duration as Compose prints it, such as 45s or 1m30s."""
    minutes, _, rest = duration.rpartition("m")
    return 60 * float(minutes or 0) + float(rest.removesuffix("s") or 0)
