"""The calibration command on a real model, in a process of its own as it is meant to be run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.worker.weights.memory import Profiles, profile_path
from tests.service.worker.conftest import child_settings


@pytest.mark.long
def test_it_measures_and_writes_a_profile_that_covers_what_it_saw(
    catalog: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(catalog.parent, tmp_path / "models") / "catalog.json"
    settings = child_settings(copy, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "service.worker.process.calibrate", "tiny"],
        env={**os.environ, **settings.environment(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (profile,) = Profiles.load(profile_path(copy, "tiny")).profiles
    assert (profile.device, profile.dtype) == ("cpu", "float32")
    assert {point.pixels for point in profile.measured} >= {64**2, 128**2}
    assert all(profile.run(point.pixels) >= point.bytes for point in profile.measured)
    assert "bytes for each pixel" in done.stdout
