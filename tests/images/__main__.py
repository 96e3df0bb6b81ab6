"""Build both images and prove that docker-compose.yml works with them; says how long it took."""

import argparse
import os
import shutil
import sys
import time
from contextlib import closing
from pathlib import Path

from tests.images import scenario, tools
from tests.images.build import ROOT, Builder
from tests.images.compose import Compose, configuration, scaled

#: Set where this must not be skipped.
REQUIRED = "HIDIFFUSION_TEST_IMAGES_REQUIRED"

OVERRIDES = ("", "cpu.yml", "keys.yml", "proxy.yml", "metrics.yml")

#: Without keys, which Prometheus would need too.
OPEN = ("cpu.yml", "metrics.yml")

#: For several API processes behind a proxy, and clients with keys.
SHARED = ("cpu.yml", "keys.yml", "proxy.yml")


def check_files() -> None:
    """The Dockerfile and every combination of compose files is accepted."""
    os.environ.setdefault("GRAFANA_PASSWORD", "a password")
    tools.run(tools.bundled("hadolint"), "--failure-threshold", "warning", ROOT / "Dockerfile")
    for override in OVERRIDES:
        also = [f"deploy/compose/{override}"] if override else []
        configuration("docker-compose.yml", *also)
    tools.run("haproxy", "-c", "-f", ROOT / "deploy/compose/haproxy.cfg", quiet=True)
    print(f"  hadolint, docker-compose config ({len(OVERRIDES)} times) and haproxy -c accept them")


def main() -> None:
    """Build, start, use, stop, start again."""
    parser = argparse.ArgumentParser(prog="python -m tests.images", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".images", help="what is kept")
    folder = parser.parse_args().folder.resolve()
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    if forbidden := tools.what_is_forbidden(folder):
        told = f"the images cannot be built and run on this machine: {forbidden}"
        if os.environ.get(REQUIRED):
            sys.exit(told)
        print(f"SKIPPED: {told}")
        return
    tools.install()
    check_files()
    builder = Builder(folder)
    try:
        base = builder.base()
        print(f"  base: there after {time.monotonic() - started:.0f} s")
        images = {f"hidiffusion-{target}": builder.build(target) for target in ("api", "worker")}
        config = configuration("docker-compose.yml", *(f"deploy/compose/{n}" for n in OPEN))
        shared = configuration("docker-compose.yml", *(f"deploy/compose/{n}" for n in SHARED))
        project = folder / "project"
        shutil.rmtree(project, ignore_errors=True)
        with closing(Compose(config, images, base, project)) as compose:
            scenario.play(compose, images)
        with closing(Compose(scaled(shared, "api", 3), images, base, project)) as compose:
            scenario.play_shared(compose)
    finally:
        builder.close()
    print(f"make images: all of it in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
