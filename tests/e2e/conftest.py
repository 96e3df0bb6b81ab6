"""The whole service, as `hidiffusion up` starts it, with the model that ships."""

from collections.abc import Iterator

import pytest

from service.cli.embedded import Embedded, embedded_service
from service.settings import ApiSettings, Settings


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """A running service on free ports with a data folder of its own."""
    settings = Settings(api=ApiSettings(http_port=0, grpc_port=0))
    with embedded_service(tmp_path_factory.mktemp("service"), settings) as running:
        running.wait_until_ready()
        yield running
