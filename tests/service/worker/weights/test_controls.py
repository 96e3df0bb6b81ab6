"""ControlNets on warm pipelines, against diffusers run by hand."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import diffusers
import PIL.Image
import pytest
import torch
from diffusers import ControlNetModel, DiffusionPipeline

from service.domain.generations.events import Event, Succeeded
from service.domain.generations.generation import Generation, Status
from service.domain.models.controls import ControlChoice
from service.settings import StoreSettings, WorkerSettings
from service.storage.store import open_store
from service.worker.job.attempt import Attempt
from service.worker.job.snapshot import from_bytes, to_bytes
from service.worker.run.generate import Studio
from service.worker.weights.frugal import frugal_denoising
from service.worker.weights.inputs import encoding_in_tiles
from service.worker.weights.pipelines import Pipelines
from tests.service.worker.control_models import (
    FAMILIES,
    METHODS,
    SIDE,
    Heard,
    draw,
    make_request,
    open_pipelines,
    photo,
    write_catalog,
)

RECIPE = {"seed": 7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalog(tmp_path_factory.mktemp("controls"))


@pytest.fixture(scope="module")
def pipelines(folder: Path) -> Pipelines:
    return open_pipelines(folder)


def left_half() -> PIL.Image.Image:
    mask = PIL.Image.new("L", (SIDE, SIDE))
    mask.paste(255, (0, 0, SIDE // 2, SIDE))
    return mask


def _choice(name: str, **changes: float) -> ControlChoice:
    return ControlChoice(name=name, image="img_1", **changes)


@pytest.mark.parametrize("kind", ["", "Img2Img", "Inpaint"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_they_guide_as_diffusers_has_it(
    folder: Path, pipelines: Pipelines, family: str, count: int, kind: str
) -> None:
    chosen = [_choice("canny", scale=0.8, end=0.5), _choice("depth", start=0.25)][:count]
    given = {"Inpaint": {"image": photo(), "mask": left_half()}, "Img2Img": {"image": photo()}}
    pictures = given.get(kind, {})
    strength = 0.7 if pictures else None
    drawn = draw(pipelines, make_request(family, *chosen, strength=strength), **pictures)

    nets = [
        ControlNetModel.from_pretrained(folder / f"{family}-{choice.name}").requires_grad_(False)
        for choice in chosen
    ]
    base = DiffusionPipeline.from_pretrained(folder / family)
    for module in (base.unet, base.text_encoder, base.vae):
        module.requires_grad_(False)
    build = getattr(diffusers, f"{FAMILIES[family]}ControlNet{kind}Pipeline")
    pipe = build(**base.components, controlnet=nets if count > 1 else nets[0])
    pipe.set_progress_bar_config(disable=True)
    maps = [photo(n + 1) for n in range(count)]
    call: dict[str, Any] = {
        "controlnet_conditioning_scale": [choice.scale for choice in chosen],
        "control_guidance_start": [choice.start for choice in chosen],
        "control_guidance_end": [choice.end for choice in chosen],
        "control_image" if pictures else "image": maps,
    }
    if count == 1:
        call = {name: value[0] for name, value in call.items()}
    if pictures:
        call |= {"image": photo(), "strength": strength}
    if kind == "Inpaint":
        call["mask_image"] = left_half()
    with encoding_in_tiles(pipe.vae, lambda: None):
        by_hand = pipe(
            prompt="a fox",
            width=SIDE,
            height=SIDE,
            num_inference_steps=4,
            guidance_scale=5.0,
            generator=torch.Generator().manual_seed(7),
            output_type="latent",
            **call,
        ).images
    assert torch.equal(drawn, by_hand)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_is_guided_goes_on_after_a_break_and_leaves_no_trace(
    pipelines: Pipelines, method: str
) -> None:
    plain_request = make_request("sd", method=method)
    plain = draw(pipelines, plain_request)
    request, heard = make_request("sd", _choice("canny"), _choice("depth"), method=method), Heard()
    whole = draw(pipelines, request, heard)
    assert not torch.equal(whole, plain)

    middle = heard.snapshots[len(heard.snapshots) // 2]
    again = from_bytes(to_bytes(middle, RECIPE), RECIPE, torch.device("cpu"))
    assert again is not None
    with Calls(pipelines, "sd", "canny") as calls:
        assert torch.equal(draw(pipelines, request, begin=again), whole)
        resumed = calls.number
        calls.number = 0
        assert torch.equal(draw(pipelines, request), whole)
        assert resumed < calls.number
    assert torch.equal(draw(pipelines, plain_request), plain)
    (net,) = pipelines.get("sd", 0, ["canny"]).controlnets
    assert "forward" not in vars(net)
    assert not net._forward_pre_hooks


class Calls:
    """Counts what a ControlNet really computes, inside a `with` block."""

    def __init__(self, pipelines: Pipelines, model: str, name: str) -> None:
        self.number = 0
        (self._net,) = pipelines.get(model, 0, [name]).controlnets

    def __enter__(self) -> "Calls":
        self._handle = self._net.mid_block.register_forward_hook(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _count(self, *_: object) -> None:
        self.number += 1


def test_a_frugal_run_is_guided_too(pipelines: Pipelines) -> None:
    request = make_request("sd", _choice("canny"), method="hidiffusion")
    usual = draw(pipelines, request)
    with frugal_denoising(pipelines.get("sd").pipe):
        frugal = draw(pipelines, request)
    assert torch.allclose(frugal, usual, atol=1e-3)


def test_a_picture_goes_from_the_store_to_the_controlnet(
    pipelines: Pipelines, tmp_path: Path
) -> None:
    store = open_store(StoreSettings(url=tmp_path.as_uri()))
    manifests = []
    for number in (1, 1, 2):
        file = io.BytesIO()
        photo(number).resize((200, 100)).save(file, "png")
        store.put("uploads/edges.png", file.getvalue(), "image/png")
        told: list[Event] = []
        attempt = Attempt(_generation(len(manifests)), told.append, lambda: False)
        Studio(pipelines, store, WorkerSettings(tile_size=64)).run([attempt])
        assert isinstance(told[-1], Succeeded), told[-1]
        manifests.append(told[-1].manifest)
    first, again, other = (manifest.image.sha256 for manifest in manifests)
    assert first == again != other
    assert manifests[0].recipe["request"]["controls"][0]["image"] == "img_1"


def _generation(number: int) -> Generation:
    return Generation(
        id=f"generation-{number}",
        status=Status.RUNNING,
        request=make_request("sd", _choice("canny"), method="hidiffusion"),
        inputs={"img_1": "uploads/edges.png"},
        attempt=1,
        created_at=datetime.now(UTC),
    )
