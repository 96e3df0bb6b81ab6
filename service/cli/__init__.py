"""The command line: run the service or a part of it, and ask it for pictures."""

import sys

#: The extra that has what a command needs; any other needs the front ends' packages.
_EXTRAS = {"worker": "worker", "up": "all"}

_OURS = {"", "hidiffusion", "service"}


def main() -> None:
    """Entry point of the `hidiffusion` command; names what is not installed, with its extra."""
    try:
        from service.cli.app import app

        app()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OURS:
            raise
        extra = _EXTRAS.get("".join(sys.argv[1:2]), "service")
        sys.exit(
            f"hidiffusion: the package {missing!r} is not installed; "
            f"pip install 'hidiffusion[{extra}]'"
        )


__all__ = ["main"]
