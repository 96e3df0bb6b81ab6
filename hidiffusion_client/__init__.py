"""The Python client: `Client` for plain code, `AsyncClient` for event loops; without torch."""

from service.client import *  # noqa: F403
from service.client import __all__ as __all__
