"""What helm renders, as the objects that a cluster would keep."""

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

    def relabelings(self) -> list[Object]:
        """How the PodMonitor of the workers labels what is read, as Prometheus's own settings."""
        monitor = self.of("PodMonitor")["pictures-workers"]
        return [
            {"source_labels": each["sourceLabels"], "target_label": each["targetLabel"]}
            for endpoint in monitor["spec"]["podMetricsEndpoints"]
            for each in endpoint["relabelings"]
        ]
