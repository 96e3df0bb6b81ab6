"""Who may reach which pod of the chart, and what its Ingresses let through."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from service.api.http.app import longest_bodies
from service.settings import ApiSettings
from tests.deploy.test_chart import TOOLS, of_kind, rendered

Object = dict[str, Any]

pytestmark = pytest.mark.skipif(
    not TOOLS, reason="helm is fetched by `make chart`, which runs these tests"
)

NAMESPACE = "default"


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    named = selector.get("matchLabels", {}).items() <= labels.items()
    return named and all(
        labels.get(each["key"]) in each["values"]
        for each in selector.get("matchExpressions", ())
        if each["operator"] == "In" or pytest.fail(f"not understood here: {each}")
    )


def _is_from(peer: Object, namespace: str, labels: dict[str, str]) -> bool:
    assert set(peer) <= {"namespaceSelector", "podSelector"}
    if "namespaceSelector" in peer:
        if not _selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace}):
            return False
    elif namespace != NAMESPACE:
        return False
    return _selects(peer.get("podSelector", {}), labels)


def _may(objects: list[Object], namespace: str, labels: dict[str, str], target: Object) -> set[str]:
    """The ports of a pod that somebody may reach."""
    policies = [
        each["spec"]
        for each in of_kind(objects, "NetworkPolicy").values()
        if _selects(each["spec"]["podSelector"], target["metadata"]["labels"])
    ]
    assert policies, f"no policy selects {target['metadata']['labels']}"
    # Redis, the store, webhooks' receivers and traces are reached: nothing that goes out is closed.
    assert all(each["policyTypes"] == ["Ingress"] for each in policies)
    return {
        port["port"]
        for policy in policies
        for rule in policy.get("ingress", ())
        if "from" not in rule or any(_is_from(each, namespace, labels) for each in rule["from"])
        for port in rule["ports"]
    }


def _pods(objects: list[Object]) -> dict[str, Object]:
    made = of_kind(objects, "Deployment") | of_kind(objects, "Job")
    pods = {name: each["spec"]["template"] for name, each in made.items()}
    return pods | of_kind(objects, "Pod")


def _ports(pod: Object) -> dict[str, int]:
    (container,) = pod["spec"]["containers"]
    return {each["name"]: each["containerPort"] for each in container.get("ports", ())}


@pytest.mark.parametrize("name", ["small", "full"])
def test_a_neighbour_reaches_the_ports_that_pods_listen_on_and_no_other(name: str) -> None:
    objects = rendered(name)
    for pod in _pods(objects).values():
        assert _may(objects, NAMESPACE, {"app": "neighbour"}, pod) == set(_ports(pod))


def test_pods_listen_where_they_say() -> None:
    pods = _pods(rendered("full"))
    settings = ApiSettings()
    assert _ports(pods["pictures-api"]) == {"http": settings.http_port, "grpc": settings.grpc_port}
    worker = pods["pictures-worker-sdxl-h100"]
    (container,) = worker["spec"]["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    told = int(environment["HIDIFFUSION_WORKER__METRICS_PORT"])
    assert _ports(worker) == {"metrics": told}


def test_the_ingress_controller_reaches_what_its_routes_lead_to() -> None:
    objects = rendered("full")
    service = of_kind(objects, "Service")["pictures-api"]["spec"]
    targets = {each["name"]: each["targetPort"] for each in service["ports"]}
    api = _pods(objects)["pictures-api"]
    assert _selects({"matchLabels": service["selector"]}, api["metadata"]["labels"])
    led_to = set()
    for ingress in of_kind(objects, "Ingress").values():
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                assert backend["name"] == "pictures-api"
                led_to.add(targets[backend["port"]["name"]])
    assert led_to == {"http", "grpc"}
    assert _may(objects, "ingress-nginx", {}, api) == led_to
    assert _may(objects, "elsewhere", {}, api) == set()


def test_prometheus_reaches_what_the_pod_monitors_name() -> None:
    objects = rendered("full")
    for monitor in of_kind(objects, "PodMonitor").values():
        selected = [
            pod
            for pod in _pods(objects).values()
            if _selects(monitor["spec"]["selector"], pod["metadata"]["labels"])
        ]
        assert selected
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        for pod in selected:
            assert endpoint["port"] in _may(objects, "monitoring", {}, pod)


def test_helm_test_reaches_the_api_also_where_neighbours_do_not() -> None:
    only = "networkPolicy.from[0].podSelector.matchLabels.app=front"
    objects = rendered("full", "--set", only)
    pods = _pods(objects)
    api, test = pods["pictures-api"], pods["pictures-test"]
    assert _may(objects, NAMESPACE, test["metadata"]["labels"], api) == {"http"}
    assert _may(objects, NAMESPACE, {"app": "front"}, api) == {"http", "grpc"}
    assert _may(objects, NAMESPACE, {"app": "neighbour"}, api) == set()


def test_a_service_that_is_open_to_the_outside_is_reached_from_there() -> None:
    objects = rendered("small", "--set", "service.type=LoadBalancer")
    assert _may(objects, "elsewhere", {}, _pods(objects)["pictures-api"]) == {"http", "grpc"}


@pytest.mark.parametrize(
    "setting", [{}, {"max_upload_bytes": 60_000_000}, {"max_body_bytes": 10**9}]
)
def test_an_ingress_lets_through_what_the_api_takes(setting: dict[str, int]) -> None:
    settings = ApiSettings.model_validate(setting)
    options = [
        part
        for name, value in setting.items()
        for part in ("--set-string", f"settings.HIDIFFUSION_API__{name.upper()}={value}")
    ]
    longest = max(settings.max_body_bytes, *longest_bodies(settings).values())
    ingresses = of_kind(rendered("full", *options), "Ingress")
    assert len(ingresses) == 2
    for ingress in ingresses.values():
        annotations = ingress["metadata"]["annotations"]
        size = annotations["nginx.ingress.kubernetes.io/proxy-body-size"]
        assert longest <= int(size) <= 1.1 * longest + 1024 * 1024
        patience = annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]
        assert int(patience) > settings.max_wait_seconds


def test_pods_wait_for_the_catalogue_that_the_job_writes(tmp_path: Path) -> None:
    pod = _pods(rendered("full", "--set", "catalog="))["pictures-api"]
    (waits,) = pod["spec"]["initContainers"]
    command = [each.replace("/models", str(tmp_path)) for each in waits["command"]]
    catalog = tmp_path / "catalog.json"
    catalog.touch()
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(command, check=True, timeout=1)
    catalog.write_text("{}")
    subprocess.run(command, check=True, timeout=60)
