"""The client's side of a connection, where the limits are kept."""

import asyncio
import logging
from dataclasses import dataclass, field

from service.api.grpc.relay import frames
from service.api.grpc.relay.messages import Messages
from service.api.grpc.relay.pace import PAUSE_SECONDS, Pace
from service.api.grpc.relay.server import ServerSide
from service.api.listening import ConnectionLimits
from service.api.turns import Turn, Turns

_log = logging.getLogger(__name__)

#: Why a client is not read from.
_CONNECTING, _TURN, _PACE = "connecting", "turn", "pace"


@dataclass
class Common:
    """What all connections of one relay have in common.

    Attributes:
        path: of the Unix socket where gRPC's own server listens.
        limits: on connections, bytes and time of headers, time of messages.
        turns: whose call is passed on next; lanes are addresses, or connections of a proxy.
        pace: how many frames an address may send.
        clients: the connections that there are.
    """

    path: str
    limits: ConnectionLimits
    turns: Turns
    pace: Pace
    clients: set["ClientSide"] = field(default_factory=set)


class ClientSide(asyncio.Protocol):
    """One client's side of a connection."""

    transport: asyncio.Transport

    def __init__(self, common: Common) -> None:
        self._common = common
        self._limits = common.limits
        self._loop = asyncio.get_running_loop()
        self.address = ""
        self._counted = False
        self._server: ServerSide | None = None
        self._stopped: set[str] = {_CONNECTING}
        self._reading = True
        self._data = bytearray()
        self._deadline: asyncio.TimerHandle | None = None
        # The frame that is being passed on as it comes: bytes to come, and the stream that it ends.
        self._passing = 0
        self._ending = 0
        # The headers that are being collected, with heads of frames; then those that wait.
        self._block = bytearray()
        self._block_of: tuple[int, bool] = (0, False)
        self._held = b""
        self._last = 0
        self._turns: dict[int, Turn] = {}
        self._messages = Messages(common.limits.body_seconds)
        self._look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection in, or turn it away."""
        self.transport = transport
        self.address = (transport.get_extra_info("peername") or ("",))[0]
        self._counted = self._limits.enter(self.address)
        if not self._counted:
            transport.close()
            return
        self._common.clients.add(self)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """End what it has begun."""
        if self._counted:
            self._limits.leave(self.address)
        self._common.clients.discard(self)
        self._common.pace.leave(self.address)
        self._stop_expecting()
        if self._look is not None:
            self._look.cancel()
        if self._server is not None:
            self._server.transport.close()
        for turn in self._turns.values():
            turn.end()

    def data_received(self, data: bytes) -> None:
        """Pass on what may be."""
        self._data += data
        if self._server is not None:
            self._go_on()
        elif self._data[: len(frames.PREFACE)] != frames.PREFACE[: len(self._data)]:
            self.transport.close()
        elif len(self._data) >= len(frames.PREFACE) and not self._passing:
            self._passing = len(frames.PREFACE)
            self._set_reading()
            self._loop.create_task(self._connect())

    def pause_writing(self) -> None:
        """It does not read what it is sent."""
        if self._server is not None and not self._server.transport.is_closing():
            self._server.transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        if self._server is not None and not self._server.transport.is_closing():
            self._server.transport.resume_reading()

    def stop(self, why: str) -> None:
        """Do not read from it for now."""
        self._stopped.add(why)
        self._set_reading()

    def go_on(self, why: str) -> None:
        """Read from it again, unless there is another reason not to."""
        self._stopped.discard(why)
        if not self._stopped:
            self._go_on()
        self._set_reading()

    def answered(self, stream: int, *, ended: bool) -> None:
        """The server answers on this stream, and maybe ends it."""
        if (turn := self._turns.pop(stream, None)) is not None:
            turn.end()
        if ended:
            self._messages.end(stream)

    async def _connect(self) -> None:
        try:
            _, server = await self._loop.create_unix_connection(
                lambda: ServerSide(self), self._common.path
            )
        except OSError:
            self.transport.close()
            return
        if self.transport.is_closing():
            server.transport.close()
            return
        self._server = server
        self.go_on(_CONNECTING)

    def _set_reading(self) -> None:
        if self.transport.is_closing():
            return
        wanted = not self._stopped or (self._stopped == {_CONNECTING} and not self._passing)
        if wanted != self._reading:
            self._reading = wanted
            (self.transport.resume_reading if wanted else self.transport.pause_reading)()

    def _go_on(self) -> None:
        """Pass on whole frames, and parts of messages, until something has to be waited for."""
        assert self._server is not None
        data, at, count = self._data, 0, 0
        out: list[bytes | bytearray] = []
        room = self._common.pace.room(self.address)
        while at < len(data) and not self._stopped and not self.transport.is_closing():
            if self._passing:
                piece = data[at : at + self._passing]
                out.append(piece)
                at += len(piece)
                self._passed(len(piece))
            elif count >= room:
                self.stop(_PACE)
                self._loop.call_later(PAUSE_SECONDS, self.go_on, _PACE)
            elif taken := self._take(at, out):
                at += taken
                count += 1
            else:
                break
        del data[:at]
        self._common.pace.count(self.address, count)
        if out:
            self._server.transport.write(b"".join(out))
        if count and not self._block:
            self._stop_expecting()
        if not self.transport.is_closing():
            self._wait_for_the_rest()

    def _take(self, at: int, out: list[bytes | bytearray]) -> int:
        """Take a frame, or its head where the rest may go on as it comes; the bytes taken."""
        data = self._data
        if len(data) - at < frames.HEAD_BYTES:
            return 0
        length, kind, flags, stream = frames.head_at(data, at)
        end = at + frames.HEAD_BYTES + length
        if bool(self._block) != (kind == frames.CONTINUATION):
            return self._refuse("frames are out of order")
        if kind in {frames.HEADERS, frames.CONTINUATION}:
            if len(self._block) + end - at > self._limits.head_bytes:
                return self._refuse(f"headers are longer than {self._limits.head_bytes} bytes")
            if len(data) < end:
                return 0
            if kind == frames.HEADERS:
                self._block_of = stream, bool(flags & frames.END_STREAM)
            self._block += data[at:end]
            if flags & frames.END_HEADERS:
                self._pass_headers(out)
            return end - at
        if kind == frames.DATA:
            self._messages.come(stream, length)
            self._ending = stream if flags & frames.END_STREAM else 0
        elif kind == frames.RST_STREAM:
            self._messages.end(stream)
            self._turns.pop(stream, None)  # its turn lasts: what was begun is still to be undone
        self._passing = length
        out.append(data[at : at + frames.HEAD_BYTES])
        if not length:
            self._passed(0)
        return frames.HEAD_BYTES

    def _pass_headers(self, out: list[bytes | bytearray]) -> None:
        """Pass whole headers on, those of a new call when it is its turn."""
        (stream, ends), block, self._block = self._block_of, bytes(self._block), bytearray()
        self._stop_expecting()
        if stream <= self._last:
            if ends:
                self._messages.end(stream)
            out.append(block)
            return
        self._last = stream
        if not ends:
            self._messages.begin(stream, self._loop.time())
            self._look_later(self._limits.body_seconds)
        lane = self if self._limits.uncounted(self.address) else self.address
        self._held = block
        turn = self._common.turns.ask(lane, self._begin)
        self._turns[stream] = turn
        if self._held:
            self.stop(_TURN)
        else:
            out.append(block)

    def _begin(self) -> None:
        """It is the turn of the call whose headers are held."""
        held, self._held = self._held, b""
        if _TURN in self._stopped:
            self._loop.call_soon(self._pass_held, held)

    def _pass_held(self, block: bytes) -> None:
        if self._server is not None and not self.transport.is_closing():
            self._server.transport.write(block)
            self.go_on(_TURN)

    def _passed(self, count: int) -> None:
        self._passing -= count
        if not self._passing and self._ending:
            self._messages.end(self._ending)
            self._ending = 0

    def _wait_for_the_rest(self) -> None:
        """Headers, and frames, that have begun have to go on."""
        if self._stopped or not (self._block or self._data):
            self._stop_expecting()
        elif self._deadline is None:
            self._expect()

    def _stop_expecting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expect(self) -> None:
        self._deadline = self._loop.call_later(
            self._limits.head_seconds, self._refuse, "headers take too long"
        )

    def _look_later(self, seconds: float) -> None:
        if self._look is None:
            self._look = self._loop.call_later(seconds, self._end_late)

    def _end_late(self) -> None:
        """Cancel calls whose message does not come."""
        self._look, now = None, self._loop.time()
        assert self._server is not None
        if self._stopped:
            self._messages.excuse(now + 1)  # it waits for us
        late = self._messages.late(now)
        if late and self._passing:
            self._refuse("a message takes too long")
            return
        for stream in late:
            self._messages.end(stream)
            self._server.transport.write(frames.reset(stream, frames.CANCEL))
            if self._server.between_frames:
                self.transport.write(frames.reset(stream, frames.CANCEL))
        if (due := self._messages.next_due) is not None:
            self._look_later(max(0.1, due - now))

    def _refuse(self, why: str) -> int:
        """End the connection, and say why where that can be said; 0."""
        _log.info("ended a connection of gRPC from %s: %s", self.address, why)
        if self._server is not None and self._server.between_frames:
            self.transport.write(frames.go_away(self._last, frames.ENHANCE_YOUR_CALM, why))
        self.transport.close()
        return 0
