"""Describe every method and its options as JSON: `python -m hidiffusion.methods`."""

import json
import sys
from typing import Any

from hidiffusion.methods.registry import METHODS


def describe() -> list[dict[str, Any]]:
    """Return one JSON object for each method, in the table's order."""
    return [
        {
            "name": row.name,
            "summary": row.summary,
            "min_scale": row.min_scale,
            "min_steps": row.min_steps,
            "one_pass": row.one_pass,
            # Passes that start from a picture of the method's own cannot keep to a strength.
            "takes_pictures": not row.starts_from_pictures,
            "options": row.schema,
        }
        for row in METHODS.values()
    ]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(describe(), indent=2) + "\n")
