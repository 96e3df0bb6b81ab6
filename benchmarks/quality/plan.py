"""What is drawn: prompts, sizes, methods and seeds, each in a form that names a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from models.train.config import ROOT
from models.train.data.dataset import TEMPLATES, fill

MODEL = ROOT / "models" / "fluent-emoji-256"
#: Side of the model's training pictures in pixels.
NATIVE = 256
#: Baselines: the native picture, enlarged by a filter or by the small Inf-DiT.
LANCZOS, INF_DIT = "lanczos", "inf-dit"


@dataclass(frozen=True)
class Prompt:
    """A prompt and the noun it is about."""

    noun: str
    text: str


@dataclass(frozen=True)
class Size:
    """A picture's size in pixels."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read ``512`` or ``1024x512`` (width first).

        Raises:
            ValueError: It is neither, or no multiple of 8.
        """
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
        if match is None:
            raise ValueError(f"size is {text!r}; give a side or WIDTHxHEIGHT, such as 1024x512")
        width, height = int(match[1]), int(match[2] or match[1])
        if width % 8 or height % 8 or min(width, height) < NATIVE:
            raise ValueError(f"size is {text!r}; sides are multiples of 8, {NATIVE} or more")
        return cls(width, height)

    @property
    def pixels(self) -> int:
        """Return the picture's area."""
        return self.width * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


NATIVE_SIZE = Size(NATIVE, NATIVE)


@dataclass(frozen=True)
class Variant:
    """A registered method with options, or a baseline."""

    method: str
    options: tuple[tuple[str, float | int | str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Read ``hidiffusion`` or ``hidiffusion:t1_ratio=0.7,t2_ratio=0.3``.

        Raises:
            ValueError: An option has no value.
        """
        method, _, tail = text.partition(":")
        pairs = [pair.partition("=") for pair in tail.split(",") if pair]
        for name, sign, _ in pairs:
            if not sign:
                raise ValueError(f"option is {name!r}; write it as {name}=VALUE")
        return cls(method, tuple((name, _value(value)) for name, _, value in pairs))

    @property
    def enlarges(self) -> bool:
        """Tell whether it is made from the native picture."""
        return self.method in (LANCZOS, INF_DIT)

    def __str__(self) -> str:
        options = ",".join(f"{name}={value}" for name, value in self.options)
        return f"{self.method}:{options}" if options else self.method


DIRECT = Variant("direct")


@dataclass(frozen=True)
class Job:
    """One picture to draw."""

    prompt: Prompt
    seed: int
    size: Size
    variant: Variant

    @property
    def drawn(self) -> Job:
        """Return what the model draws for it: this, or the native picture that is enlarged."""
        if not self.variant.enlarges:
            return self
        return Job(self.prompt, self.seed, NATIVE_SIZE, DIRECT)


@dataclass(frozen=True)
class Part:
    """One size of the bench: every prompt with every seed by every method."""

    size: Size
    prompts: tuple[Prompt, ...]
    seeds: int
    variants: tuple[Variant, ...]

    def jobs(self, variant: Variant, size: Size | None = None) -> list[Job]:
        """Return a variant's pictures in order of prompts, then seeds."""
        return [
            Job(prompt, seed, size or self.size, variant)
            for prompt in self.prompts
            for seed in range(self.seeds)
        ]

    def references(self) -> list[Job]:
        """Return the native pictures of the same prompts and seeds, in the same order."""
        return self.jobs(DIRECT, NATIVE_SIZE)

    def sampled(self) -> Iterator[Job]:
        """Yield what the model must draw, the native pictures first."""
        yield from self.references()
        for variant in self.variants:
            if not variant.enlarges:
                yield from self.jobs(variant)


def prompts(count: int | None = None) -> tuple[Prompt, ...]:
    """Return prompts: the first template with every noun, then the second, and so on.

    Args:
        count: How many; None gives all of them.

    Raises:
        ValueError: There are not so many.
    """
    nouns = json.loads((MODEL / "nouns.json").read_text())
    templates = sorted(dict.fromkeys(TEMPLATES), key=lambda template: template != "{article} {}")
    every = [Prompt(noun, fill(template, noun)) for template in templates for noun in nouns]
    if count is not None and not 1 <= count <= len(every):
        raise ValueError(f"prompts is {count!r}; give 1 to {len(every)}")
    return tuple(every[:count])


def _value(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
