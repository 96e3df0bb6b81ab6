"""The methods that go beyond native size: their limits, their options and what options may hold.

`methods.json` is what `python -m service.worker.engines.methods` prints; the domain itself knows no
library.
"""

import json
import math
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.domain.errors import FieldViolation

#: What an option may hold.
OptionValue = bool | int | float | str | None


class Method(BaseModel):
    """One method, its limits and the options that a request may set."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="Name to use in requests.")
    summary: str = Field(description="What it does, in a line.")
    min_scale: float = Field(
        description="Least side of a picture (root of its area) in native sides; 0: any."
    )
    min_steps: int = Field(description="Least num_inference_steps.")
    one_pass: bool = Field(
        description="Whether it runs the model over one schedule; else in passes of rising size."
    )
    takes_pictures: bool = Field(description="Whether it can start from a request's `image`.")
    options: dict[str, Any] = Field(description="JSON Schema of `method_options`.")

    def draws(self, scale: float) -> bool:
        """Whether a picture with a side (root of its area) of `scale` native sides is possible."""
        return scale >= self.min_scale - 1e-9

    @property
    def forms(self) -> dict[str, list[dict[str, Any]]]:
        """For each option the forms of value that it takes."""
        properties: dict[str, Any] = self.options["properties"]
        return {name: entry.get("anyOf", [entry]) for name, entry in properties.items()}

    def with_defaults(self, values: Mapping[str, OptionValue]) -> "Method":
        """This method, for a model that wants other defaults of its options."""
        properties = {
            name: entry | ({"default": values[name]} if name in values else {})
            for name, entry in self.options["properties"].items()
        }
        return self.model_copy(update={"options": self.options | {"properties": properties}})


def _load() -> list[dict[str, Any]]:
    document = resources.files("service.domain.models").joinpath("methods.json")
    entries: list[dict[str, Any]] = json.loads(document.read_text(encoding="utf-8"))
    return entries


_ENTRIES = _load()

#: Every method by its name.
METHODS = {entry["name"]: Method.model_validate(entry) for entry in _ENTRIES}

#: What each method draws with: "unet", "transformer" or "any".
NETWORKS: dict[str, str] = {entry["name"]: entry["models"] for entry in _ENTRIES}


def draws_with(method: str, network: str) -> bool:
    """Whether a method knows a kind of network: "unet" or "transformer"."""
    return NETWORKS[method] in {network, "any"}


def resolved_options(method: Method, given: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Return every option of a method, those that were not given at their defaults.

    Whole numbers that came as floats, as protobuf has them, become integers where these are meant.
    """
    defaults = {name: entry["default"] for name, entry in method.options["properties"].items()}
    return defaults | {
        name: _whole(value, method.forms.get(name, [])) for name, value in given.items()
    }


def unusual_options(method: Method, options: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Return the options whose value is not the method's default."""
    defaults = resolved_options(method, {})
    return {
        name: value
        for name, value in options.items()
        if name not in defaults or defaults[name] != value
    }


def method_violations(
    method: Method, options: Mapping[str, OptionValue], *, scale: float, steps: int
) -> Iterator[FieldViolation]:
    """Tell what a request asks of a method that it cannot do.

    Args:
        method: the method asked for.
        options: the options asked for.
        scale: side of the picture in native sides.
        steps: num_inference_steps.
    """
    if not method.draws(scale):
        rule = (
            f"it needs a picture of {method.min_scale:g} times the native side or more, this is "
            f"{scale:.2f} times; ask for a larger width and height, or for method direct"
        )
        yield FieldViolation("method", repr(method.name), rule)
    if steps < method.min_steps:
        rule = f"method {method.name} needs {method.min_steps} or more"
        yield FieldViolation("num_inference_steps", repr(steps), rule)
    yield from option_violations(method, options)


def option_violations(
    method: Method, options: Mapping[str, OptionValue]
) -> Iterator[FieldViolation]:
    """Name options that the method does not have, and values that they cannot hold."""
    for name, value in options.items():
        forms = method.forms.get(name)
        if forms is None:
            known = ", ".join(method.forms) or "none"
            rule = f"method {method.name} has no such option; its options: {known}"
            yield FieldViolation(f"method_options.{name}", repr(value), rule)
        elif not any(_fits(form, value) for form in forms):
            rule = "it must be " + " or ".join(_rule(form) for form in forms)
            yield FieldViolation(f"method_options.{name}", repr(value), rule)


def _fits(form: Mapping[str, Any], value: OptionValue) -> bool:
    if "enum" in form:
        return value in form["enum"]
    if form["type"] == "null":
        return value is None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return False
    if form["type"] == "integer" and value != int(value if math.isfinite(value) else 0):
        return False
    return bool(form["minimum"] <= value <= form["maximum"])


def _rule(form: Mapping[str, Any]) -> str:
    if "enum" in form:
        return "one of " + ", ".join(form["enum"])
    if form["type"] == "null":
        return "null"
    kind = "a whole number" if form["type"] == "integer" else "a number"
    return f"{kind} from {form['minimum']:g} to {form['maximum']:g}"


def _whole(value: OptionValue, forms: list[dict[str, Any]]) -> OptionValue:
    whole = any(form.get("type") == "integer" for form in forms)
    return int(value) if whole and isinstance(value, float) else value
