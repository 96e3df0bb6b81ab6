"""What the command lines of all trainings share: steps by name, and the device they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import torch


def step_parser(
    program: str, description: str, steps: Mapping[str, str]
) -> argparse.ArgumentParser:
    """Returns a parser that takes names of steps.

    Args:
        program: How the command is called.
        description: What it does.
        steps: What each step does, by name, in their order.
    """
    listing = "\n".join(f"  {name:8} {text}" for name, text in steps.items())
    result = argparse.ArgumentParser(
        prog=program,
        description=f"{description} Every step resumes where it was stopped.",
        epilog=f"steps, in order:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("step", nargs="*", help="steps to run; all of them by default")
    return result


def chosen_steps(
    command: argparse.ArgumentParser, asked: list[str], steps: Mapping[str, str]
) -> list[str]:
    """Returns the steps that were asked for in their order, all if none was.

    Raises:
        SystemExit: there is no such step.
    """
    unknown = sorted(set(asked) - set(steps))
    if unknown:
        command.error(f"unknown step {unknown[0]!r}; choose from {', '.join(steps)}")
    return [step for step in steps if step in (asked or steps)]


def require_device(command: argparse.ArgumentParser, device: str) -> None:
    """Refuses a device that torch does not see.

    Raises:
        SystemExit: it does not.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        command.error(f"device is {device!r}, which torch does not see; try --device cpu")
