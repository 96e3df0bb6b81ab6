"""One worker a device: `hidiffusion worker --devices all` serves a machine with any number of GPUs.

Each is a supervisor with its pipeline process, as `hidiffusion worker` alone is, in an environment
in which CUDA shows one device. One that dies is started again; a signal goes to all.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType

from service.cli.processes import die_with_parent
from service.settings import Settings

_log = logging.getLogger(__name__)

ALL = "all"
CPU = "cpu"

#: Asked in a process of its own, because this one never loads torch.
_COUNT = "import torch; print(torch.cuda.device_count())"

#: A worker that ends with an error this soon after the first start has wrong settings.
START_SECONDS = 10.0

#: From the death of a worker to its next start: the first time, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0

_POLL_SECONDS = 0.2


def chosen_devices(named: str, visible: Sequence[str]) -> list[str]:
    """The devices that `--devices` names, each as CUDA_VISIBLE_DEVICES has it, or `cpu`.

    Args:
        named: `all`, or numbers of visible devices separated by commas; `cpu` may be among them.
        visible: what CUDA shows, as CUDA_VISIBLE_DEVICES would name each.

    Raises:
        ValueError: there is no such device.
    """
    if named == ALL:
        return list(visible) or [CPU]
    return [_device(each.strip(), visible) for each in named.split(",")]


def _device(name: str, visible: Sequence[str]) -> str:
    if name == CPU or name in visible:
        return name
    if name.isdecimal() and int(name) < len(visible):
        return visible[int(name)]
    there = f"0 to {len(visible) - 1}" if visible else "none"
    raise ValueError(
        f"--devices: there is no CUDA device {name!r} here; there is {there}. Give all, numbers "
        "separated by commas, or cpu"
    )


def visible_devices(environment: Mapping[str, str]) -> list[str]:
    """Every device that CUDA shows to torch here, as CUDA_VISIBLE_DEVICES would name each."""
    asked = subprocess.run(
        [sys.executable, "-c", _COUNT], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        raise RuntimeError(f"torch cannot tell the CUDA devices: {asked.stderr.strip()}")
    count = int(asked.stdout)
    named = [each for each in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    return named[:count] if named else [str(number) for number in range(count)]


def worker_environment(settings: Settings, device: str, place: int) -> dict[str, str]:
    """What the worker for `device`, the `place`-th, has in its environment beyond this process's.

    Figures are served on ports that follow each other, from the one in the settings on.
    """
    environment = {
        "CUDA_VISIBLE_DEVICES": "" if device == CPU else device,
        "HIDIFFUSION_WORKER__DEVICE": "cpu" if device == CPU else "cuda",
    }
    if settings.worker.metrics_port is not None:
        port = settings.worker.metrics_port
        environment["HIDIFFUSION_WORKER__METRICS_PORT"] = str(port + place if port else 0)
    return environment


class _Worker:
    """The worker of one device, and when it is due to start again."""

    def __init__(self, device: str, environment: dict[str, str]) -> None:
        self.device = device
        self._environment = {**os.environ, **environment}
        self._pause = _FIRST_PAUSE
        self._starts = 0
        self.due_at: float | None = None
        self.start()

    def start(self) -> None:
        self.due_at = None
        self._starts += 1
        self._started_at = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "worker"],
            env=self._environment,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
            start_new_session=True,
        )
        _log.info("device %s: started its worker, PID %d", self.device, self.process.pid)

    def tend(self) -> int | None:
        """Start it again when that is due; the status to end with when it cannot start at all."""
        status = self.process.poll()
        if status is None:
            return None
        lived = time.monotonic() - self._started_at
        if self.due_at is None:
            if status > 0 and self._starts == 1 and lived < START_SECONDS:
                return status
            self._pause = _FIRST_PAUSE if lived > _LONGEST_PAUSE else self._pause
            _log.warning("device %s: its worker ended with status %d", self.device, status)
            self.due_at = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        if time.monotonic() >= self.due_at:
            self.start()
        return None


def run_workers(settings: Settings, devices: Sequence[str]) -> int:
    """Run one worker for each of `devices` until SIGTERM or SIGINT; then let all of them drain.

    Returns:
        0 after a signal; the status of a worker that could not start, once the others are gone.
    """
    asked: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        for each in workers:
            if each.process.poll() is None:
                each.process.send_signal(signal.SIGTERM)

    workers: list[_Worker] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    for place, device in enumerate(devices):
        workers.append(_Worker(device, worker_environment(settings, device, place)))
    failed = 0
    while not asked and not failed:
        time.sleep(_POLL_SECONDS)
        failed = next((status for each in workers if (status := each.tend())), 0)
    if not asked:
        pass_on(signal.SIGTERM, None)
    for each in workers:
        each.process.wait()
    return failed
