"""The HTTP interface against its own OpenAPI document, with requests that nobody thought of.

A short form runs with the other tests. The long one, with every check and thousands of requests:

    HIDIFFUSION_TEST_FUZZ_EXAMPLES=150 python -m pytest tests/service/api/http/test_fuzz.py -s
"""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.domain.generations.generation import Status
from tests.service.api.http.pictures.test_uploads import picture
from tests.service.api.stack import Stack

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = "HIDIFFUSION_TEST_FUZZ_EXAMPLES"


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
    # What is deleted is gone for all requests after it, so that is done in a pass of its own.
    examples = os.environ.get(EXAMPLES)
    phases = ["examples", "fuzzing"] if examples is None else ["examples", "coverage", "fuzzing"]
    passes = [(["--exclude-method", "DELETE"], phases), (["--include-method", "DELETE"], phases)]
    if examples is not None:
        passes.append(([], ["stateful"]))
    counts = [
        _fuzz(busy_stack, tmp_path / str(number), examples or "4", phases, operations)
        for number, (operations, phases) in enumerate(passes)
    ]
    sys.stdout.write(f"{sum(counts)} requests: {counts}\n")
    assert sum(counts) >= (50 if examples is None else 1000)
    assert all(counts)


def _fuzz(
    stack: Stack, folder: Path, examples: str, phases: list[str], operations: list[str]
) -> int:
    """Send requests about a generation and an upload that exist; returns how many."""
    folder.mkdir()
    config = CONFIG.read_text()
    if "stateful" not in phases:  # there, ids come from answers
        upload = stack.http.post("/v1/uploads", content=picture()).json()["id"]
        ids = {"generation_id": stack.submit(), "upload_id": upload}
        lines = (f'"path.{name}" = "{value}"\n' for name, value in ids.items())
        config += "\n[parameters]\n" + "".join(lines)
    (folder / "schemathesis.toml").write_text(config)
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml"),
            *("run", f"{stack.endpoints.http_url}/openapi.json", *operations),
            *("--phases", ",".join(phases), "--max-examples", examples, "--seed", "7"),
            *("--continue-on-failure", "--request-timeout", "20"),
        ],
        cwd=folder,
        env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    sys.stdout.write(ran.stdout)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    (count,) = re.findall(r"(\d+) generated", ran.stdout)
    return int(count)
