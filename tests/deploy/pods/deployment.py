"""A Deployment: its pods, and how they are scaled, replaced and lost."""

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.deploy.pods.manifests import Object
from tests.deploy.pods.pod import Node, Pod

#: What a pod may take until it is ready, on a processor that four of them share.
READY_SECONDS = 600.0


def wait(what: str, condition: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s: {what}"
        time.sleep(0.2)


class Deployment:
    """The pods of one Deployment."""

    def __init__(self, manifest: Object, node: Node, replicas: int) -> None:
        self.pods: list[Pod] = []
        self._busy = threading.RLock()  # KEDA acts beside the plays
        self._manifest = manifest
        self._node = node
        self._numbers = itertools.count(1)
        self.scale(replicas)

    @property
    def ready(self) -> list[Pod]:
        """The pods that a Service would send to."""
        return [pod for pod in list(self.pods) if pod.ready]

    def scale(self, replicas: int) -> None:
        """Have so many pods; those that go finish first. Returns before new ones are ready."""
        with self._busy:
            while len(self.pods) < replicas:
                self._add()
            self.delete(self.pods[replicas:])

    def delete(self, pods: list[Pod]) -> float:
        """Delete pods at once, as a drained node does; returns the seconds the slowest took."""
        if not pods:
            return 0.0
        with self._busy, ThreadPoolExecutor(len(pods)) as many:
            self.pods = [pod for pod in self.pods if pod not in pods]
            return max(many.map(Pod.stop, pods))

    def kill(self, pod: Pod) -> None:
        """Lose a pod, and start another in its place."""
        with self._busy:
            self.pods.remove(pod)
            pod.kill()
            self._add()

    def roll_out(self, manifest: Object) -> None:
        """Replace every pod by one of another template, as the strategy says."""
        rolling = manifest["spec"]["strategy"]["rollingUpdate"]
        with self._busy:
            self._manifest = manifest
            wanted = len(self.pods)
            for old in list(self.pods):
                if rolling["maxSurge"]:
                    self._add()
                    self.wait_ready(wanted + 1)
                    self.delete([old])
                else:
                    self.delete([old])
                    self._add()
                    self.wait_ready(wanted)

    def wait_ready(self, replicas: int) -> None:
        """Wait until so many pods are ready."""
        name = self._manifest["metadata"]["name"]
        wait(f"{replicas} pods of {name} are ready", lambda: len(self.ready) >= replicas)

    def _add(self) -> None:
        name = f"{self._manifest['metadata']['name']}-{next(self._numbers)}"
        self.pods.append(Pod(name, self._manifest["spec"]["template"], self._node))
