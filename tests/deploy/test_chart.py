"""The Helm chart, as helm renders it: valid objects, hardened pods, and clear refusals."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.api.grpc.server import CLEAN_UP_SECONDS
from service.api.serve import GRACE_SECONDS
from service.settings import Settings

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "hidiffusion"
TOOLS = os.environ.get("HIDIFFUSION_TEST_HELM_TOOLS")
SOURCE = "stabilityai/stable-diffusion-xl-base-1.0"
VALUES = {"small": CHART / "values-small.yaml", "full": CHART / "ci" / "full-values.yaml"}

pytestmark = pytest.mark.skipif(
    not TOOLS, reason="helm is fetched by `make chart`, which runs these tests"
)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(TOOLS or "") / "helm"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rendered(name: str, *options: str) -> list[dict[str, Any]]:
    finished = helm("template", "pictures", str(CHART), "-f", str(VALUES[name]), *options)
    assert finished.returncode == 0, finished.stderr
    return [each for each in yaml.safe_load_all(finished.stdout) if each]


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


@pytest.mark.parametrize("name", VALUES)
def test_helm_finds_no_fault(name):
    finished = helm("lint", "--strict", str(CHART), "-f", str(VALUES[name]))
    assert finished.returncode == 0, finished.stdout


@pytest.mark.parametrize("version", ["1.30", "1.33", "1.37"])
@pytest.mark.parametrize("name", VALUES)
def test_kubernetes_takes_every_object(name, version, tmp_path):
    builtin = [each for each in rendered(name) if not _custom(each)]
    path = tmp_path / "objects.yaml"
    path.write_text(yaml.safe_dump_all(builtin))
    command = [f"{TOOLS}/validator/bin/kubernetes-validate", "--strict", "-k", version, str(path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    told = finished.stdout + finished.stderr
    assert finished.returncode == 0, told
    assert told.count(" passed ") == len(builtin), told


def _custom(each: dict[str, Any]) -> bool:
    return each["apiVersion"].partition("/")[0] in ("keda.sh", "monitoring.coreos.com")


def _held_against_schemas(objects: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    command = [f"{TOOLS}/validator/bin/python", str(CHART.parent / "custom.py")]
    text = yaml.safe_dump_all(objects)
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_keda_and_prometheus_operator_take_every_object_of_theirs():
    custom = [each for each in rendered("full") if _custom(each)]
    finished = _held_against_schemas(custom)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout.count(": valid") == len(custom) >= 3


def test_a_field_that_they_do_not_know_is_found():
    custom = [each for each in rendered("full") if _custom(each)]
    for each in custom:
        each["spec"]["coolDownPeriod"] = 300
    finished = _held_against_schemas(custom)
    assert finished.returncode == len(custom)
    assert "coolDownPeriod" in finished.stdout


@pytest.mark.parametrize("name", VALUES)
def test_every_pod_is_what_a_restricted_namespace_takes(name):
    objects = rendered(name)
    made = [*of_kind(objects, "Deployment").values(), *of_kind(objects, "Job").values()]
    pods = [each["spec"]["template"]["spec"] for each in made]
    pods += [each["spec"] for each in of_kind(objects, "Pod").values()]
    assert len(pods) > len(made) > 0
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]


@pytest.mark.parametrize("name", VALUES)
def test_every_setting_is_one_that_the_service_knows(name):
    page = CHART.parents[2] / "docs" / "operations" / "settings.md"
    known = set(re.findall(r"`(HIDIFFUSION_\w+)`", page.read_text()))
    for deployment in of_kind(rendered(name), "Deployment").values():
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            names = {entry["name"] for entry in container["env"]}
            ours = {each for each in names if each.startswith("HIDIFFUSION_")}
            assert ours <= known


def test_a_pool_gets_its_gpu_its_models_and_more_time_than_a_drain():
    deployments = of_kind(rendered("full"), "Deployment")
    pod = deployments["pictures-worker-sdxl-h100"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    models = {e["name"]: e.get("value") for e in pod["containers"][0]["env"]}
    assert json.loads(models["HIDIFFUSION_WORKER__MODELS"]) == ["sdxl"]
    drain = Settings().worker.drain_grace_seconds
    assert pod["terminationGracePeriodSeconds"] > drain + 5
    cpu = deployments["pictures-worker-emoji-cpu"]["spec"]["template"]["spec"]
    assert "nvidia.com/gpu" not in cpu["containers"][0]["resources"]["limits"]


def test_an_api_that_leaves_drains_within_its_pods_time():
    pod = of_kind(rendered("full"), "Deployment")["pictures-api"]["spec"]["template"]["spec"]
    environment = {e["name"]: e.get("value") for e in pod["containers"][0]["env"]}
    drain = float(environment["HIDIFFUSION_API__DRAIN_SECONDS"])
    assert drain > 0
    assert pod["terminationGracePeriodSeconds"] > drain + GRACE_SECONDS + CLEAN_UP_SECONDS


def test_secrets_of_the_store_come_as_a_file_and_pods_ask_their_own_processes():
    pod = of_kind(rendered("small"), "Deployment")["pictures-worker-gpu"]["spec"]["template"]
    container = pod["spec"]["containers"][0]
    names = {entry["name"] for entry in container["env"]}
    assert "HIDIFFUSION_STORE__SECRET_ACCESS_KEY_FILE" in names
    assert "HIDIFFUSION_STORE__SECRET_ACCESS_KEY" not in names
    asked = (CHART.parents[2] / "Dockerfile").read_text().partition("HEALTHCHECK")[2]
    command = json.loads(asked.partition("CMD ")[2].splitlines()[0])
    assert container["livenessProbe"]["exec"]["command"] == command


@pytest.mark.parametrize(
    ("url", "key", "setting"),
    [
        ("gs://pictures", "key.json", "GOOGLE_CREDENTIALS_FILE"),
        ("az://pictures", "accountKey", "AZURE_KEY_FILE"),
    ],
)
def test_every_kind_of_store_has_its_credentials_as_a_file(url, key, setting):
    options = ["--set", f"store.url={url}", "--set", "store.azureAccount=pictures"]
    pod = of_kind(rendered("small", *options), "Deployment")["pictures-api"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    environment = {e["name"]: e.get("value") for e in container["env"]}
    (volume,) = [each for each in pod["spec"]["volumes"] if each["name"] == "store"]
    assert environment[f"HIDIFFUSION_STORE__{setting}"] == f"/etc/hidiffusion-store/{key}"
    assert "HIDIFFUSION_STORE__ACCESS_KEY_ID" not in environment
    assert volume["secret"]["items"] == [{"key": key, "path": key}]


def test_keda_scales_on_what_waits_and_runs_and_owns_the_replicas():
    objects = rendered("full")
    scaled = of_kind(objects, "ScaledObject")["pictures-worker-sdxl-h100"]["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (0, 8)
    query = scaled["triggers"][0]["metadata"]["query"]
    release = 'namespace="default",release="pictures"'
    assert f'hidiffusion_queued_generations{{{release},model=~"sdxl"}}' in query
    assert f'hidiffusion_worker_busy{{{release},pool="sdxl-h100"}}' in query
    deployment = of_kind(objects, "Deployment")["pictures-worker-sdxl-h100"]["spec"]
    assert "replicas" not in deployment


def test_the_api_scales_by_processor_until_it_is_told_a_rate():
    scaled = ["--set", "api.autoscaling.enabled=true"]
    objects = rendered("small", *scaled)
    assert "pictures-api" not in of_kind(objects, "ScaledObject")
    by_processor = of_kind(objects, "HorizontalPodAutoscaler")["pictures-api"]["spec"]
    assert by_processor["metrics"][0]["resource"]["name"] == "cpu"

    objects = rendered("full")
    assert not of_kind(objects, "HorizontalPodAutoscaler"), "KEDA makes its own"
    spec = of_kind(objects, "ScaledObject")["pictures-api"]["spec"]
    assert [each["type"] for each in spec["triggers"]] == ["prometheus", "cpu"]
    assert spec["triggers"][0]["metadata"]["threshold"] == "100"
    assert "replicas" not in of_kind(objects, "Deployment")["pictures-api"]["spec"]


def test_helm_test_is_left_out_where_it_has_no_key():
    assert "pictures-test" in of_kind(rendered("small"), "Pod")
    assert not of_kind(rendered("small", "--set", "keys.secret=keys"), "Pod")


SCALED_API = ["--set", "api.autoscaling.enabled=true,api.autoscaling.targetRequests=100"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--set", "api.replica=3"], "additional properties 'replica' not allowed"),
        (["--set", "ingress.enabled=true"], "hidiffusion keys create"),
        (["--set", "redis.url="], "redis.url is empty"),
        (["--set", "store.url="], "store.url is empty"),
        (["--set", "redis.url=http://redis"], "redis/url"),
        (["--set", "worker.terminationGracePeriodSeconds=10"], "minimum"),
        (["--set", "settings.FOO=1"], "settings"),
        (["--set", "models.add[0].source=a/b"], "models.add without models.claim"),
        (["--set", "models.add[0].sauce=a/b"], "additional properties 'sauce' not allowed"),
        (["--set", "api.drainSeconds=60"], "set it to api.drainSeconds and 20 more"),
        (SCALED_API, "keda.prometheus is empty: api.autoscaling.targetRequests"),
        ([*SCALED_API, "--set", "api.autoscaling.max=1"], "api.autoscaling.min is above its max"),
        (["--set", "api.autoscaling.targetRequests=few"], "targetRequests"),
        (["--set", "monitoring.podMonitor=true,keys.secret=keys"], "needs monitoring.keySecret"),
        (["--set", "ingress.maxBodySize=24 MB"], "maxBodySize"),
    ],
)
def test_what_cannot_work_is_refused_by_name(options, told):
    finished = helm("template", "x", str(CHART), "-f", str(VALUES["small"]), *options)
    assert finished.returncode != 0
    assert told in finished.stderr
    assert not finished.stdout


def test_the_job_downloads_each_model_once_and_everybody_reads_its_catalogue(tmp_path):
    objects = rendered("full", "--set", "catalog=")
    (job,) = of_kind(objects, "Job").values()
    pod = job["spec"]["template"]["spec"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "models"]
    assert volume["persistentVolumeClaim"] == {"claimName": "models"}
    for name in ("pictures-api", "pictures-worker-sdxl-h100"):
        reader = of_kind(objects, "Deployment")[name]["spec"]["template"]["spec"]
        environment = {e["name"]: e.get("value") for e in reader["containers"][0]["env"]}
        assert environment["HIDIFFUSION_CATALOG"] == "/models/catalog.json"
        assert "catalog.json" in reader["initContainers"][0]["command"][-1]
    (other,) = of_kind(rendered("full", "--set", "models.add[0].name=xl"), "Job")
    assert other != job["metadata"]["name"]

    # What its containers run, with a folder in the place of the volume and of the hub.
    source = CHART.parents[2] / "models" / "fluent-emoji-256"
    environment = {**os.environ, "HIDIFFUSION_CATALOG": str(tmp_path / "catalog.json")}
    said = []
    for container in [*pod["initContainers"] * 2, *pod["containers"]]:
        arguments = [a.replace(f"{SOURCE}", str(source)) for a in container["args"]]
        command = [sys.executable, "-m", "service.cli", *arguments]
        finished = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        said.append(finished.stdout)
    assert "added sdxl" in said[0]
    assert "is there already" in said[1]
    assert "sdxl: good" in said[2]


def test_the_chart_carries_the_dashboard_of_the_compose_file():
    ours = CHART / "files" / "dashboard.json"
    theirs = CHART.parents[1] / "grafana" / "dashboards" / "hidiffusion.json"
    assert ours.read_bytes() == theirs.read_bytes()
