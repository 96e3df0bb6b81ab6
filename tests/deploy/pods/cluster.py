"""The chart's Deployments in their surroundings: a store, a Redis with a replica, KEDA."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from tests.deploy.pods.deployment import Deployment
from tests.deploy.pods.manifests import Manifests
from tests.deploy.pods.pod import Node, Pod
from tests.deploy.pods.scaling import Keda, Prometheus
from tests.images.build import Builder
from tests.images.compose import Compose, configuration

API, POOL, TEST = "pictures-api", "pictures-worker-emoji", "pictures-test"


def surroundings() -> dict[str, Any]:
    """A store, and a Redis with a replica, as the compose file starts them."""
    config = configuration("docker-compose.yml", "deploy/compose/cpu.yml")
    services = {name: config["services"][name] for name in ("prepare", "store", "bucket")}
    for number, options in ((1, []), (2, ["--replicaof", "redis-1", "6379"])):
        server = config["services"]["redis"]
        volumes = [volume | {"source": f"redis-{number}"} for volume in server["volumes"]]
        command = [*server["command"], *options]
        services[f"redis-{number}"] = server | {"volumes": volumes, "command": command}
    return config | {"services": services}


class Cluster:
    """The chart's Deployments in their surroundings, with KEDA and its Prometheus."""

    def __init__(self, helm: Path, compose: Compose, node: Node) -> None:
        self.helm = helm
        self.compose = compose
        self._node = node
        manifests = Manifests(helm)
        deployments = manifests.of("Deployment")
        self._test = manifests.of("Pod")[TEST]
        with ExitStack() as closing_all:
            self.api = Deployment(deployments[API], node, deployments[API]["spec"]["replicas"])
            self.pool = Deployment(deployments[POOL], node, 0)
            prometheus = Prometheus(
                manifests.scraped(node.secrets),
                node.folder / "prometheus",
                lambda: self.api.pods + self.pool.pods,
            )
            closing_all.callback(prometheus.close)
            self.api.wait_ready(2)
            keda = Keda(manifests.of("ScaledObject")[POOL], self.pool, prometheus)
            closing_all.callback(keda.close)
            self.close = closing_all.pop_all().close

    def test(self, service: list[str]) -> tuple[int, str]:
        """Run the pod of `helm test` with these pods behind the Service's name: status and log."""
        self.compose.network.point(API, service)
        pod = Pod(TEST, self._test, self._node)
        return pod.result(), pod.tail()

    def restarts(self) -> int:
        """Containers that a probe or their own end had started again."""
        return sum(pod.restarts for pod in self.api.pods + self.pool.pods)


@contextmanager
def started(folder: Path, helm: Path) -> Iterator[Cluster]:
    """Build the images, and start everything."""
    builder = Builder(folder)
    try:
        base = builder.base()
        images = {f"hidiffusion-{target}": builder.build(target) for target in ("api", "worker")}
        with closing(Compose(surroundings(), images, base, folder / "pods")) as compose:
            compose.network.point("redis", ["redis-1"])
            compose.up()
            key = (compose.volume("secrets") / "store-key").read_text().strip()
            store = {"accessKeyId": "hidiffusion", "secretAccessKey": key}
            secrets = {"hidiffusion-store": store}
            node = Node(images, secrets, compose.network, folder / "pods" / "running")
            cluster = Cluster(helm, compose, node)
            try:
                yield cluster
            finally:
                cluster.close()
                for pod in cluster.api.pods + cluster.pool.pods:
                    pod.kill()
    finally:
        builder.close()
