"""A real worker whose pipeline process is the scripted one; settings come by the environment."""

import sys

from service.settings import Settings
from service.supervisor.supervisor import run_worker
from service.telemetry import configure_logging

if __name__ == "__main__":
    configure_logging("INFO")
    run_worker(Settings(), [sys.executable, "-m", "tests.service.supervisor.scripted_child"])
