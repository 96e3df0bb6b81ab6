"""Every command of the README and of docs/operations/deploy.md is run somewhere: here is where.

A command that is added there fails this until it is run by a test, or said why it cannot be.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/operations/deploy.md")

_IMAGES = "tests/images/scenario.py"
_EXTRAS = "tests/installs/test_extras.py"

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
}


def _commands(document: str) -> list[str]:
    """The indented blocks that are no JSON, a command each; continued lines are left out."""
    text = re.sub(r"(?ms)^```.*?^```", "", (ROOT / document).read_text(encoding="utf-8"))
    blocks = re.findall(r"(?m)(?<=\n\n)((?:^ {4,}\S.*\n)+)", text)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if not line.startswith("-d ")]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_is_run_by_a_test(document: str) -> None:
    commands = _commands(document)
    assert len(commands) > 5
    for command in commands:
        found = [where for start, where in RUN_BY.items() if command.startswith(start)]
        assert found, f"{document}: nothing runs {command!r}"
        file, name = found[0]
        assert re.search(rf"^(def )?{re.escape(name)}\b", _text(file), re.MULTILINE), (file, name)


def _text(file: str) -> str:
    # HIDIFFUSION_…=1 may stand before a command of .ci/run.
    return re.sub(r"(?m)^[A-Z_]+=1 ", "", (ROOT / file).read_text(encoding="utf-8"))
