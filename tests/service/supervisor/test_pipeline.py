"""The pipeline process across its deaths, with real processes that do little."""

import os
import signal
import sys
import time

import pytest

from service.channel import ChannelClosed
from service.supervisor.jobs.pipeline import Pipeline
from service.supervisor.jobs.process import PipelineProcess
from tests.service.supervisor.waiting import alive, wait_until

#: Says that it is warm, then waits for a message or the end.
STAYS_WARM = r"""
os.write(fd, b'{"type": "warm", "models": ["fox"], "loads": 2}\n')
os.read(fd, 99)
"""


def python(program: str) -> list[str]:
    """A command whose process runs `program` with the descriptor of its channel in `fd`."""
    return [sys.executable, "-c", f"import os, sys\nfd = int(sys.argv[-1])\n{program}"]


@pytest.fixture
def pipelines():
    made: list[Pipeline] = []

    def make(
        command: list[str], warm_up_seconds: float = 60.0, stall_seconds: float = 60.0
    ) -> Pipeline:
        made.append(Pipeline(command, {}, warm_up_seconds, stall_seconds))
        return made[-1]

    yield make
    for pipeline in made:
        pipeline.stop()


def tend_until(pipeline, condition, what):
    def tended():
        pipeline.tend(0.05)
        return condition()

    wait_until(tended, what)


def test_it_is_warm_once_it_says_so(pipelines):
    pipeline = pipelines(python(STAYS_WARM))
    assert (pipeline.warm, pipeline.models, pipeline.loads, pipeline.pid) == (False, (), 0, 0)
    tend_until(pipeline, lambda: pipeline.warm, "warmth")
    assert (pipeline.models, pipeline.loads) == (("fox",), 2)
    assert alive(pipeline.pid)


def test_loads_are_counted_across_deaths(pipelines):
    pipeline = pipelines(python(STAYS_WARM))
    tend_until(pipeline, lambda: pipeline.warm, "warmth")
    first = pipeline.pid
    os.kill(pipeline.pid, signal.SIGKILL)
    tend_until(pipeline, lambda: not pipeline.warm, "death to be noticed")
    assert pipeline.loads == 2
    tend_until(pipeline, lambda: pipeline.warm, "warmth again")
    assert pipeline.loads == 4
    assert pipeline.pid != first


def test_one_that_never_gets_warm_is_started_again_less_and_less_often(pipelines, tmp_path):
    log = tmp_path / "starts"
    pipeline = pipelines(python(f"open({str(log)!r}, 'a').write('x')"))
    begun = time.monotonic()
    tend_until(pipeline, lambda: log.exists() and len(log.read_text()) == 3, "three starts")
    assert time.monotonic() - begun > 1 + 2
    assert "exit code 0" in pipeline.trouble


def test_one_that_is_not_warm_in_time_is_replaced_and_says_so(pipelines, tmp_path):
    log = tmp_path / "starts"
    start_second = f"""
if os.path.exists({str(log)!r}):
    os.write(fd, b'{{"type": "warm", "models": ["fox"], "loads": 1}}' + bytes([10]))
open({str(log)!r}, "w")
os.read(fd, 99)
"""
    pipeline = pipelines(python(start_second), warm_up_seconds=1.0)
    tend_until(pipeline, lambda: pipeline.trouble, "the deadline")
    assert pipeline.trouble == "start 1 failed: not ready within 1 s"
    tend_until(pipeline, lambda: pipeline.warm, "warmth")
    assert pipeline.trouble == ""


@pytest.mark.parametrize("says", ["", STAYS_WARM.splitlines()[1]], ids=["loading", "idle"])
def test_one_that_stops_living_while_it_runs_nothing_is_replaced(pipelines, says):
    lives = r"""os.write(fd, b'{"type": "alive"}\n')"""
    program = f"{lives}\n{says}\nos.read(fd, 99)"
    pipeline = pipelines(python(program), stall_seconds=0.5)
    pipeline.tend(0.05)
    first = pipeline.pid
    tend_until(pipeline, lambda: pipeline.pid not in (0, first), "another")
    assert not alive(first)


@pytest.mark.parametrize(
    ("program", "ending"),
    [
        ("sys.exit(3)", "exit code 3"),
        ("os.kill(os.getpid(), 9)", "killed by signal 9 (SIGKILL)"),
        ("os.abort()", "killed by signal 6 (SIGABRT)"),
    ],
)
def test_how_it_ended_is_told(program, ending):
    process = PipelineProcess(python(program), {})
    with pytest.raises(ChannelClosed):
        process.receive(30)
    assert ending in process.bury()


def test_stopping_a_willing_one_is_quick_and_kills_nothing():
    process = PipelineProcess(python("os.read(fd, 99); sys.exit(0)"), {})
    assert process.stop() == "the pipeline process ended with exit code 0"


def test_the_environment_is_handed_down():
    process = PipelineProcess(python("sys.exit(int(os.environ['CODE']))"), {"CODE": "7"})
    assert "exit code 7" in process.bury()


def test_killing_takes_its_own_children_along(tmp_path):
    log = tmp_path / "grandchild"
    program = f"""
import subprocess
grandchild = subprocess.Popen(["sleep", "600"])
open({str(log)!r}, "w").write(str(grandchild.pid) + " ")
grandchild.wait()
"""
    process = PipelineProcess(python(program), {})
    wait_until(lambda: log.exists() and log.read_text().endswith(" "), "a grandchild")
    process.kill()
    wait_until(lambda: not alive(int(log.read_text())), "the grandchild to die")
