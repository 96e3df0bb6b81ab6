"""Options of the methods: one declaration that checks a value and describes itself to clients."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, get_args, get_type_hints

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


def check_options(config: Any) -> None:
    """Hold every option of a configuration against its declaration.

    Raises:
        InvalidConfigError: naming the option, its value and what is allowed.
    """
    for entry in fields(config):
        declared: Option | None = entry.metadata.get(_KEY)
        value = getattr(config, entry.name)
        if declared is None or (value is None and "None" in str(entry.type)):
            continue
        whole = "float" not in str(entry.type)
        if not declared.allows(value) or (whole and isinstance(value, float)):
            raise InvalidConfigError(f"{entry.name} is {value!r}; it must be {declared.rule}")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the hint that ends a message about an unknown word: the nearest known one, or all."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


def schema(config_type: type[Any]) -> dict[str, Any]:
    """Describe the options of a configuration dataclass as a JSON Schema (2020-12) object."""
    hints = get_type_hints(config_type)
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            entry.name: _property(entry.metadata[_KEY], entry.default, hints[entry.name])
            for entry in fields(config_type)
            if _KEY in entry.metadata
        },
    }


def _property(declared: Option, default: object, hint: Any) -> dict[str, Any]:
    kinds = set(get_args(hint)) or {hint}
    forms: list[dict[str, Any]] = []
    if declared.minimum is not None:
        limits = {"minimum": declared.minimum, "maximum": declared.maximum}
        forms.append({"type": "number" if float in kinds else "integer", **limits})
    if declared.words:
        forms.append({"enum": list(declared.words)})
    if NoneType in kinds:
        forms.append({"type": "null"})
    only = forms[0] if len(forms) == 1 else {"anyOf": forms}
    return {"description": declared.help, "default": default, **only}
