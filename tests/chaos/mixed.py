"""An earlier release and this code side by side: a rolling upgrade, and a rollback.

    python -m tests.chaos.mixed --release COMMIT

The release is checked out into a folder of its own and runs its own code there; the packages are
those of this environment. Either accepts generations that the other's workers draw, and both do at
once; pipelines are scripted. Every generation has to succeed at its first attempt, and to read the
same for both.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import redis_server

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0

_OPEN = """
import sys
from service.events.connection import connect
from {records} import RedisRecords
from service.settings import RedisSettings
from tests.generations import make_generation
records = RedisRecords(connect(sys.argv[1]), RedisSettings(url=sys.argv[1]))
"""
_ACCEPT = _OPEN + "for _ in range(5): print(records.accept(make_generation('paint'), None).id)"
_READ = (
    _OPEN + "for i in sys.argv[2:]: g = records.get(i); print(g.status.value, g.attempt, sep=':')"
)


@dataclass(frozen=True)
class Version:
    """Code in a folder, and where in it records and scripted workers are."""

    name: str
    folder: Path
    records: str
    worker: str

    @classmethod
    def at(cls, name: str, folder: Path) -> "Version":
        """The version in a folder; rooms were called otherwise up to 0.1.0."""
        early = (folder / "service" / "queue").is_dir()
        records = "service.queue.records" if early else "service.records.records"
        room = "queue" if early else "supervisor"
        return cls(name, folder, records, f"tests.service.{room}.scripted_worker")

    def run(self, code: str, *arguments: str) -> list[str]:
        """What a program of this version prints."""
        command = [sys.executable, "-c", code.format(records=self.records), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment(), capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        return done.stdout.split()

    @contextmanager
    def working(self, url: str, folder: str) -> Iterator[None]:
        """A worker of this version, for the length of the block."""
        log = Path(folder) / f"children of {self.name}"
        log.touch()
        settings = {
            "HIDIFFUSION_REDIS__URL": url,
            "HIDIFFUSION_WORKER__MODELS": '["fox"]',
            "HIDIFFUSION_WORKER__HEARTBEAT_SECONDS": "0.5",
            "HIDIFFUSION_WORKER__HEARTBEAT_TTL_SECONDS": "4",
            "SCRIPTED_CHILD_LOG": str(log),
            "SCRIPTED_CHILD_MODELS": "fox",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", self.worker],
            cwd=self.folder,
            env=self._environment() | settings,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.folder)}


def check(
    accepting: Sequence[Version], working: Sequence[Version], readers: Sequence[Version]
) -> None:
    """Raise `AssertionError` unless everything succeeds, at once and for every reader."""
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as server:
        ids = [each for version in accepting for each in version.run(_ACCEPT, server.url)]
        began = time.monotonic()
        if len(working) == 1:
            with working[0].working(server.url, folder):
                _wait(readers[0], server.url, ids)
        else:
            with working[0].working(server.url, folder), working[1].working(server.url, folder):
                _wait(readers[0], server.url, ids)
        for reader in readers:
            found = reader.run(_READ, server.url, *ids)
            assert set(found) == {"succeeded:1"}, (reader.name, found)
        names = [" and ".join(each.name for each in group) for group in (accepting, working)]
        print(f"accepted by {names[0]}, drawn by {names[1]}: {len(ids)} of {len(ids)} succeeded at "
              f"once, {time.monotonic() - began:.1f} s", flush=True)  # fmt: skip


def _wait(reader: Version, url: str, ids: Sequence[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if all(each.startswith("succeeded") for each in reader.run(_READ, url, *ids)):
            return
        time.sleep(0.5)


@contextmanager
def checked_out(release: str) -> Iterator[Path]:
    """The tree of an earlier release, in a folder of its own for the length of the block."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "release"
        add = ["git", "worktree", "add", "-q", "--detach", str(tree), release]
        subprocess.run(add, cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            remove = ["git", "worktree", "remove", "--force", str(tree)]
            subprocess.run(remove, cwd=ROOT, check=True)


def main() -> None:
    """Check out the release and run every pairing."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mixed", description=__doc__)
    parser.add_argument("--release", required=True, help="commit or tag of the earlier release")
    options = parser.parse_args()
    with checked_out(options.release) as tree:
        old, new = Version.at("the release", tree), Version.at("this code", ROOT)
        both = (new, old)
        check([old], [new], both)
        check([new], [old], both)
        check(both, both, both)


if __name__ == "__main__":
    main()
