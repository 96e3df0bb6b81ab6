"""A real worker whose pipeline process is the scripted one; settings come by the environment."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from service.settings import Settings
from service.supervisor.start import run_worker
from service.telemetry import configure_logging

ROOT = Path(__file__).parents[3]


def run(environment: Mapping[str, str]) -> None:
    """Be that worker, in a process that was forked with all of this loaded."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    main()


def main() -> None:
    configure_logging("INFO")
    run_worker(Settings(), [sys.executable, "-m", "tests.service.supervisor.scripted_child"])


if __name__ == "__main__":
    main()
