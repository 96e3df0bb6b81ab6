"""One pod: its container, its volumes, and its probes, asked as a kubelet asks them."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.deploy.pods.manifests import Object
from tests.images.build import Image
from tests.images.container import Container, Spec
from tests.images.network import Network


@dataclass(frozen=True)
class Node:
    """What pods find where they run.

    Attributes:
        images: by the name that the manifests have for them, without a tag.
        secrets: the files of each Secret.
        folder: where pods keep their files.
    """

    images: dict[str, Image]
    secrets: dict[str, dict[str, str]]
    network: Network
    folder: Path


@dataclass
class Probe:
    """One probe and what it has said so far; defaults are those of Kubernetes."""

    ask: Callable[[], bool]
    period: float
    threshold: int
    asked: float = field(default_factory=time.monotonic)
    failures: int = 0
    passed: bool = False

    def poll(self) -> None:
        """Ask, if it is time to."""
        if time.monotonic() - self.asked < self.period:
            return
        self.passed = self.ask()
        self.failures = 0 if self.passed else self.failures + 1
        self.asked = time.monotonic()

    @property
    def failed(self) -> bool:
        """Whether it has failed as often as it may."""
        return self.failures >= self.threshold


class Pod:
    """A pod, of a Deployment or alone. `ready` says whether a Service would send it anything."""

    def __init__(self, name: str, template: Object, node: Node) -> None:
        self.name = name
        self.labels: dict[str, str] = template["metadata"]["labels"]
        self.restarts = 0
        self._template = template["spec"]
        assert not self._template.get("initContainers"), "not played here"
        (self._what,) = self._template["containers"]
        self._node = node
        self._space = node.network.add(name)
        self.address = node.network.address(name)
        self._folder = node.folder / name
        self._leaving = threading.Event()
        self._start()
        self._kubelet = threading.Thread(target=self._watch, name=name, daemon=True)
        self._kubelet.start()

    @property
    def measured(self) -> str:
        """Where its figures are read: the port that the PodMonitor of its kind names."""
        port = "metrics" if "hidiffusion/role" in self.labels else "http"
        return f"{self.address}:{self._port(port)}"

    @property
    def ready(self) -> bool:
        """Started, and ready if it has a probe for that."""
        readiness = self._probes.get("readiness")
        started = self._started and not self._leaving.is_set()
        return started and (readiness is None or readiness.passed)

    def stop(self) -> float:
        """Delete it: SIGTERM, and after its grace period a failure; returns the seconds it took."""
        self._leave()
        status, seconds = self._container.stop(self._template["terminationGracePeriodSeconds"])
        assert status == 0, f"{self.name} ended with {status}\n{self._container.tail()}"
        self._node.network.remove(self.name)
        return seconds

    def result(self) -> int:
        """The exit status of a pod that is run once; waits for it, no longer than it may take."""
        self._kubelet.join(self._template["activeDeadlineSeconds"])
        status = self._container.status
        self.kill()
        assert status is not None, f"{self.name} has not ended\n{self.tail()}"
        return status

    def kill(self) -> None:
        """As if its node had lost power."""
        self._leave()
        self._container.kill()
        self._node.network.remove(self.name)

    def tail(self) -> str:
        """The end of what it wrote."""
        return self._container.tail()

    def _leave(self) -> None:
        self._leaving.set()
        self._kubelet.join()

    def _start(self) -> None:
        self._started = False
        kinds = ("startup", "readiness", "liveness")
        asked = {kind: self._what.get(f"{kind}Probe") for kind in kinds}
        self._probes = {kind: self._probe(each) for kind, each in asked.items() if each}
        self._container = Container(self._spec(), self._folder / str(self.restarts))

    def _watch(self) -> None:
        while not self._leaving.wait(0.2):
            ended = self._container.status is not None
            if ended and self._template.get("restartPolicy") == "Never":
                return
            if ended or self._is_dead():
                self._container.kill()
                self.restarts += 1
                self._start()

    def _is_dead(self) -> bool:
        """Ask what is due; tell whether the container must be started again."""
        startup = self._probes.get("startup")
        if not self._started and startup:
            startup.poll()
            self._started = startup.passed
            return startup.failed
        self._started = True
        for kind in ("readiness", "liveness"):
            if kind in self._probes:
                self._probes[kind].poll()
        return "liveness" in self._probes and self._probes["liveness"].failed

    def _probe(self, probe: Object) -> Probe:
        patience = probe.get("timeoutSeconds", 1)
        if "exec" in probe:
            command = probe["exec"]["command"]

            def ask() -> bool:
                return self._container.execute(command).returncode == 0
        else:
            port = self._port(probe["httpGet"]["port"])
            url = f"http://{self.address}:{port}{probe['httpGet']['path']}"

            def ask() -> bool:
                try:
                    return httpx.get(url, timeout=patience).is_success
                except httpx.HTTPError:
                    return False

        return Probe(ask, probe.get("periodSeconds", 10), probe.get("failureThreshold", 3))

    def _port(self, name: str) -> int:
        ports = {each["name"]: each["containerPort"] for each in self._what["ports"]}
        number: int = ports[name]
        return number

    def _spec(self) -> Spec:
        what, image = self._what, self._node.images[self._what["image"].partition(":")[0]]
        security = self._template["securityContext"]
        assert what["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        return Spec(
            name=self.name,
            lower=image.root,
            command=[*(what.get("command") or image.entrypoint), *what.get("args", image.command)],
            environment=image.environment | self._environment(),
            user=f"{security['runAsUser']}:{security['runAsGroup']}",
            read_only=what["securityContext"]["readOnlyRootFilesystem"],
            mounts={
                "/etc/resolv.conf": (self._node.network.resolver, True),
                **{
                    each["mountPath"]: (self._volume(each["name"]), each.get("readOnly", False))
                    for each in what["volumeMounts"]
                },
            },
            network=self._space,
        )

    def _environment(self) -> dict[str, str]:
        values = {}
        for each in self._what["env"]:
            secret = each.get("valueFrom", {}).get("secretKeyRef")
            values[each["name"]] = (
                self._node.secrets[secret["name"]][secret["key"]] if secret else each["value"]
            )
        return values

    def _volume(self, name: str) -> Path:
        (volume,) = [each for each in self._template["volumes"] if each["name"] == name]
        folder = self._folder / f"volume-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        if "secret" in volume:
            for item in volume["secret"]["items"]:
                file = folder / item["path"]
                file.write_text(self._node.secrets[volume["secret"]["secretName"]][item["key"]])
        else:
            assert "emptyDir" in volume, volume
        group = self._template["securityContext"]["fsGroup"]
        for each in (folder, *folder.iterdir()):
            os.chown(each, -1, group)
        folder.chmod(0o2775)
        return folder
