"""Plays what happens to a cluster, on the pods that the chart describes, under load."""

import argparse
import sys
import time
from pathlib import Path

from tests.deploy.pods.clients import Clients
from tests.deploy.pods.cluster import started
from tests.deploy.pods.plays import Plays
from tests.images import tools
from tests.images.build import ROOT


def main() -> None:
    """Play everything once, and say how long each took."""
    parser = argparse.ArgumentParser(prog="python -m tests.deploy.pods", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".images", help="what is kept")
    parser.add_argument("--helm", type=Path, default=ROOT / ".cache/helm/helm")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if forbidden := tools.what_is_forbidden(folder):
        sys.exit(f"containers cannot be run on this machine: {forbidden}")
    tools.install()
    begun = time.monotonic()
    with started(folder, arguments.helm) as cluster:
        clients = Clients(lambda: cluster.api.ready, pause_seconds=2, several=3)
        for play in Plays(cluster, clients).all():
            before = time.monotonic()
            play()
            print(
                f"  {play.__name__.replace('_', ' ')}: {time.monotonic() - before:.0f} s",
                flush=True,
            )
        assert cluster.restarts() == 0
        print(
            f"make pods: {len(clients.accepted)} pictures accepted, each drawn once;"
            f" {clients.repeated} requests repeated; {time.monotonic() - begun:.0f} s"
        )


if __name__ == "__main__":
    main()
