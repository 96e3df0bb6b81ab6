"""The chart's queries asked of a real Prometheus, and its test run, with a real service."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from PIL import Image as Pictures

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from hidiffusion_api.v1 import generation_service_pb2_grpc as stubs
from service.application.access import new_key
from service.cli.embedded import Embedded, embedded_service
from service.domain.access import Scope
from service.settings import ApiSettings, Settings, WorkerSettings
from service.storage.key_file import KeyFile
from tests.deploy.pods.manifests import Manifests
from tests.deploy.pods.scaling import Prometheus
from tests.deploy.test_chart import TOOLS
from tests.servers import free_port

#: Set it where a missing Prometheus must fail the run rather than skip a part of it.
REQUIRED = "HIDIFFUSION_TEST_PROMETHEUS_REQUIRED"

PATIENCE_SECONDS = 300.0

pytestmark = pytest.mark.skipif(
    not TOOLS, reason="helm is fetched by `make chart`, which runs these tests"
)


@dataclass(frozen=True)
class Served:
    """A service, and the Secrets that it takes."""

    service: Embedded
    secrets: dict[str, dict[str, str]]

    def http(self, secret: str) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.secrets[secret]['token']}"}
        return httpx.Client(base_url=self.service.url, headers=headers, timeout=60)


@dataclass(frozen=True)
class Target:
    """Where the figures of a pod are read, and its labels."""

    measured: str
    labels: dict[str, str]


def manifests(*options: str) -> Manifests:
    values = [part for option in options for part in ("--set", option)]
    return Manifests(Path(TOOLS or "") / "helm", *values)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service that asks for keys."""
    folder = tmp_path_factory.mktemp("keyed")
    keys = KeyFile(folder / "keys.json")
    secrets = {}
    scopes: dict[str, tuple[Scope, ...]] = {
        "prometheus": (Scope.ADMIN,),
        "test": (Scope.READ, Scope.WRITE),
    }
    for name, allowed in scopes.items():
        key, token = new_key(name, allowed, datetime.now(UTC))
        keys.add(key)
        secrets[name] = {"token": token}
    settings = Settings(
        api=ApiSettings(http_port=0, grpc_port=0, key_file=folder / "keys.json"),
        worker=WorkerSettings(metrics_port=free_port()),
    )
    with embedded_service(folder / "data", settings) as service:
        service.wait_until_ready()
        yield Served(service, secrets)


def run_test(pod: dict[str, Any], url: str, secrets: dict[str, dict[str, str]], tmp: Path) -> int:
    """The exit status of the pod of `helm test`, with a service under its Service's name."""
    (container,) = pod["spec"]["containers"]
    environment = {}
    for each in container["env"]:
        if "value" in each:
            environment[each["name"]] = each["value"].replace("http://pictures-api:8000", url)
        else:
            reference = each["valueFrom"]["secretKeyRef"]
            environment[each["name"]] = secrets[reference["name"]][reference["key"]]
    arguments = [each.replace("/tmp", str(tmp)) for each in container["args"]]
    command = [sys.executable, "-m", "service.cli", *arguments]
    path = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    return subprocess.run(command, env=path | environment, cwd=tmp, check=False).returncode


KEYED = ("keys.secret=keys", "testPicture.keySecret=test", "monitoring.keySecret=prometheus")


def test_helm_test_makes_a_picture(keyed: Served, tmp_path: Path) -> None:
    pod = manifests(*KEYED).of("Pod")["pictures-test"]
    assert run_test(pod, keyed.service.url, keyed.secrets, tmp_path) == 0
    assert Pictures.open(tmp_path / "picture.png").convert("RGB").width >= 256


def test_helm_test_fails_with_the_service(keyed: Served, tmp_path: Path) -> None:
    pod = manifests(*KEYED).of("Pod")["pictures-test"]
    others = {"test": {"token": keyed.secrets["test"]["token"][:-1]}}
    assert run_test(pod, keyed.service.url, others, tmp_path) != 0
    assert run_test(pod, f"http://127.0.0.1:{free_port()}", keyed.secrets, tmp_path) != 0
    unknown = manifests(*KEYED, "testPicture.model=nobody").of("Pod")["pictures-test"]
    assert run_test(unknown, keyed.service.url, keyed.secrets, tmp_path) != 0
    assert not (tmp_path / "picture.png").exists()
    assert pod["spec"]["activeDeadlineSeconds"] > 0, "a picture that never comes"


def test_without_keys_the_services_own_names_are_answered(tmp_path: Path) -> None:
    (container,) = manifests().of("Deployment")["pictures-api"]["spec"]["template"]["spec"][
        "containers"
    ]
    names = {each["name"]: each.get("value") for each in container["env"]}
    hosts = json.loads(names["HIDIFFUSION_API__ALLOWED_HOSTS"])
    settings = Settings(api=ApiSettings(http_port=0, grpc_port=0, allowed_hosts=hosts))
    with embedded_service(tmp_path / "data", settings) as service:
        service.wait_until_ready()

        def status(host: str) -> int:
            answer = httpx.get(f"{service.url}/v1/models", headers={"host": host}, timeout=60)
            return answer.status_code

        for host in ("pictures-api", "pictures-api.default", "pictures-api.default.svc"):
            assert status(f"{host}:8000") == 200, host
        assert status("pictures-api.default.svc.cluster.local:8000") == 200
        assert status("pictures-api.elsewhere.svc:8000") == 421
        pod = manifests().of("Pod")["pictures-test"]
        assert run_test(pod, service.url, {}, tmp_path) == 0
        assert (tmp_path / "picture.png").exists()


def wait_until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never so: {what}"
        time.sleep(0.3)


def test_keda_is_told_how_much_is_asked_for_and_what_waits(keyed: Served, tmp_path: Path) -> None:
    if not shutil.which("prometheus") and not os.environ.get(REQUIRED):
        pytest.skip("prometheus is missing; install it with: apt-get install prometheus")
    chart = manifests(
        *KEYED,
        "monitoring.rules=true",
        "api.autoscaling.enabled=true",
        "api.autoscaling.targetRequests=100",
    )
    scaled = chart.of("ScaledObject")
    asked, waits = (
        scaled[name]["spec"]["triggers"][0]["metadata"]["query"]
        for name in ("pictures-api", "pictures-worker-emoji")
    )
    made = chart.of("Deployment")
    labels = {name: each["spec"]["template"]["metadata"]["labels"] for name, each in made.items()}
    api = keyed.service.url.removeprefix("http://")
    others = labels["pictures-api"] | {"app.kubernetes.io/instance": "others"}
    pods = [
        Target(api, labels["pictures-api"]),
        Target(api, others),
        Target(
            f"127.0.0.1:{keyed.service.settings.worker.metrics_port}",
            labels["pictures-worker-emoji"],
        ),
    ]
    scraped = chart.scraped(keyed.secrets)
    without = [{name: job[name] for name in job if name != "authorization"} for job in scraped]
    with (
        closing(Prometheus(scraped, tmp_path / "with", lambda: pods, seconds=1)) as prometheus,
        closing(Prometheus(without, tmp_path / "without", lambda: pods, seconds=1)) as keyless,
        keyed.http("test") as http,
        grpc.insecure_channel(keyed.service.grpc_address) as channel,
    ):

        def value(query: str, of: Prometheus = prometheus) -> float | None:
            try:
                return of.ask(query)
            except httpx.TransportError:
                return None

        def above(query: str, least: float) -> bool:
            return (value(query) or 0) > least

        wait_until("API and worker are read", lambda: value("sum(up)") == 2)
        assert value(waits) == 0
        probes = 'sum(rate(hidiffusion_http_requests_total{route="/healthz"}[2m]))'

        def probe() -> bool:
            http.get("/healthz")
            return above(probes, 0)

        wait_until("probes are counted", probe)
        assert value(asked) == 0, "what kubelets and Prometheus ask is no load"

        stub = stubs.GenerationServiceStub(channel)
        token = [("authorization", f"Bearer {keyed.secrets['test']['token']}")]

        def call() -> bool:
            stub.ListModels(rpc.ListModelsRequest(), metadata=token)
            return above(asked, 0)

        wait_until("gRPC calls are counted", call)
        calls = 2 * (value(asked) or 0)

        def request() -> bool:
            for _ in range(20):
                http.get("/v1/models")
            return above(asked, calls)

        wait_until("requests are counted", request)

        body = {"prompt": "a red guitar", "num_inference_steps": 150}
        ids = [http.post("/v1/generations", json=body).json()["id"] for _ in range(3)]
        wait_until("what waits and runs is counted", lambda: above(waits, 2))
        for each in ids:
            http.delete(f"/v1/generations/{each}")
        wait_until("nothing waits", lambda: value(waits) == 0)

        for rule in chart.of("PrometheusRule")["pictures"]["spec"]["groups"][0]["rules"]:
            for figure in re.findall(r"hidiffusion_\w+\{[^}]*\}", rule["expr"]):
                assert value(f"count({figure})"), f"{rule['alert']} asks for what nobody tells"

        wait_until("the worker is read", lambda: value("sum(up)", keyless) == 1)
        assert value(asked, keyless) is None, "an error, and nothing is scaled"
        assert value(waits, keyless) is None
