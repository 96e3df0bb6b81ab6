"""What helm renders, as the objects that a cluster would keep."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.images.build import ROOT
from tests.images.tools import run

#: A rendered object, or a part of one.
Object = dict[str, Any]

VALUES = Path(__file__).with_name("values.yaml")


class Manifests:
    """The chart, rendered.

    Args:
        helm: The program.
        options: Further options of `helm template`, as `--set name=value`.
    """

    def __init__(self, helm: Path, *options: str) -> None:
        chart = ROOT / "deploy/helm/hidiffusion"
        told = run(helm, "template", "pictures", chart, "-f", VALUES, *options)
        self._objects = [each for each in yaml.safe_load_all(told) if each]

    def of(self, kind: str) -> dict[str, Object]:
        """The objects of one kind, by name."""
        return {each["metadata"]["name"]: each for each in self._objects if each["kind"] == kind}

    def scraped(self, secrets: dict[str, dict[str, str]]) -> list[Object]:
        """How Prometheus reads what the PodMonitors select: its settings of each, without targets.

        Args:
            secrets: the files of each Secret.
        """
        return [
            _scraped(name, monitor["spec"], secrets)
            for name, monitor in self.of("PodMonitor").items()
        ]


def _scraped(name: str, monitor: Object, secrets: dict[str, dict[str, str]]) -> Object:
    (endpoint,) = monitor["podMetricsEndpoints"]
    wanted = [
        {"source_labels": [as_discovered(label)], "regex": value, "action": "keep"}
        for label, value in monitor["selector"]["matchLabels"].items()
    ]
    # The operator itself adds the namespace.
    labels = [{"sourceLabels": ["__meta_kubernetes_namespace"], "targetLabel": "namespace"}]
    labelled = [
        {"source_labels": each["sourceLabels"], "target_label": each["targetLabel"]}
        for each in labels + endpoint["relabelings"]
    ]
    job: Object = {"job_name": name, "relabel_configs": wanted + labelled}
    if "authorization" in endpoint:
        key = endpoint["authorization"]["credentials"]
        job["authorization"] = {"credentials": secrets[key["name"]][key["key"]]}
    return job


def as_discovered(label: str) -> str:
    """A pod's label as Prometheus's own discovery names it."""
    return f"__meta_kubernetes_pod_label_{re.sub('[^a-zA-Z0-9]', '_', label)}"
