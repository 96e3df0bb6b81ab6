"""Processes that generate load: started, waited for, and ended with the block."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

from benchmarks.load.stage import ROOT


class Helper:
    """A module of this package in a process of its own, which has said `ready`."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"benchmarks.load.{module}", *arguments]
        self._process = psutil.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        try:
            self._line()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Let it begin."""
        print(file=self._process.stdin, flush=True)

    def result(self) -> Any:
        """What it has to tell, once it is done."""
        return json.loads(self._line())

    def cpu_seconds(self) -> float:
        """Processor time that it has taken so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        """End the process, whether it is done or not."""
        self._process.kill()
        self._process.communicate()

    def _line(self) -> str:
        if not (line := self._process.stdout.readline()):
            raise RuntimeError("a process that generates load died; what it said is above")
        return str(line)


@contextmanager
def helpers(module: str, *arguments: Sequence[str]) -> Iterator[list[Helper]]:
    """Processes of one module, one for each of `arguments`."""
    running: list[Helper] = []
    try:
        for each in arguments:
            running.append(Helper(module, *each))
        yield running
    finally:
        for helper in running:
            helper.close()
