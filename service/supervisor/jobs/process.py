"""The pipeline process as its supervisor sees it: started, spoken to, mourned, replaced."""

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from service.channel import ChannelClosed, Message, Stop, pair

_log = logging.getLogger(__name__)

#: Seconds a process gets to exit after its end of the channel is closed or it was told to stop.
EXIT_SECONDS = 5.0


class PipelineProcess:
    """One child process and the channel to it.

    The child gets its end as a file descriptor named by the last argument, `--channel-fd N`, and a
    process group of its own, so that Ctrl-C in a terminal reaches only the supervisor.

    Args:
        command: what to run, without the descriptor.
        environment: variables on top of this process's own.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        ours, theirs = pair()
        with theirs:
            self._process = subprocess.Popen(
                [*command, "--channel-fd", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env={**os.environ, **environment},
                process_group=0,
            )
        self._channel = ours
        _log.info("started the pipeline process, PID %d", self.pid)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Send a message; raises `ChannelClosed` when it is gone."""
        self._channel.send(message)

    def receive(self, timeout: float) -> Message | None:
        """Its next message, or None after `timeout` seconds; raises `ChannelClosed`."""
        return self._channel.receive(timeout)

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._channel.close()

    def stop(self) -> str:
        """Ask it to exit, insist after a while, and say how it ended."""
        with contextlib.suppress(ChannelClosed):
            self.send(Stop())
        return self.bury()

    def bury(self) -> str:
        """Close the channel, wait for it to exit, insist if it does not, and say how it ended."""
        self._channel.close()
        try:
            self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            _log.warning("pipeline process %d does not exit; killing it", self.pid)
        self.kill()
        return _ending(self._process.returncode)


def _ending(code: int) -> str:
    if code >= 0:
        return f"the pipeline process ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"the pipeline process was killed by signal {-code} ({name})"
