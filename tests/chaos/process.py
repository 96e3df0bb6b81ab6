"""One process of the service."""

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.chaos.stack import Stack

ROOT = Path(__file__).parents[2]


class Process:
    """One process of the stack; `root` is where its code is."""

    def __init__(self, stack: "Stack", *command: str, root: Path = ROOT, **settings: Any) -> None:
        self._stack = stack
        self._command = command
        self._root = root
        self.settings = settings
        self.process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._stack.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "service.cli", *self._command],
                cwd=self._root,
                env=self._stack.environment(self.settings) | {"PYTHONPATH": str(self._root)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
