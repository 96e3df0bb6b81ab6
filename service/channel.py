"""The messages a supervisor and its pipeline process exchange, and the line they travel on.

One JSON document per line over a Unix socket pair; the child inherits its end as a file
descriptor. Standard output stays free for whatever libraries print. When either side closes or
dies, the other reads end-of-file: that is how each learns of the other's death.
"""

import ctypes
import json
import select
import signal
import socket
import sys
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from service.domain.generations.events import Event
from service.domain.generations.generation import Generation

#: Seconds between two signs of life of a pipeline process.
ALIVE_SECONDS = 5.0


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)


class Run(_Message):
    """To the child: run this generation; its `attempt` is the one to stamp on everything.

    `mates` are drawn with it as one batch; each has events and an end of its own.
    """

    type: Literal["run"] = "run"
    generation: Generation
    mates: tuple[Generation, ...] = ()


class Cancel(_Message):
    """To the child: stop this attempt, if it runs.

    `resumable`: put aside what is done, because another attempt will follow.
    """

    type: Literal["cancel"] = "cancel"
    generation_id: str
    attempt: int
    resumable: bool = False


class Stop(_Message):
    """To the child: exit once nothing runs."""

    type: Literal["stop"] = "stop"


class Warm(_Message):
    """From the child: ready for work, with these models loaded, after `loads` loads in all.

    `evictions` of them were dropped to make room. `capacities` holds, for each model where it is
    known, the most pixels that this device has memory for.
    """

    type: Literal["warm"] = "warm"
    models: tuple[str, ...]
    loads: int
    evictions: int = 0
    capacities: dict[str, int] = {}


class Alive(_Message):
    """From the child, at intervals from its start: its threads run, whatever they do."""

    type: Literal["alive"] = "alive"


class DeviceFree(_Message):
    """From the child: what it was told to run last, begun with this one, needs no device any more.

    It can take another `Run`; what it has drawn comes to its end beside that.
    """

    type: Literal["device_free"] = "device_free"
    generation_id: str
    attempt: int


class Happened(_Message):
    """From the child: an event of a generation it runs; a final event ends that one."""

    type: Literal["happened"] = "happened"
    generation_id: str
    event: Event


Message = Annotated[
    Run | Cancel | Stop | Warm | Alive | DeviceFree | Happened, Field(discriminator="type")
]
_ADAPTER: TypeAdapter[Message] = TypeAdapter(Message)


class ChannelClosed(Exception):
    """The other side is gone."""


class Channel:
    """One end of the line. One thread may send while another receives."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._buffer = b""

    @classmethod
    def from_fd(cls, fd: int) -> "Channel":
        """The end that a parent process passed down as file descriptor `fd`."""
        return cls(socket.socket(fileno=fd))

    def send(self, message: Message) -> None:
        """Send one message; raises `ChannelClosed` when nobody is left to read it."""
        line = json.dumps(_ADAPTER.dump_python(message, mode="json")) + "\n"
        try:
            self._socket.sendall(line.encode())
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def receive(self, timeout: float | None = None) -> Message | None:
        """The next message, or None when none came within `timeout` seconds.

        Raises:
            ChannelClosed: the other side closed or died, and everything it sent was received;
                or it sent something that is no message.
        """
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._socket], [], [], timeout)
            if not ready:
                return None
            try:
                chunk = self._socket.recv(65536)
            except OSError as error:
                raise ChannelClosed(str(error)) from error
            if not chunk:
                raise ChannelClosed("end of file")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            return _ADAPTER.validate_json(line)
        except ValidationError as error:
            raise ChannelClosed(f"unreadable message {line[:200]!r}") from error

    def close(self) -> None:
        """Close this end; the other side reads end-of-file."""
        self._socket.close()


def pair() -> tuple[Channel, socket.socket]:
    """A parent's channel and the socket whose descriptor goes to the child."""
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    return Channel(ours), theirs


#: `PR_SET_PDEATHSIG` of Linux's <sys/prctl.h>.
_SET_PARENT_DEATH_SIGNAL = 1


def die_with_parent() -> None:
    """Have Linux kill this process when the thread that started it ends, however it ends.

    A child does see end-of-file when its parent dies, but not while a C call holds it. Elsewhere
    end-of-file has to do.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
