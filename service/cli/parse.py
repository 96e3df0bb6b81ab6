"""What options with a structure of their own mean: `--lora`, `--control`, `--option`."""

import json
from pathlib import Path
from typing import Any

import typer


def lora(text: str) -> dict[str, Any]:
    """`NAME` or `NAME=WEIGHT`."""
    name, _, weight = text.partition("=")
    return {"name": name} | ({"weight": _number("--lora", text, weight)} if weight else {})


def control(text: str) -> dict[str, Any]:
    """`NAME=FILE` or `NAME=FILE,SCALE`; the file as a path."""
    name, equals, rest = text.partition("=")
    if not (name and equals and rest):
        raise typer.BadParameter(f"{text!r} does not read NAME=FILE", param_hint="--control")
    return {"name": name, **_scaled("--control", rest)}


def image_prompt(text: str) -> dict[str, Any]:
    """`FILE` or `FILE,SCALE`; the file as a path."""
    return _scaled("--image-prompt", text)


def option(text: str) -> tuple[str, Any]:
    """`NAME=VALUE`: numbers, `true`, `false` and `null` as JSON has them, else a text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"{text!r} does not read NAME=VALUE", param_hint="--option")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _scaled(flag: str, text: str) -> dict[str, Any]:
    file, comma, scale = text.rpartition(",")
    if not comma or Path(text).is_file():
        file, scale = text, ""
    path = Path(file)
    if not path.is_file():
        raise typer.BadParameter(f"there is no file {file!r}", param_hint=flag)
    return {"image": path} | ({"scale": _number(flag, text, scale)} if scale else {})


def _number(flag: str, text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        rule = f"{value!r} in {text!r} is no number"
        raise typer.BadParameter(rule, param_hint=flag) from None
