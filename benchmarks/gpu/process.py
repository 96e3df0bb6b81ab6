"""A section in a process of its own: told line by line, ended in time, apart from the others."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.sections import SECTIONS, module, run

#: Seconds between asking a section to end and ending it.
GRACE_SECONDS = 5.0
#: Exit status of a fork that may not use CUDA, because its parent did.
_POISONED = 75
# Diffusers asks for a device when it is imported; NVML can tell without a use of CUDA.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")


def isolated(name: str, bench: Bench, tell: Callable[[str], None]) -> tuple[str, str]:
    """Run a section; return how it ended and what it wrote to standard error.

    The process is a fork of one that has imported everything and touched no device: on a machine
    that has just started, imports take as long as a measurement. Where such a fork may not use the
    device, a new process imports everything again.

    Args:
        name: Of the section.
        bench: What it measures with; it is killed some seconds after the deadline.
        tell: Called with every line of its standard output.
    """
    status, errors = _run("forkserver", name, bench, tell)
    if status == _POISONED:
        status, errors = _run("spawn", name, bench, tell)
    ended = {0: "done", -signal.SIGKILL: "out of time"}
    return ended.get(status, "failed"), errors


def _run(method: str, name: str, bench: Bench, tell: Callable[[str], None]) -> tuple[int, str]:
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([module(one) for one in SECTIONS])
    (told, out), (failed, err) = (context.Pipe(duplex=False) for _ in range(2))
    process = context.Process(target=_section, args=(name, bench, out, err))  # type: ignore[attr-defined]
    process.start()
    out.close()
    err.close()
    wait = max(0.0, bench.deadline - time.monotonic()) + GRACE_SECONDS
    ended = threading.Timer(wait, _kill, (process.pid,))
    ended.start()
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.extend(_lines(failed)))
    reader.start()
    for line in _lines(told):
        tell(line)
    process.join()
    ended.cancel()
    reader.join()
    return process.exitcode, "".join(errors)


def _section(name: str, bench: Bench, out: Connection, err: Connection) -> None:
    """Run a section in this process; rows go to one pipe, what goes wrong to the other."""
    os.setsid()
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    if bench.device.type == "cuda" and torch.cuda._is_in_bad_fork():
        sys.exit(_POISONED)
    run(name, bench)


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def _lines(pipe: Connection) -> Iterator[str]:
    with os.fdopen(os.dup(pipe.fileno()), errors="replace") as stream:
        yield from stream
