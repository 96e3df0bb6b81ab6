"""The wall clock and the disk that some processes see, which can be stepped and filled."""

import shutil
import subprocess
import sys
import uuid
from pathlib import Path

#: Builds a clock that can be stepped and a disk that can be full; without it both are left out.
COMPILER = shutil.which("cc")


class Machine:
    """The wall clock and the disk of the processes that `machine.c` is preloaded into."""

    def __init__(self, folder: Path, library: Path | None) -> None:
        self._file = folder / f"machine-{uuid.uuid4().hex}"
        self._file.write_bytes(bytes(16))
        self._library = library

    @property
    def environment(self) -> dict[str, str]:
        """What a process of this machine is started with."""
        if self._library is None:
            return {}
        return {"LD_PRELOAD": str(self._library), "CHAOS_MACHINE": str(self._file)}

    def step_clock(self, seconds: int) -> None:
        """Set the wall clock to this many seconds off the true one."""
        self._set(0, seconds)

    def fill_disk(self, full: bool) -> None:
        """Leave no room on the disk, or give it back."""
        self._set(8, full)

    def _set(self, offset: int, value: int) -> None:
        with self._file.open("r+b") as file:
            file.seek(offset)
            file.write(value.to_bytes(8, sys.byteorder, signed=True))


def build_library(folder: Path) -> Path | None:
    """What to preload, built in `folder`; None without a compiler."""
    if COMPILER is None:
        return None
    library = folder / "machine.so"
    source = Path(__file__).with_name("machine.c")
    subprocess.run(
        [COMPILER, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source], check=True
    )
    return library
