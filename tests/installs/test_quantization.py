"""Quantized models draw where the packages of the extra are installed: `make extras`."""

import os
import re
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.installs, pytest.mark.timeout(1800)]


def test_quantized_models_draw(tmp_path: Path) -> None:
    """In an environment over this one, which has torchao beside."""
    venv.create(tmp_path, with_pip=True)
    python = tmp_path / "bin" / "python"
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    (Path(packages) / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "torchao"]
    subprocess.run([*pip, "-c", ROOT / "constraints.txt"], check=True)

    tests = "tests/service/worker/weights/test_low_memory.py"
    ran = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout
    assert re.search(r"\d+ passed in", ran.stdout), ran.stdout  # none was skipped
