"""Requests as documentation shows them."""

from typing import Any

#: A black square of 8 x 8 pixels as a data URL, for examples.
EXAMPLE_PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAIAQAAAADsdIMmAAAACXBIWXMAAA"
    "PoAAAD6AG1e1JrAAAAC0lEQVQI12NgQAUAABAAAaHFIcEAAAAASUVORK5CYII="
)

EXAMPLES: list[Any] = [
    {"prompt": "a red guitar", "width": 1024, "height": 1024},
    {
        "prompt": "a frog",
        "model": "fluent-emoji-256",
        "width": 512,
        "height": 512,
        "num_inference_steps": 25,
        "guidance_scale": 5.0,
        "seed": 7,
        "method": "hidiffusion",
    },
    {"prompt": "a frog in snow", "image": EXAMPLE_PICTURE, "strength": 0.6},
]
