"""Every scheme of a Redis URL, by threads and by event loops."""

import subprocess
import time
from pathlib import Path

import pytest
import redis

from service.events.connection import connect, connect_async
from tests.servers import redis_binary


async def test_a_socket_of_this_machine_is_spoken_to(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    command = [redis_binary(), "--port", "0", "--unixsocket", str(path), "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path) as server:
        try:
            deadline = time.monotonic() + 20
            while not path.exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            client = connect(f"unix://{path}")
            assert client.set("key", "value")
            client.close()
            loops = connect_async(f"unix://{path}")
            assert await loops.get("key") == "value"
            await loops.aclose(close_connection_pool=True)
        finally:
            server.terminate()


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix"])
def test_connections_of_every_scheme_leave_a_demoted_server(scheme: str) -> None:
    kinds = {
        "redis": (redis.Connection, redis.asyncio.Connection),
        "rediss": (redis.SSLConnection, redis.asyncio.SSLConnection),
        "unix": (redis.UnixDomainSocketConnection, redis.asyncio.UnixDomainSocketConnection),
    }
    pools = (
        connect(f"{scheme}:///").connection_pool,
        connect_async(f"{scheme}:///").connection_pool,
    )
    for pool, kind in zip(pools, kinds[scheme], strict=True):
        connection = pool.make_connection()
        assert isinstance(connection, kind)
        assert connection.demoted is False
