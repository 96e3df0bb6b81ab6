"""Images of others are the very ones chosen: a version to read and a digest to hold to."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"[\w./-]+:[\w.-]*\d[\w.-]*@sha256:[0-9a-f]{64}")
COMPOSE = [ROOT / "docker-compose.yml", *sorted((ROOT / "deploy/compose").glob("*.yml"))]


class _Loader(yaml.SafeLoader):
    """YAML with Compose's own tags, as `!reset`, whose meaning does not matter here."""


_Loader.add_multi_constructor("!", lambda *_: None)


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.name)
def test_compose_pins_what_it_does_not_build(file: Path) -> None:
    services = yaml.load(file.read_text(), _Loader)["services"]
    images = {service["image"] for service in services.values() if "image" in service}
    loose = {image for image in images if not image.startswith("hidiffusion-")}
    assert [image for image in loose if not PINNED.fullmatch(image)] == []


def test_compose_uses_one_build_of_each_image() -> None:
    text = "\n".join(file.read_text() for file in COMPOSE)
    pinned = set(PINNED.findall(text))
    assert len({image.partition(":")[0] for image in pinned}) == len(pinned) >= 5


def test_the_images_begin_with_a_pinned_python() -> None:
    line = next(
        line
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if "ARG PYTHON_IMAGE" in line
    )
    assert PINNED.fullmatch(line.partition("=")[2])
