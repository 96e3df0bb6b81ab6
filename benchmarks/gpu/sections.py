"""The sections in the order of their worth, and the time each may take."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple, cast

from benchmarks.gpu.bench import Bench


class Section(NamedTuple):
    """One group of measurements, run in a process of its own.

    Attributes:
        title: one line for people.
        seconds: the most it may take, of a budget of 400.
    """

    title: str
    seconds: int


#: What each section may take was set so that they fill 400 seconds together, in the order in
#: which a borrowed machine should spend them; a larger budget stretches every limit alike.
SECTIONS: dict[str, Section] = {
    "machine": Section("the machine and its measured ceilings", 15),
    "right": Section("the same numbers as on a CPU", 35),
    "step": Section("one U-Net step at real widths", 110),
    "pictures": Section("whole pictures of SDXL's shape", 90),
    "decoding": Section("latents to pixels", 25),
    "serving": Section("the service on this device", 50),
    "batching": Section("small pictures drawn together", 15),
    "transformers": Section("a Flux-shaped step, full and in windows", 25),
    "training": Section("training of the bundled model", 35),
}


def module(name: str) -> str:
    """Return the name of a section's module."""
    return f"benchmarks.gpu.measures.{name}"


def run(name: str, bench: Bench) -> None:
    """Run one section in this process; its rows go to standard output."""
    function = import_module(module(name)).run
    cast("Callable[[Bench], None]", function)(bench)
