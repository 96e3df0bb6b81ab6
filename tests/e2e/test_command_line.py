"""The command line as a newcomer uses it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from service.cli.embedded import Embedded

COMMAND = [sys.executable, "-m", "service.cli"]
ROOT = Path(__file__).parents[2]


def run(
    *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command in the repository's folder."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def _first_child(pid: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 60
    while not (children := psutil.Process(pid).children(recursive=True)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return children


@pytest.mark.slow
def test_generate_starts_a_service_for_the_one_job_and_leaves_nothing(tmp_path: Path) -> None:
    before = {process.pid for process in psutil.process_iter()}
    target = tmp_path / "fox.png"
    result = run(
        *("generate", "a fox", "--size", "256", "--steps", "3", "--seed", "1"),
        *("--output", str(target), "--data", str(tmp_path / "data")),
        environment={"HIDIFFUSION_API__HTTP_PORT": "0", "HIDIFFUSION_API__GRPC_PORT": "0"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    with Image.open(target) as picture:
        assert picture.size == (256, 256)
    assert str(target) in result.stdout
    assert '"seed": 1' in result.stdout
    assert "/v1/generations/" not in result.stdout  # nobody answers there any more
    left = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if process.pid not in before and str(tmp_path) in " ".join(process.info["cmdline"] or ())
    ]
    assert left == []


@pytest.mark.slow
@pytest.mark.parametrize("while_starting", [False, True])
def test_up_stops_in_order_on_sigterm_even_where_sigint_is_ignored(
    tmp_path: Path, while_starting: bool
) -> None:
    environment = {"HIDIFFUSION_API__HTTP_PORT": "0", "HIDIFFUSION_API__GRPC_PORT": "0"}
    with subprocess.Popen(
        [*COMMAND, "up", "--data", str(tmp_path / "data")],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        # As a shell does for a command with `&` behind it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # noqa: PLW1509
    ) as process:
        assert process.stdout is not None
        if while_starting:
            children = _first_child(process.pid)
        else:
            next(line for line in process.stdout if "Press Ctrl+C" in line)
            children = psutil.Process(process.pid).children(recursive=True)
            assert len(children) >= 4
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    _, left = psutil.wait_procs(children, timeout=30)
    assert left == []


def test_generate_uses_a_running_service(service: Embedded, tmp_path: Path) -> None:
    target = tmp_path / "cat.avif"
    result = run(
        *("generate", "a cat", "--size", "256", "--steps", "2", "--priority", "low"),
        *("--format", "avif", "--bit-depth", "10", "--quality", "60", "--tile-format", "webp"),
        *("--no-metadata", "--output", str(target), "--server", service.url),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    with Image.open(target) as picture:
        assert picture.format == "AVIF"
    assert b"a cat" not in target.read_bytes()
    assert '"bit_depth": 10' in result.stdout


def test_upscale_enlarges_a_file_with_the_bundled_upscaler(
    service: Embedded, tmp_path: Path
) -> None:
    small, target = tmp_path / "small.png", tmp_path / "large.png"
    Image.new("RGB", (60, 44), (200, 30, 30)).save(small)
    result = run("upscale", str(small), "--output", str(target), "--server", service.url)
    assert result.returncode == 0, result.stdout + result.stderr
    with Image.open(target) as picture:
        assert picture.size == (240, 176)
        red, green, _ = picture.convert("RGB").getpixel((120, 88))  # type: ignore[misc]
    assert red > 180
    assert green < 60


def test_generate_takes_the_bundled_upscaler_as_a_second_stage(
    service: Embedded, tmp_path: Path
) -> None:
    target = tmp_path / "cat.png"
    result = run(
        *("generate", "a cat", "--size", "128", "--steps", "2", "--upscale", "fluent-emoji-x4"),
        *("--output", str(target), "--server", service.url),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    with Image.open(target) as picture:
        assert picture.size == (512, 512)


def test_a_refused_request_says_what_is_allowed(service: Embedded) -> None:
    result = run("generate", "a cat", "--size", "100", "--server", service.url)
    assert result.returncode == 1
    assert "width: 100 is not allowed" in result.stderr
    assert "Traceback" not in result.stderr


def test_models_lists_a_running_services_models(service: Embedded) -> None:
    result = run("models", "list", "--server", service.url)
    assert result.returncode == 0
    assert "fluent-emoji-256" in result.stdout


@pytest.mark.parametrize("command", ["up", "api", "worker", "generate", "models", "settings"])
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.returncode == 0
    assert "Usage" in result.stdout
