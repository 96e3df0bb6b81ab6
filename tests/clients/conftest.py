"""A service with a played worker, and the tools of clients that are not in Python."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.settings import StoreSettings
from tests.node import node, package
from tests.servers import RedisServer
from tests.service.api.stack import Stack, running_stack

TOOLS = "HIDIFFUSION_TEST_CLIENT_TOOLS"


@dataclass(frozen=True)
class Node:
    """Runs JavaScript in a folder that finds the packages."""

    tools: Path
    folder: Path

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """What a script said; see `returncode`."""
        return subprocess.run(
            [str(node(self.tools)), *arguments],
            cwd=self.folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def package(self, name: str) -> Path:
        """Where a package lies."""
        return package(self.tools, name)


@pytest.fixture
def javascript(tmp_path: Path) -> Node:
    """A folder for a client's code."""
    if not os.environ.get(TOOLS):
        pytest.skip(f"{TOOLS} names no folder; `make clients` fetches what clients are made with")
    tools = Path(os.environ[TOOLS]).resolve()
    (tmp_path / "node_modules").symlink_to(tools / "node" / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    return Node(tools, tmp_path)


@pytest.fixture
def stack(
    shared_redis: RedisServer, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A running service that knows no generation."""
    assert redis_url == shared_redis.url
    store = StoreSettings(url=tmp_path_factory.mktemp("store").as_uri())
    with running_stack(redis_url, store) as running:
        running.add_worker()
        yield running
