"""Print the requirements of chosen extras of a pyproject.toml, one per line.

    python extra_requirements.py pyproject.toml "" service

The empty name stands for the project's own dependencies. Images install dependencies before the
code is copied, so that a change of code does not install them again.
"""

import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Read the file named first, print the requirements of the extras named after it."""
    project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    for extra in sys.argv[2:]:
        if extra not in groups:
            sys.exit(f"no extra is called {extra!r}; there are {', '.join(map(repr, groups))}")
        sys.stdout.writelines(f"{requirement}\n" for requirement in groups[extra])


if __name__ == "__main__":
    main()
