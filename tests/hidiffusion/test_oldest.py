"""The bounds of the extra torch are what `make test-oldest` installs; what needs more says so."""

import tomllib
from pathlib import Path

import diffusers
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from hidiffusion import UnsupportedModelError
from hidiffusion.transformer.families import family_of

ROOT = Path(__file__).parents[2]


def test_the_bounds_are_the_versions_that_are_tried() -> None:
    lines = [Requirement(line) for line in _lines()]
    tried = {each.name: next(iter(each.specifier)).version for each in lines}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    bounds = {
        each.name: next(iter(each.specifier)).version for each in map(Requirement, extras["torch"])
    }
    # torch comes in one build here, and packaging with each of the others.
    for name in bounds.keys() - {"torch", "packaging"}:
        assert bounds[name] == tried[name], name


def _lines() -> list[str]:
    text = (ROOT / "tests" / "oldest.txt").read_text()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_transformers_of_an_older_diffusers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name and with the remedy; in `make test-oldest` without a disguise."""
    if Version(diffusers.__version__) >= Version("0.42"):
        monkeypatch.setattr(diffusers, "__version__", "0.41.3")
    model = diffusers.FluxTransformer2DModel.__new__(diffusers.FluxTransformer2DModel)
    with pytest.raises(UnsupportedModelError, match=r"pip install 'diffusers>=0\.42'"):
        family_of(model)
