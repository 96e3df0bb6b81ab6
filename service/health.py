"""Is what runs here well? Every long-running process answers on a Unix socket; this asks them all.

    python -m service.health    # exit status 0 when each is well; else 1, and a line that says why

A socket and not a port: it is the same with and without TLS, whatever the ports, and reaches no
other machine. `HIDIFFUSION_HEALTH_FOLDER` names the folder of the sockets; without it nothing
answers. Standard library only: the check runs every few seconds for as long as a container lives.
"""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER_VARIABLE = "HIDIFFUSION_HEALTH_FOLDER"

#: Seconds that a process has to answer.
ANSWER_SECONDS = 5.0

_WELL = b"ok"


@contextlib.contextmanager
def answering(name: str, trouble: Callable[[], str]) -> Iterator[None]:
    """Answer for this process for the length of the block.

    Args:
        name: what the process is, such as `worker`.
        trouble: what is wrong with it, in a line; empty when all is well. Called in a thread.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        yield
        return
    path = Path(folder) / f"{name}-{os.getpid()}.sock"
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(path.parent)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=_answer, args=(listener, trouble), daemon=True).start()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def troubles(folder: Path) -> list[str]:
    """What is wrong with the processes that answer in `folder`; empty when all are well."""
    sockets = sorted(folder.glob("*.sock"))
    if not sockets:
        return [f"nothing that answers has started yet (no socket in {folder})"]
    asked = ((path.stem, _ask(path)) for path in sockets)
    return [f"{name}: {answer}" for name, answer in asked if answer]


def _answer(listener: socket.socket, trouble: Callable[[], str]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(ANSWER_SECONDS)
                connection.sendall(trouble().encode() or _WELL)


def _ask(path: Path) -> str:
    """What one process answers; empty when it is well."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(path))
            answer = connection.recv(4096)
        except OSError as error:
            return f"does not answer ({error})"
    return "" if answer == _WELL else answer.decode(errors="replace") or "gave no answer"


def _remove_left_over(folder: Path) -> None:
    """Remove the sockets of processes that were killed."""
    for path in folder.glob("*.sock"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_SECONDS)
            try:
                connection.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue


def main() -> None:
    """Ask every process whose socket is in the folder that the environment names."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        sys.exit(f"set {FOLDER_VARIABLE} to the folder that the processes were given")
    if found := troubles(Path(folder)):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
