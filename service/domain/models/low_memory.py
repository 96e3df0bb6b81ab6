"""Ways to load a model into less memory, by the names that the catalogue has for them."""

import importlib.util
from typing import Literal

#: How the large networks store their weights. "bnb-4bit" is NF4.
Quantization = Literal["bnb-4bit", "bnb-8bit", "torchao-int8"]

#: What waits in the machine's memory while the rest computes on a GPU: whole networks, or layers.
Offload = Literal["model", "group"]

_PACKAGES: dict[Quantization, str] = {
    "bnb-4bit": "bitsandbytes",
    "bnb-8bit": "bitsandbytes",
    "torchao-int8": "torchao",
}


def package_trouble(quantization: Quantization) -> str | None:
    """Say which package is not installed here for a kind of quantization; None where it is."""
    package = _PACKAGES[quantization]
    if importlib.util.find_spec(package) is not None:
        return None
    return (
        f"quantization {quantization!r} needs the package {package}, which is not installed: "
        "pip install 'hidiffusion[quantization]'"
    )


def device_trouble(
    quantization: Quantization | None, offload: Offload | None, device: str
) -> str | None:
    """Say what a kind of device, such as "cpu", cannot do; None where it can all."""
    if device != "cpu":
        return None
    if offload is not None:
        return (
            f"offload is {offload!r}, which keeps weights in the machine's memory while a GPU "
            "computes, and this worker computes on the processor: leave it out"
        )
    if quantization is not None and quantization.startswith("bnb"):
        return (
            f"quantization is {quantization!r}, which diffusers does on a GPU alone, and this "
            "worker computes on the processor: use 'torchao-int8', or leave it out"
        )
    return None
