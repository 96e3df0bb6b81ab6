"""Hold KEDA's and prometheus-operator's objects against the schemas of their releases.

    helm template ... | VALIDATOR/bin/python deploy/helm/custom.py

Reads manifests and tells of each such object: `NAME: valid`, or what is wrong with it. Its classes
are generated from the definitions; they drop fields they do not know, so an object that comes back
other than it went in has some. The exit status is the number of objects that are wrong.
"""

import json
import sys
from typing import Any

import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as operator
from pydantic import ValidationError

KINDS: dict[str, Any] = {
    "ScaledObject": keda.ScaledObject,
    "PodMonitor": operator.PodMonitor,
    "PrometheusRule": operator.PrometheusRule,
}


def trouble(document: dict[str, Any]) -> str:
    """What is wrong with an object; empty: nothing."""
    try:
        read = KINDS[document["kind"]].model_validate(document)
    except ValidationError as error:
        return str(error)
    back = json.loads(read.model_dump_json(by_alias=True, exclude_none=True, exclude_unset=True))
    return "" if back == document else f"fields are unknown: {document} comes back as {back}"


def main() -> None:
    """Tell of every object."""
    wrong = 0
    for document in yaml.safe_load_all(sys.stdin):
        if document and document["kind"] in KINDS:
            found = trouble(document)
            wrong += bool(found)
            sys.stdout.write(f"{document['metadata']['name']}: {found or 'valid'}\n")
    sys.exit(wrong)


if __name__ == "__main__":
    main()
