"""What happens to the cluster, one method each, in the order that they are played."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import redis

from tests.deploy.pods.clients import Clients
from tests.deploy.pods.cluster import API, POOL, Cluster
from tests.deploy.pods.deployment import wait
from tests.deploy.pods.manifests import Manifests

WORKERS = 4


@dataclass(frozen=True)
class Plays:
    """Everything that is played, under the load of some clients."""

    cluster: Cluster
    clients: Clients

    def all(self) -> list[Callable[[], None]]:
        """The plays."""
        return [
            self.scales_out,
            self.loses_a_pod,
            self.drains_a_node,
            self.upgrades,
            self.loses_its_redis,
            self.scales_to_none,
            self.scales_out_again,
            self.passes_its_test,
        ]

    def scales_out(self) -> None:
        """From none to four, for what waits."""
        self.cluster.pool.wait_ready(WORKERS)

    def loses_a_pod(self) -> None:
        """A worker and a front end are gone without a word."""
        self.cluster.pool.kill(random.choice(self.cluster.pool.pods))
        self.cluster.api.kill(random.choice(self.cluster.api.pods))
        self._all_ready()

    def drains_a_node(self) -> None:
        """Two workers and a front end leave at once, and come back elsewhere."""
        self.cluster.api.delete(self.cluster.api.pods[:1])
        self.cluster.pool.delete(self.cluster.pool.pods[:2])
        self._all_ready()

    def upgrades(self) -> None:
        """Every pod is replaced, front ends and workers, one by one."""
        changed = Manifests(
            self.cluster.helm, "--set-string", "settings.HIDIFFUSION_LOG_LEVEL=WARNING"
        )
        deployments = changed.of("Deployment")
        self.cluster.api.roll_out(deployments[API])
        self.cluster.pool.roll_out(deployments[POOL])

    def loses_its_redis(self) -> None:
        """The primary dies; its replica takes the name, and it returns as the replica's replica."""
        compose = self.cluster.compose
        before = len(self.clients.accepted)
        compose.containers.pop("redis-1").kill()
        with redis.Redis(compose.network.address("redis-2")) as replica:
            replica.replicaof("NO", "ONE")
        compose.network.point("redis", ["redis-2"])
        services = compose.config["services"]
        services["redis-1"]["command"] += ["--replicaof", "redis-2", "6379"]
        compose.up()
        wait(
            "pictures are accepted after the failover",
            lambda: len(self.clients.accepted) > before + 2,
        )

    def scales_to_none(self) -> None:
        """Nothing more is asked for: what waits is drawn, and no worker is left."""
        self.clients.close()
        wait("no worker is left", lambda: not self.cluster.pool.pods, 1800)
        self.clients.check()

    def scales_out_again(self) -> None:
        """One request brings a worker back."""
        self.clients.ask()
        self.clients.check()

    def passes_its_test(self) -> None:
        """`helm test` makes a picture, and fails where no front end answers."""
        status, told = self.cluster.test([pod.name for pod in self.cluster.api.ready])
        assert status == 0, told
        assert "picture.png" in told
        status, told = self.cluster.test([])
        assert status != 0, told

    def _all_ready(self) -> None:
        self.cluster.api.scale(2)
        self.cluster.pool.scale(WORKERS)
        self.cluster.api.wait_ready(2)
        self.cluster.pool.wait_ready(WORKERS)
