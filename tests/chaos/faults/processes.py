"""Processes are killed, stopped, told to end, and left without descriptors."""

import contextlib
import os
import random
import resource
import signal
import time
from itertools import count
from pathlib import Path

import httpx

from tests.chaos.process import ROOT, Process
from tests.chaos.stack import HEARTBEAT_TTL_SECONDS, Stack


def kill_pipeline(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """kill -9 the process that computes."""
    pid = stack.pipeline_of(_worker(stack, generation_id, chance))
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def stop_pipeline(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """SIGSTOP to the process that computes, and to it alone: its supervisor has to notice."""
    pid = stack.pipeline_of(_worker(stack, generation_id, chance))
    if pid is not None:
        os.kill(pid, signal.SIGSTOP)


def kill_worker(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """kill -9 the supervisor; another is started."""
    worker = _worker(stack, generation_id, chance)
    worker.kill()
    stack.replace(worker)


def terminate_worker(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """SIGTERM, as a container runtime or a spot machine's end sends it; another is started."""
    worker = _worker(stack, generation_id, chance)
    _end(worker)
    stack.replace(worker)


def terminate_while_loading(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """kill -9 a supervisor, and SIGTERM its successor while that loads; a third is started."""
    worker = _worker(stack, generation_id, chance)
    worker.kill()
    second = stack.replace(worker)
    time.sleep(chance.uniform(0.5, 8))
    _end(second)
    stack.replace(second)


def other_version(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """Go back to an earlier release while it works, process by process, and upgrade again.

    The worker, or the API, or both; the other worker goes on with this code beside them.
    """
    assert stack.release is not None
    worker, which = _worker(stack, generation_id, chance), chance.choice(("worker", "api", "both"))
    for root in (stack.release, ROOT):
        if which != "api":
            _end(worker)
            worker = stack.replace(worker, root)
        if which != "worker":
            _end(stack.api)
            stack.api = Process(stack, "api", root=root)
        if root != ROOT:
            stack.wait_until_ready()
            time.sleep(chance.uniform(2, 8))


def kill_api(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """kill -9 the front ends, and start them again."""
    stack.api.kill()
    time.sleep(chance.uniform(0, 1))
    stack.api = Process(stack, "api")


def freeze_worker(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """SIGSTOP the supervisor for longer than its heartbeat may fail; its pipeline works on."""
    worker = _worker(stack, generation_id, chance)
    worker.signal(signal.SIGSTOP)
    time.sleep(HEARTBEAT_TTL_SECONDS + chance.uniform(1, 3))
    worker.signal(signal.SIGCONT)


def two_holders(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """Freeze supervisor and pipeline until another worker has the job, then let both go on."""
    worker = _worker(stack, generation_id, chance)
    pipeline = stack.pipeline_of(worker)
    before = stack.records.get(generation_id).attempt
    frozen = [worker.pid, *([pipeline] if pipeline else [])]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 4 * HEARTBEAT_TTL_SECONDS
    while time.monotonic() < deadline:
        now = stack.records.get(generation_id)
        if now.attempt > before or now.status.final:
            break
        time.sleep(0.05)
    for pid in reversed(frozen):
        os.kill(pid, signal.SIGCONT)


def step_clock(stack: Stack, generation_id: str, chance: random.Random) -> None:  # noqa: ARG001
    """The service's wall clock jumps by up to a day, forward or back."""
    stack.machine.step_clock(chance.randint(-86_400, 86_400))
    time.sleep(chance.uniform(0.5, 1.5))


def exhaust_descriptors(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """One process can open nothing more for a while, no file and no connection."""
    worker = _worker(stack, generation_id, chance)
    some = (stack.api.pid, worker.pid, stack.pipeline_of(worker), stack.deliverer.pid)
    pid = chance.choice([each for each in some if each is not None])
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        taken = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        lowest_free = next(number for number in count() if number not in taken)
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, before[1]))
        end = time.monotonic() + chance.uniform(1, 5)
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"{stack.url}/healthz", timeout=1)
            time.sleep(0.1)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def _end(process: Process) -> None:
    process.signal(signal.SIGTERM)
    process.process.wait(60)


def _worker(stack: Stack, generation_id: str, chance: random.Random) -> Process:
    """The worker that runs the generation, or any if none does."""
    return stack.worker_of(generation_id) or chance.choice(stack.workers)
