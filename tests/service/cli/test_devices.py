"""`hidiffusion worker --devices`: one worker for each device, all of them stopped together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from service.cli.commands.devices import chosen_devices, worker_environment
from service.records.keys import WORKERS
from service.settings import Settings, WorkerSettings


@pytest.mark.parametrize(
    ("named", "visible", "chosen"),
    [
        ("all", ["0", "1"], ["0", "1"]),
        ("all", [], ["cpu"]),
        ("1", ["0", "1"], ["1"]),
        ("0, 1", ["4", "6"], ["4", "6"]),
        ("GPU-4711,0", ["GPU-42", "GPU-4711"], ["GPU-4711", "GPU-42"]),
        ("cpu,cpu", [], ["cpu", "cpu"]),
    ],
)
def test_devices_are_named_by_number_or_as_cuda_names_them(
    named: str, visible: list[str], chosen: list[str]
) -> None:
    assert chosen_devices(named, visible) == chosen


@pytest.mark.parametrize(("named", "there"), [("2", "0 to 1"), ("0,x", "0 to 1"), ("", "0 to 1")])
def test_a_device_that_is_not_there_is_refused(named: str, there: str) -> None:
    with pytest.raises(ValueError, match=f"there is {there}"):
        chosen_devices(named, ["0", "1"])


def test_each_worker_sees_one_device_and_has_a_port_of_its_own() -> None:
    settings = Settings(worker=WorkerSettings(metrics_port=9100))
    environments = [worker_environment(settings, device, n) for n, device in enumerate(["3", "5"])]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in environments] == ["3", "5"]
    assert [each["HIDIFFUSION_WORKER__DEVICE"] for each in environments] == ["cuda", "cuda"]
    assert [each["HIDIFFUSION_WORKER__METRICS_PORT"] for each in environments] == ["9100", "9101"]


def _workers(client: redis.Redis, count: int) -> set[bytes]:
    """The names of `count` live workers, once there are so many."""
    deadline = time.monotonic() + 120
    while len(names := client.smembers(WORKERS)) != count:
        assert time.monotonic() < deadline, names
        time.sleep(0.1)
    return names


def test_one_command_runs_a_worker_a_device_and_starts_again_what_dies(
    redis_url: str, tmp_path: Path
) -> None:
    """The workers start their pipeline processes, and need not wait for them to be warm."""
    environment = {
        **os.environ,
        "HIDIFFUSION_REDIS__URL": redis_url,
        "HIDIFFUSION_STORE__URL": tmp_path.as_uri(),
        "HIDIFFUSION_WORKER__PRELOAD": "false",
        "HIDIFFUSION_WORKER__HEARTBEAT_TTL_SECONDS": "6",
    }
    with (
        subprocess.Popen(
            [sys.executable, "-m", "service.cli", "worker", "--devices", "cpu,cpu"],
            env=environment,
        ) as fleet,
        redis.Redis.from_url(redis_url) as client,
    ):
        names = _workers(client, 2)
        pids = {int(name.rsplit(b"-", 2)[1]) for name in names}
        os.kill(min(pids), signal.SIGKILL)
        while client.smembers(WORKERS) <= names:
            assert fleet.poll() is None
            time.sleep(0.1)
        fleet.send_signal(signal.SIGTERM)
        assert fleet.wait(60) == 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_wrong_setting_ends_the_whole_with_its_line(redis_url: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "service.cli", "worker", "--devices", "cpu"],
        env={**os.environ, "HIDIFFUSION_REDIS__URL": redis_url, "HIDIFFUSION_CATALOG": "none"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 1
    assert "HIDIFFUSION_CATALOG" in result.stderr
    assert "Traceback" not in result.stderr
