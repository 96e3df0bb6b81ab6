"""What the service's two kinds of RQ workers have in common: Redis may go, and come back."""

import contextlib

import redis
from rq import Worker


class ReturningWorker(Worker):
    """An RQ worker that is the same one, under the same name, before and after Redis was away."""

    @property
    def connection_timeout(self) -> int:
        """Seconds that RQ has its connection wait for an answer at least: as long as it is told to.

        RQ makes them 415, since its own workers block there; none of ours does, and an answer that
        is lost would keep them for as long.
        """
        return 0

    def _set_ip_address(self, connection: redis.Redis) -> None:
        """Ask Redis how it sees this worker; it need not be up yet."""
        self.ip_address = "unknown"
        with contextlib.suppress(redis.RedisError):
            super()._set_ip_address(connection)

    def register_birth(self) -> None:
        """Register, over what an earlier connection may have left under this very name.

        RQ refuses a name that is taken, and gives it back where Redis takes the farewell alone.
        """
        self.connection.delete(self.key)
        super().register_birth()  # type: ignore[no-untyped-call]

    def subscribe(self) -> None:
        """Listen to no commands of RQ: cancelling goes by the record, stopping by signals."""

    def teardown(self) -> None:
        """Deregister, if Redis can still be told."""
        with contextlib.suppress(redis.RedisError):
            super().teardown()  # type: ignore[no-untyped-call]
