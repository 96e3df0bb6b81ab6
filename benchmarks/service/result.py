"""How benchmarks of the service end: where they ran, and the result as JSON."""

import json
import os
import platform
from pathlib import Path
from typing import Any


def where() -> dict[str, Any]:
    """Returns what a result says of the machine, and of its load now."""
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 1),
    }


def report(result: dict[str, Any], file: Path, *, write: bool) -> None:
    """Prints the result as one line, after it was written to a file, if asked to."""
    if write:
        file.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
