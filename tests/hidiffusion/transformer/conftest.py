"""The tiny transformer of every family, built once."""

from typing import Any

import pytest
from diffusers import FlowMatchEulerDiscreteScheduler

from tests.hidiffusion.tiny.transformers import FAMILIES, Tiny

_built: dict[str, Any] = {}


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def tiny(family: str) -> Tiny:
    return FAMILIES[family]


@pytest.fixture
def model(family: str) -> Any:
    """The family's model; tests leave it as they found it."""
    if family not in _built:
        _built[family] = FAMILIES[family].build()
    return _built[family]


@pytest.fixture
def scheduler() -> Any:
    made = FlowMatchEulerDiscreteScheduler()
    made.set_timesteps(4)
    return made
