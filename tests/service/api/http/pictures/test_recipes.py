"""What a picture says of how it was made, read back as a request for the same."""

import io
import json
from typing import Any

import httpx
from PIL import Image

from service.storage.metadata import with_text
from tests.service.api.stack import Stack

A1111 = (
    "a fox, snow, <lora:ink:0.5>\nNegative prompt: blur\nSteps: 20, Sampler: DPM++ 2M, "
    'Schedule type: Karras, CFG scale: 7, Seed: 42, Size: 512x768, Lora hashes: "a: b"'
)


def _png(**text: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    return with_text(stream.getvalue(), text)


def _read(stack: Stack, data: bytes) -> httpx.Response:
    return stack.http.post("/v1/recipes", content=data, headers={"content-type": "image/png"})


def test_our_own_recipe_comes_back_and_can_be_sent(stack: Stack) -> None:
    record = stack.http.get(f"/v1/generations/{stack.submit(seed=7, width=256)}").json()
    recipe = json.dumps({"request": record["request"], "device": "cpu"})

    read = _read(stack, _png(parameters="ignored", hidiffusion=recipe))
    again = stack.http.post("/v1/generations", json=read.json()["request"])

    assert again.status_code == 202, again.text
    assert again.json()["request"] == record["request"]


def test_what_a1111_writes_is_understood(stack: Stack) -> None:
    form = {"file": ("fox.png", _png(parameters=A1111), "image/png")}
    request: dict[str, Any] = stack.http.post("/v1/recipes", files=form).json()["request"]

    assert request == {
        "prompt": "a fox, snow, <lora:ink:0.5>",
        "negative_prompt": "blur",
        "num_inference_steps": 20,
        "guidance_scale": 7.0,
        "seed": 42,
        "width": 512,
        "height": 768,
        "scheduler": "DPMSolverMultistepScheduler+karras",
    }


def test_a_picture_without_one_is_refused(stack: Stack) -> None:
    for data, rule in ((_png(), "it carries no recipe"), (b"no picture", "no PNG")):
        answer = _read(stack, data)
        assert answer.status_code == 422
        assert rule in answer.json()["errors"][0]["description"]
