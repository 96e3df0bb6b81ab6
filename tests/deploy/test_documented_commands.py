"""Every command of the README and of the operator's pages is run somewhere: here is where.

A command that is added there fails this until it is run by a test, or said why it cannot be.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = {
    "README.md": 8,
    "docs/operations/deploy.md": 9,
    "docs/operations/kubernetes.md": 3,
    "docs/operations/upgrades.md": 4,
    "docs/operations/backup.md": 10,
}

_IMAGES = "tests/images/scenario.py"
_EXTRAS = "tests/installs/test_extras.py"
_CHART = "tests/deploy/test_chart_page.py"
_PLAYS = "tests/deploy/pods/plays.py"
_BACKUP = ("tests/installs/test_backup.py", "test_what_is_backed_up_is_there_when_it_is_restored")

#: Beginning of a command, as the documents have it: the file that runs it and what it is there.
RUN_BY = {
    'pip install ".[torch]"': (_EXTRAS, "test_the_library"),
    'pip install ".[all]"': (_EXTRAS, "test_everything"),
    "pip install .  ": (_EXTRAS, "test_nothing_but_the_client"),
    'pip install ".[service]"': (_EXTRAS, "test_the_front_ends"),
    'pip install ".[worker]"': (_EXTRAS, "test_the_gpu_process"),
    "make demo": (".ci/run", "make demo"),
    "make test": (".ci/run", "make test"),
    "hidiffusion up": (_EXTRAS, "test_everything"),
    "hidiffusion generate": (_EXTRAS, "test_everything"),
    "curl -s localhost:8000/v1/generations": (_EXTRAS, "test_everything"),
    "docker compose up --build": (_IMAGES, "play"),
    "docker compose -f docker-compose.yml -f deploy/compose/cpu.yml up": (_IMAGES, "play"),
    "docker compose -f docker-compose.yml -f deploy/compose/keys.yml run": (
        _IMAGES,
        "play_shared",
    ),
    "docker compose -f docker-compose.yml -f deploy/compose/keys.yml up": (_IMAGES, "play_shared"),
    "docker compose -f docker-compose.yml -f deploy/compose/proxy.yml up": (
        _IMAGES,
        "play_shared",
    ),
    "python -m service.worker.process.calibrate": (_IMAGES, "calibrates"),
    "docker compose run --rm --entrypoint python3 worker -m": (_IMAGES, "calibrates"),
    "helm install pictures deploy/helm": (_CHART, "test_the_chart_is_installed_as_the_page_says"),
    "helm test pictures": ("tests/deploy/test_chart_live.py", "test_helm_test_makes_a_picture"),
    "kubectl create secret": (_CHART, "test_prometheus_gets_the_key_that_the_page_makes"),
    # No cluster has run these three: what they cause is played, and the page says so.
    "helm upgrade pictures": (_PLAYS, "upgrades"),
    "kubectl rollout status": (_PLAYS, "upgrades"),
    "helm rollback pictures": ("tests/chaos/mixed.py", "main"),
    "hidiffusion quarantine": (
        "tests/service/records/test_quarantine.py",
        "test_the_command_shows_what_cannot_be_read",
    ),
    "redis-cli": _BACKUP,
    "redis-server --dir restored": _BACKUP,
    "aws s3 sync": _BACKUP,
    "mkdir restored && cp": _BACKUP,
    "hidiffusion verify": _BACKUP,
    "hidiffusion sweep --scan": _BACKUP,
}


def _commands(document: str) -> list[str]:
    """The indented blocks, a command in each line; neither JSON nor a chart's values."""
    text = re.sub(r"(?ms)^```.*?^```", "", (ROOT / document).read_text(encoding="utf-8"))
    text = re.sub(r" *\\\n *", " ", text)
    blocks = re.findall(r"(?m)(?<=\n\n)((?:^ {4,}\S.*\n)+)", text)
    commands = [block for block in blocks if not re.match(r" +\w+:\n", block)]
    return [line.strip() for block in commands for line in block.splitlines()]


@pytest.mark.parametrize(("document", "least"), DOCUMENTS.items())
def test_every_command_is_run_by_a_test(document: str, least: int) -> None:
    commands = _commands(document)
    assert len(commands) >= least
    for command in commands:
        found = [where for start, where in RUN_BY.items() if command.startswith(start)]
        assert found, f"{document}: nothing runs {command!r}"
        file, name = found[0]
        assert re.search(rf"^ *(def )?{re.escape(name)}\b", _text(file), re.MULTILINE), (file, name)


def _text(file: str) -> str:
    # HIDIFFUSION_…=1 may stand before a command of .ci/run.
    return re.sub(r"(?m)^[A-Z_]+=1 ", "", (ROOT / file).read_text(encoding="utf-8"))
