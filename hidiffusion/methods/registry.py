"""The methods by name: one row each, one way to use them all.

with registry.get("hidiffusion").patched(pipe, seed=7, t1_ratio=0.5):
    pipe("a red guitar", height=2048, width=2048)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from typing import Any, Protocol

from hidiffusion.config import HiDiffusionConfig
from hidiffusion.errors import InvalidConfigError
from hidiffusion.patch import patched


class Apply(Protocol):
    """Applies a method to a pipeline inside a `with` block and takes it back at its end."""

    def __call__(self, pipe: Any, config: Any) -> AbstractContextManager[Any]:
        """Return the `with` block for a pipeline and an instance of the method's config type."""


@dataclass(frozen=True, kw_only=True)
class DirectConfig:
    """Settings of the direct method: the unpatched model has none but the seed it ignores."""

    seed: int | tuple[int, ...] | None = None


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: what clients ask for.
        summary: one line for people.
        config_type: frozen dataclass of its options, all with defaults, one of them `seed`.
        apply: applies it inside a `with` block.
        one_pass: whether it is one run over one schedule of the pipeline's own scheduler, which
            can be left between two steps and taken up there.
    """

    name: str
    summary: str
    config_type: type[Any]
    apply: Apply
    one_pass: bool = False

    def configure(self, **options: Any) -> Any:
        """Build the method's configuration.

        Raises:
            InvalidConfigError: an option is unknown or its value is not allowed.
        """
        known = [field.name for field in fields(self.config_type)]
        for option, value in options.items():
            if option not in known:
                raise InvalidConfigError(
                    f"method {self.name} has no option {option!r} (given {value!r}); it has: "
                    + ", ".join(known)
                )
        return self.config_type(**options)

    def patched(
        self, pipe: Any, *, seed: int | tuple[int, ...] | None = None, **options: Any
    ) -> AbstractContextManager[Any]:
        """Apply the method inside a `with` block.

        Args:
            pipe: a diffusers pipeline.
            seed: the request's seed, or one for each sample; None takes the generator's.
            **options: fields of `config_type`.

        Returns:
            A context manager that yields the pipeline and leaves it as it was found.

        Raises:
            InvalidConfigError: an option is unknown or its value is not allowed.
        """
        return self.apply(pipe, self.configure(seed=seed, **options))


@contextmanager
def _direct(pipe: Any, config: DirectConfig) -> Iterator[Any]:
    del config
    yield pipe


def _hidiffusion(*, raunet: bool, window_attention: bool) -> Apply:
    def apply(pipe: Any, config: HiDiffusionConfig) -> AbstractContextManager[Any]:
        return patched(pipe, raunet=raunet, window_attention=window_attention, config=config)

    return apply


_ROWS: tuple[Method, ...] = (
    Method("direct", "the model as it is", DirectConfig, _direct, one_pass=True),
    Method(
        "hidiffusion",
        "smaller deep maps in the early steps, windowed attention in all",
        HiDiffusionConfig,
        _hidiffusion(raunet=True, window_attention=True),
        one_pass=True,
    ),
    Method(
        "raunet",
        "smaller deep maps in the early steps only",
        HiDiffusionConfig,
        _hidiffusion(raunet=True, window_attention=False),
        one_pass=True,
    ),
    Method(
        "msw-msa",
        "windowed attention only",
        HiDiffusionConfig,
        _hidiffusion(raunet=False, window_attention=True),
        one_pass=True,
    ),
)

#: Every method by its name.
METHODS: dict[str, Method] = {row.name: row for row in _ROWS}


def get(name: str) -> Method:
    """Return the method of this name.

    Raises:
        InvalidConfigError: there is none.
    """
    try:
        return METHODS[name]
    except KeyError:
        known = ", ".join(METHODS)
        raise InvalidConfigError(f"method is {name!r}; known methods: {known}") from None
