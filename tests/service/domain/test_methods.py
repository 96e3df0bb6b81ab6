"""What the service says of the methods is what the library has."""

import pytest

from hidiffusion.methods.registry import METHODS as ROWS
from service.domain.models.catalog import Catalog
from service.domain.models.methods import METHODS, NETWORKS, method_violations, resolved_options
from service.worker.engines.methods import describe


def test_the_document_is_current() -> None:
    """Renew it: `python -m service.worker.engines.methods > service/domain/models/methods.json`."""
    known = [m.model_dump() | {"models": NETWORKS[m.name]} for m in METHODS.values()]
    assert known == describe()


@pytest.mark.parametrize("name", METHODS)
def test_options_are_described_with_their_defaults(name: str) -> None:
    schema, config = METHODS[name].options, ROWS[name].configure()
    assert schema["type"] == "object"
    for option, described in schema["properties"].items():
        assert described["default"] == getattr(config, option)
        assert described["description"].endswith(".")
    assert schema["properties"] or name == "direct"


@pytest.mark.parametrize("name", METHODS)
def test_defaults_are_allowed_and_the_library_takes_them(name: str) -> None:
    method = METHODS[name]
    options = resolved_options(method, {})
    assert list(method_violations(method, options, scale=2.0, steps=25)) == []
    assert ROWS[name].configure(**options) == ROWS[name].configure()


def test_both_refuse_the_same_values() -> None:
    for name, method in METHODS.items():
        for option, forms in method.forms.items():
            for value in (-1, 0, 0.5, 1, 1.5, 2, 9, 1000, "pixels", "native", None):
                told = [*method_violations(method, {option: value}, scale=2.0, steps=25)]
                try:
                    ROWS[name].configure(**{option: value})
                except ValueError:
                    assert told, (name, option, value, forms)
                else:
                    assert not told, (name, option, value, forms)


def test_a_catalogue_with_an_unknown_method_is_refused() -> None:
    model = {
        "name": "m",
        "title": "m",
        "source": "m",
        "native_size": 64,
        "default_size": 64,
        "default_scheduler": "DDIMScheduler",
        "default_method": "magic",
        "schedulers": ["DDIMScheduler"],
        "methods": ["magic"],
    }
    with pytest.raises(ValueError, match="method 'magic' of model 'm' is unknown: use direct"):
        Catalog.model_validate({"models": [model]})
