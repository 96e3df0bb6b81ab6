"""Every setting as an operator sees it."""

import json
from dataclasses import dataclass

from service.settings import Settings


@dataclass(frozen=True)
class SettingRow:
    """One setting as an operator sees it: its environment variable, default and meaning."""

    variable: str
    default: str
    description: str


def describe_settings() -> list[SettingRow]:
    """Every setting there is, in the order of their classes."""
    return [
        SettingRow(variable, json.dumps(field.default, default=str), field.description or "")
        for variable, field in Settings.variables()
    ]
