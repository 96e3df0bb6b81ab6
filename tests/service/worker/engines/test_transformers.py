"""A diffusion transformer in a worker: progress, checkpoints, pictures and what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from hidiffusion.decode import decode_tiles, unscale
from service.domain.requests.request import ResolvedRequest
from service.settings import Settings, WorkerSettings
from service.worker.engines.diffusion import denoise
from service.worker.engines.prompts import guidance, texts
from service.worker.job.failures import UnsupportedRequest
from service.worker.job.snapshot import Snapshot, from_bytes, to_bytes
from service.worker.process.warm_up import warm_up
from service.worker.weights.inputs import sibling
from service.worker.weights.pipelines import Pipelines
from service.worker.weights.warm import WarmPipeline
from tests.hidiffusion.tiny.transformer_pipelines import pipeline
from tests.service.worker.transformer_models import chroma_catalog

#: diffusers warns of a name that its own Chroma uses.
pytestmark = pytest.mark.filterwarnings("ignore:.FluxPosEmbed. is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> WarmPipeline:
    """Chroma, loaded from a folder as any model of a catalogue."""
    path = chroma_catalog(tmp_path_factory.mktemp("models"))
    settings = Settings(catalog=path, worker=WorkerSettings(device="cpu"))
    return Pipelines(settings).get("chroma")


def request(method: str, **changes: Any) -> ResolvedRequest:
    return ResolvedRequest(
        prompt="a fox",
        model="chroma",
        width=256,
        height=192,
        num_inference_steps=6,
        seed=7,
        scheduler="FlowMatchEulerDiscreteScheduler",
        method=method,
        output_format="png",
        **({"negative_prompt": "", "guidance_scale": 3.0} | changes),
    )


class Heard:
    """Keeps steps and snapshots."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.shapes: set[torch.Size] = set()
        self.snapshots: list[Snapshot | None] = []

    def __call__(
        self,
        step: int,
        total: int,
        latents: torch.Tensor,
        snapshot: Snapshot | None,
        *,
        left: float,
    ) -> None:
        del left
        self.steps.append((step, total))
        self.shapes.add(latents.shape)
        self.snapshots.append(snapshot)


@pytest.mark.parametrize(("method", "steps"), [("direct", 6), ("token-windows", 6), ("refine", 8)])
def test_a_run_taken_up_at_any_step_ends_in_the_same_picture(
    warm: WarmPipeline, method: str, steps: int
) -> None:
    heard = Heard()
    whole = denoise(warm, request(method), heard)
    assert whole.shape == (1, 4, 24, 32)
    assert heard.steps == [(step, steps) for step in range(1, steps + 1)]
    assert all(len(shape) == 4 for shape in heard.shapes)
    for step in (2, steps - 1):
        snapshot = heard.snapshots[step - 1]
        assert snapshot is not None
        stored = from_bytes(to_bytes(snapshot, {}), {}, torch.device("cpu"))
        again = Heard()
        assert torch.equal(denoise(warm, request(method), again, stored), whole)
        assert again.steps[0] == (step, steps)


def test_rows_of_a_batch_are_the_pictures_of_their_seeds(warm: WarmPipeline) -> None:
    mate = request("refine").model_copy(update={"seed": 8})
    both = denoise(warm, request("refine"), Heard(), mates=[mate])
    for row, asked in zip(both, (request("refine"), mate), strict=True):
        assert torch.allclose(row, denoise(warm, asked, Heard())[0], atol=1e-3)


def test_is_decoded_exactly_and_previewed(warm: WarmPipeline) -> None:
    warm_up(warm)
    latents = denoise(warm, request("refine"), Heard())
    vae = warm.pipe.vae
    plain = vae.decode(unscale(vae, latents)).sample
    for tile in decode_tiles(vae, unscale(vae, latents), tile=64):
        rows, columns = tile.pixels.shape[2:]
        area = (slice(tile.top, tile.top + rows), slice(tile.left, tile.left + columns))
        assert torch.allclose(tile.pixels, plain[(..., *area)], atol=1e-4)
    assert len(warm.preview.weights) == 4


def test_starts_from_a_picture_where_diffusers_can(warm: WarmPipeline) -> None:
    noise = np.random.default_rng(5).integers(0, 255, (192, 256, 3), dtype=np.uint8)
    pictures = {"image": PIL.Image.fromarray(noise)}
    asked = request("token-windows", strength=0.5)
    drawn = denoise(warm, asked, Heard(), pictures=pictures)
    assert drawn.shape == (1, 4, 24, 32)
    assert torch.isfinite(drawn).all()
    assert not torch.equal(drawn, denoise(warm, request("token-windows"), Heard()))
    with pytest.raises(UnsupportedRequest, match="for chroma; leave mask out"):
        sibling(warm, pictures | {"mask": pictures["image"].convert("L")})


def test_a_model_that_only_looks_at_pictures_does_not_start_from_one(warm: WarmPipeline) -> None:
    flux2 = replace(warm, pipe=pipeline("flux2"))
    with pytest.raises(UnsupportedRequest, match="Flux2Pipeline takes pictures to look at"):
        sibling(flux2, {"image": PIL.Image.new("RGB", (256, 192))})


def test_a_second_prompt_is_refused_where_none_is_heard(warm: WarmPipeline) -> None:
    flux = pipeline("flux")
    assert texts(flux, request("refine"), ()) == {"prompt": "a fox"}
    with pytest.raises(UnsupportedRequest, match="leave it out"):
        texts(flux, request("refine", negative_prompt="blur"), ())
    assert texts(warm.pipe, request("refine", negative_prompt="blur"), ())["negative_prompt"]
    assert guidance(flux, request("refine")) == {"guidance_scale": 3.0}
    qwen = guidance(pipeline("qwen"), request("refine"))
    assert qwen == {"true_cfg_scale": 3.0, "negative_prompt": " "}
