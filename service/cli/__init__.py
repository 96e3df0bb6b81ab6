"""The command line: run the service or a part of it, and ask it for pictures."""

from service.cli.app import main

__all__ = ["main"]
