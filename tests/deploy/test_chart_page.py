"""Commands and values of docs/operations/kubernetes.md, as far as they go without a cluster."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from service.domain.access import Scope
from service.storage.key_file import KeyFile
from tests.deploy.test_chart import CHART, TOOLS, VALUES, helm, of_kind, rendered

ROOT = CHART.parents[2]
PAGE = ROOT / "docs" / "operations" / "kubernetes.md"

pytestmark = pytest.mark.skipif(
    not TOOLS, reason="helm is fetched by `make chart`, which runs these tests"
)


def _blocks(beginning: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"(?m)(?<=\n\n)((?: {4,}\S.*\n)+)", text)
    unindented = [re.sub(r"(?m)^ {4}", "", block) for block in blocks]
    return [block for block in unindented if re.match(beginning, block)]


def test_the_chart_is_installed_as_the_page_says() -> None:
    (block,) = _blocks("helm install")
    command, tested = block.replace("\\\n", "").splitlines()
    assert tested.startswith("helm test pictures ")
    arguments = command.split()[1:]
    # Helm 4's dry run asks no cluster.
    done = subprocess.run(
        [str(Path(TOOLS or "").resolve() / "helm"), *arguments, "--dry-run=client"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "image: REGISTRY/hidiffusion-worker:" in done.stdout


def test_values_of_the_page_are_taken_by_the_chart(tmp_path: Path) -> None:
    blocks = _blocks(r"\w+:\n")
    assert len(blocks) >= 2
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        assert yaml.safe_load(block)
        done = helm("template", "x", str(CHART), "-f", str(VALUES["small"]), "-f", str(file))
        assert done.returncode == 0, done.stderr


def test_prometheus_gets_the_key_that_the_page_makes(tmp_path: Path) -> None:
    (block,) = _blocks("kubectl create secret")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "kubectl").symlink_to(Path(TOOLS or "").resolve() / "kubectl")
    ours = programs / "hidiffusion"
    ours.write_text(f'#!/bin/sh\nexec {sys.executable} -m service.cli "$@"\n')
    ours.chmod(0o755)
    done = subprocess.run(
        ["bash", "-euc", f"{block.rstrip()} --dry-run=client --output yaml"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    secret = yaml.safe_load(done.stdout)
    monitors = of_kind(rendered("full"), "PodMonitor")
    (endpoint,) = monitors["pictures-api"]["spec"]["podMetricsEndpoints"]
    wanted = endpoint["authorization"]["credentials"]
    assert wanted == {"name": secret["metadata"]["name"], "key": "token"}
    assert secret["data"]["token"]
    (key,) = KeyFile(tmp_path / "keys.json").all()
    assert key.scopes == (Scope.ADMIN,)
