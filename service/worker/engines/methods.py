"""The library's methods as the domain knows them: JSON, with a JSON Schema of the options.

python -m service.worker.engines.methods > service/domain/models/methods.json
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from types import NoneType
from typing import Any, get_args, get_type_hints

from hidiffusion.methods.registry import METHODS
from hidiffusion.options import Option, declared


def describe() -> list[dict[str, Any]]:
    """Return one JSON object for each method, in the table's order."""
    return [
        {
            "name": row.name,
            "summary": row.summary,
            "min_scale": row.min_scale,
            "min_steps": row.min_steps,
            "models": row.models,
            "one_pass": row.one_pass,
            # Passes that start from a picture of the method's own cannot keep to a strength.
            "takes_pictures": not row.starts_from_pictures,
            "options": schema(row.config_type),
        }
        for row in METHODS.values()
    ]


def schema(config_type: type[Any]) -> dict[str, Any]:
    """Describe the options of a configuration dataclass as a JSON Schema (2020-12) object."""
    hints = get_type_hints(config_type)
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            entry.name: _property(meant, entry.default, hints[entry.name])
            for entry in fields(config_type)
            if (meant := declared(entry)) is not None
        },
    }


def _property(meant: Option, default: object, hint: Any) -> dict[str, Any]:
    kinds = set(get_args(hint)) or {hint}
    forms: list[dict[str, Any]] = []
    if meant.minimum is not None:
        limits = {"minimum": meant.minimum, "maximum": meant.maximum}
        forms.append({"type": "number" if float in kinds else "integer", **limits})
    if meant.words:
        forms.append({"enum": list(meant.words)})
    if NoneType in kinds:
        forms.append({"type": "null"})
    only = forms[0] if len(forms) == 1 else {"anyOf": forms}
    return {"description": meant.help, "default": default, **only}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(describe(), indent=2) + "\n")
