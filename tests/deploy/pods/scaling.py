"""What scales a Deployment: Prometheus, and KEDA's part."""

import json
import math
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import httpx
import yaml

from tests.deploy.pods.deployment import Deployment
from tests.deploy.pods.manifests import Object, as_discovered
from tests.servers import free_port


class Measured(Protocol):
    """A pod whose figures are read."""

    @property
    def measured(self) -> str:
        """Host and port."""

    @property
    def labels(self) -> dict[str, str]:
        """Of its manifest."""


class Prometheus:
    """Reads the pods' figures every `seconds`, as the PodMonitors say: `Manifests.scraped`."""

    def __init__(
        self,
        scraped: list[Object],
        folder: Path,
        pods: Callable[[], Sequence[Measured]],
        seconds: int = 3,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._targets = folder / "targets.json"
        self._pods = pods
        self._end = threading.Event()
        self._discovery = threading.Thread(target=self._discover, daemon=True)
        self._discovery.start()
        found = [{"files": [str(self._targets)], "refresh_interval": "1s"}]
        jobs: Object = {
            "global": {"scrape_interval": f"{seconds}s"},
            "scrape_configs": [{**each, "file_sd_configs": found} for each in scraped],
        }
        settings = folder / "prometheus.yml"
        settings.write_text(yaml.safe_dump(jobs))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [
            *("setpriv", "--pdeathsig", "KILL", "prometheus", f"--config.file={settings}"),
            *(f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"),
        ]
        with (folder / "log").open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(self, query: str) -> float | None:
        """The one value of a query; None: it has none, which is an error to KEDA here."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=30)
        result = answer.raise_for_status().json()["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    def close(self) -> None:
        """End it."""
        self._end.set()
        self._discovery.join()
        self._process.kill()
        self._process.wait()

    def _discover(self) -> None:
        while not self._end.wait(1):
            found = [
                {"targets": [pod.measured], "labels": _as_discovered(pod.labels)}
                for pod in self._pods()
            ]
            beside = self._targets.with_suffix(".new")
            beside.write_text(json.dumps(found))
            beside.rename(self._targets)


def _as_discovered(labels: dict[str, str]) -> dict[str, str]:
    """A pod's namespace and labels as Prometheus's own discovery names them."""
    named = {as_discovered(name): value for name, value in labels.items()}
    return {"__meta_kubernetes_namespace": "default", **named}


class Keda:
    """Scales one Deployment by its ScaledObject: upwards at once, to none after the cooldown, and
    else not downwards, which the HPA behind it would do after five minutes.
    """

    def __init__(self, scaled: Object, pool: Deployment, prometheus: Prometheus) -> None:
        self._spec = scaled["spec"]
        (trigger,) = self._spec["triggers"]
        self._metadata = trigger["metadata"]
        assert self._metadata["ignoreNullValues"] == "false"
        self._pool = pool
        self._prometheus = prometheus
        self._active = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._act, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave the Deployment as it is."""
        self._end.set()
        self._thread.join()

    def _act(self) -> None:
        while not self._end.wait(self._spec["pollingInterval"]):
            try:
                value = self._prometheus.ask(self._metadata["query"])
            except httpx.HTTPError:
                continue
            if value is None:
                continue
            now, most = len(self._pool.pods), self._spec["maxReplicaCount"]
            if value > float(self._metadata["activationThreshold"]):
                self._active = time.monotonic()
                wanted = min(most, max(1, math.ceil(value / float(self._metadata["threshold"]))))
                self._pool.scale(max(now, wanted))
            elif time.monotonic() - self._active > self._spec["cooldownPeriod"]:
                self._pool.scale(self._spec["minReplicaCount"])
