"""Options of configurations: one declaration that checks a value and says what it means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import Field, dataclass, field, fields
from typing import Any

from hidiffusion.errors import InvalidConfigError

#: Key of a dataclass field's metadata that holds its `Option`.
_KEY = "option"


@dataclass(frozen=True, kw_only=True)
class Option:
    """What an option means and which values it takes.

    Attributes:
        help: one sentence for people, with the unit and the meaning of null.
        minimum: least number allowed, or None where numbers are not meant.
        maximum: greatest number allowed.
        words: the words allowed.
    """

    help: str
    minimum: float | None = None
    maximum: float | None = None
    words: tuple[str, ...] = ()

    def allows(self, value: object) -> bool:
        """Tell whether a value is allowed."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value in self.words
        if self.minimum is None or self.maximum is None:
            return False
        # NaN compares with nothing, so it is refused.
        return self.minimum <= value <= self.maximum

    @property
    def rule(self) -> str:
        """What is allowed, in words."""
        parts = [] if self.minimum is None else [f"between {self.minimum:g} and {self.maximum:g}"]
        return " or ".join([*parts, *(f"one of {', '.join(self.words)}" for _ in self.words[:1])])


def option(default: Any, help: str, **limits: Any) -> Any:  # noqa: A002 - reads as argparse's
    """Declare an option of a configuration dataclass.

    Args:
        default: its default.
        help: see `Option.help`.
        **limits: `minimum` and `maximum`, or `words`, of `Option`.
    """
    return field(default=default, metadata={_KEY: Option(help=help, **limits)})


def declared(entry: Field[Any]) -> Option | None:
    """Return what a field of a configuration dataclass was declared to be, or None."""
    found: Option | None = entry.metadata.get(_KEY)
    return found


def check_options(config: Any) -> None:
    """Hold every option of a configuration against its declaration.

    Raises:
        InvalidConfigError: naming the option, its value and what is allowed.
    """
    for entry in fields(config):
        meant, value = declared(entry), getattr(config, entry.name)
        if meant is None or (value is None and "None" in str(entry.type)):
            continue
        whole = "float" not in str(entry.type)
        if not meant.allows(value) or (whole and isinstance(value, float)):
            raise InvalidConfigError(f"{entry.name} is {value!r}; it must be {meant.rule}")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the hint that ends a message about an unknown word: the nearest known one, or all."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
