"""Every setting as an operator sees it."""

import json
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from service.settings import Settings


@dataclass(frozen=True)
class SettingRow:
    """One setting as an operator sees it: its environment variable, default and meaning."""

    variable: str
    default: str
    description: str


def describe_settings() -> list[SettingRow]:
    """Every setting there is, in the order of the classes above."""
    rows = []
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            inner = field.annotation.model_fields.items()
            rows += [_row(f"{name}__{sub_name}", sub) for sub_name, sub in inner]
        else:
            rows.append(_row(name, field))
    return rows


def _row(name: str, field: FieldInfo) -> SettingRow:
    default = json.dumps(field.default, default=str)
    return SettingRow(f"HIDIFFUSION_{name.upper()}", default, field.description or "")
