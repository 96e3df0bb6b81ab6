"""The HTTP interface against its own OpenAPI document, with requests that nobody thought of.

A short form runs with the other tests. The long one, with every check and thousands of requests:

    HIDIFFUSION_FUZZ_EXAMPLES=150 python -m pytest tests/service/api/http/test_fuzz.py -s
"""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.domain.generation import Status
from tests.service.api.stack import Stack

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = "HIDIFFUSION_FUZZ_EXAMPLES"


@pytest.fixture
def busy_stack(stack: Stack) -> Iterator[Stack]:
    """A stack whose worker makes whatever is asked for."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            stack.add_worker()
            page = stack.records.list(status=Status.QUEUED, cursor=None, limit=100)
            for generation in page.generations:
                if stack.records.get(generation.id).status is Status.QUEUED:
                    stack.worker.run(generation.id)

    worker = threading.Thread(target=work)
    worker.start()
    yield stack
    stop.set()
    worker.join()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_answer_is_one_that_the_document_promises(busy_stack: Stack, tmp_path: Path) -> None:
    generation_id = busy_stack.submit()
    config = tmp_path / "schemathesis.toml"
    parameters = f'[parameters]\n"path.generation_id" = "{generation_id}"\n'
    config.write_text(CONFIG.read_text() + "\n" + parameters)
    examples = os.environ.get(EXAMPLES)
    phases = "examples,fuzzing" if examples is None else "examples,coverage,fuzzing"
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"),
            f"{busy_stack.endpoints.http_url}/openapi.json",
            *("--phases", phases, "--max-examples", examples or "4", "--seed", "7"),
            *("--exclude-method", "DELETE", "--continue-on-failure", "--request-timeout", "20"),
        ],
        cwd=tmp_path,
        env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    sys.stdout.write(ran.stdout)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    (count,) = re.findall(r"(\d+) generated", ran.stdout)
    assert int(count) >= (50 if examples is None else 1000)
