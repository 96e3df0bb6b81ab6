"""Scenes: one to three of a noun, moved, on a white, coloured or shaded ground, with captions."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from models.train.augment import Motion, Staging, move_layers
from models.train.data.dataset import Noun

#: Grounds that captions name, as red, green and blue. Light, so that objects stand out.
GROUNDS = {
    "white": (255, 255, 255),
    "grey": (205, 208, 212),
    "light blue": (186, 222, 250),
    "light green": (200, 234, 201),
    "light yellow": (252, 242, 190),
    "pink": (250, 205, 216),
    "purple": (214, 200, 240),
    "orange": (253, 216, 178),
}
NUMBERS = ("one", "two", "three")
#: Endings whose plural has no rule, among the nouns of `everyday.json`.
IRREGULAR = {
    "wolf": "wolves",
    "leaf": "leaves",
    "scarf": "scarves",
    "mouse": "mice",
    "snowman": "snowmen",
    "sheep": "sheep",
    "fish": "fish",
    "tomato": "tomatoes",
    "potato": "potatoes",
    "mango": "mangoes",
    "volcano": "volcanoes",
}
#: How far a shaded ground darkens from its top to its bottom, at most.
SHADE = 0.15
#: How much more than its column of the picture each of several may fill.
CROWDING = 1.15


@dataclass(frozen=True)
class Scene:
    """What a picture shows, so that a caption can say it.

    Args:
        noun: What it shows.
        number: How many of it.
        ground: A key of `GROUNDS`.
    """

    noun: Noun
    number: int
    ground: str

    def captions(self) -> list[str]:
        """Returns every caption that is true of the scene."""
        plain = self.noun.prompts() if self.number == 1 else self._plural()
        if self.ground == "white":
            return plain
        bare = [text for text in plain if "background" not in text]
        return [f"{text} on a {self.ground} background" for text in bare]

    def _plural(self) -> list[str]:
        number, name = NUMBERS[self.number - 1], plural(self.noun.name)
        natural = f"{number} {self.noun.colour} {name}" if self.noun.colour else f"{number} {name}"
        return [f"{number} {name}", natural, f"an emoji of {number} {name}"]


def plural(name: str) -> str:
    """Returns the plural of a noun's name; a name that ends in "s" is taken for one already."""
    for one, many in IRREGULAR.items():
        if name.endswith(one):
            return name.removesuffix(one) + many
    if name.endswith("s") and not name.endswith("ss"):
        return name
    if name.endswith(("ss", "x", "ch", "sh")):
        return name + "es"
    if name.endswith("y") and name[-2] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"


def caption_corpus(noun: Noun, staging: Staging) -> list[str]:
    """Returns what a vocabulary must know of a noun: its prompts, and a caption of each scene."""
    grounds = list(GROUNDS) if staging.coloured else ["white"]
    others = [
        Scene(noun, number, ground).captions()[0]
        for number in range(1, staging.most + 1)
        for ground in grounds
        if (number, ground) != (1, "white")
    ]
    return noun.prompts() + others


def stage(
    nouns: list[Noun], layers: Tensor, staging: Staging, side: int, chance: random.Random
) -> tuple[Tensor, list[Scene]]:
    """Draws one scene of each noun.

    Args:
        nouns: What to draw.
        layers: Their pictures in the same order, shape (n, 4, h, w): red, green and blue
            multiplied by alpha, then alpha, in 0..1.
        staging: What scenes are made of.
        side: Side of the result in pixels.
        chance: Draws numbers and grounds; torch's own generator draws the motion.

    Returns:
        Pictures of shape (n, 3, side, side) in -1..1, and what each shows.
    """
    scenes = [Scene(noun, _number(staging, chance), _ground(staging, chance)) for noun in nouns]
    pictures = _grounds(scenes, staging, side, chance).to(layers.device)
    for number in range(1, staging.most + 1):
        rows = [row for row, scene in enumerate(scenes) if scene.number == number]
        for place in range(number if rows else 0):
            moved = move_layers(layers[rows], _share(staging.motion, place, number), side)
            pictures[rows] = moved[:, :3] + pictures[rows] * (1 - moved[:, 3:])
    return pictures * 2 - 1, scenes


def _number(staging: Staging, chance: random.Random) -> int:
    if staging.several is None or staging.most == 1:
        return chance.randint(1, staging.most)
    return chance.randint(2, staging.most) if chance.random() < staging.several else 1


def _ground(staging: Staging, chance: random.Random) -> str:
    if chance.random() >= staging.coloured:
        return "white"
    return chance.choice([name for name in GROUNDS if name != "white"])


def _grounds(scenes: list[Scene], staging: Staging, side: int, chance: random.Random) -> Tensor:
    """Returns the grounds, shape (n, 3, side, side), in 0..1."""
    colours = torch.tensor([GROUNDS[scene.ground] for scene in scenes]) / 255
    depths = torch.tensor(
        [
            SHADE * chance.random()
            if scene.ground != "white" and chance.random() < staging.shaded
            else 0.0
            for scene in scenes
        ]
    )
    falls = depths.view(-1, 1, 1, 1) * torch.linspace(0, 1, side).view(1, 1, side, 1)
    return (colours.view(-1, 3, 1, 1) * (1 - falls)).expand(-1, -1, -1, side).contiguous()


def _share(motion: Motion, place: int, number: int) -> Motion:
    """Returns the motion that keeps one of several in its column of the picture."""
    if number == 1:
        return motion
    width = CROWDING / number
    return Motion(
        smallest=motion.smallest * width,
        largest=motion.largest * width,
        shift=min(motion.shift, 0.25 / number),
        degrees=motion.degrees,
        mirror=motion.mirror,
        centre=((place + 0.5) / number - 0.5, 0.0),
    )
