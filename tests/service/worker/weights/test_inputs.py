"""Starting from pictures, on tiny models: in the process at hand, and in the real one."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import pyvips
import torch
from diffusers import AutoPipelineForImage2Image

from hidiffusion.decode import PreviewFactors
from service.channel import Happened, Run, Warm
from service.domain.generations.events import Failed, Stepped, Succeeded
from service.domain.generations.generation import Generation
from service.domain.models.catalog import Model
from service.domain.requests.request import ResolvedRequest
from service.settings import Settings, StoreSettings, WorkerSettings
from service.storage.store import open_store
from service.worker.engines.diffusion import denoise
from service.worker.job.snapshot import Snapshot, from_bytes, to_bytes
from service.worker.weights.inputs import encoding_in_tiles, filling, load_picture
from service.worker.weights.pipelines import Pipelines
from service.worker.weights.warm import WarmPipeline
from tests.hidiffusion.tiny import models as tiny_models
from tests.service.worker.conftest import Child

NewGeneration = Callable[..., Generation]

SIZE = (128, 96)
STARTING = ["direct", "hidiffusion", "raunet", "msw-msa", "upsample-guidance", "hidiffusion-guided"]
RECIPE = {"seed": 7}


@pytest.fixture(scope="module")
def warm(catalog: Path) -> WarmPipeline:
    settings = Settings(catalog=catalog, worker=WorkerSettings(device="cpu"))
    return Pipelines(settings).get("tiny")


def photo(size: tuple[int, int] = SIZE) -> PIL.Image.Image:
    gradient = PIL.Image.linear_gradient("L").resize(size)
    return PIL.Image.merge("RGB", (gradient, gradient.rotate(180), gradient))


def left_half(size: tuple[int, int] = SIZE) -> PIL.Image.Image:
    mask = PIL.Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    return mask


def _request(method: str = "direct", **changes: object) -> ResolvedRequest:
    fields: dict[str, object] = {
        "prompt": "a fox",
        "negative_prompt": "",
        "model": "tiny",
        "width": SIZE[0],
        "height": SIZE[1],
        "num_inference_steps": 6,
        "guidance_scale": 5.0,
        "seed": 7,
        "scheduler": "DDIMScheduler",
        "method": method,
        "output_format": "png",
        "image": "img_1",
        "strength": 0.7,
    }
    return ResolvedRequest.model_validate(fields | changes)


class Heard:
    """Keeps the snapshots of the steps it hears of."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.snapshots: dict[int, Snapshot] = {}

    def __call__(
        self,
        step: int,
        total: int,
        latents: torch.Tensor,
        snapshot: Snapshot | None,
        *,
        left: float,
    ) -> None:
        del latents, left
        self.steps.append((step, total))
        if snapshot is not None:
            self.snapshots[step] = snapshot


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("method", STARTING)
def test_a_run_left_in_the_middle_ends_in_the_same_picture(
    warm: WarmPipeline, method: str, *, mask: bool
) -> None:
    pictures = {"image": photo()} | ({"mask": left_half()} if mask else {})
    request, heard = _request(method), Heard()
    whole = denoise(warm, request, heard, pictures=pictures)
    middle = sorted(heard.snapshots.items())[len(heard.snapshots) // 2][1]
    again = from_bytes(to_bytes(middle, RECIPE), RECIPE, torch.device("cpu"))
    resumed = Heard()
    assert torch.equal(denoise(warm, request, resumed, again, pictures=pictures), whole)
    assert resumed.steps[0][0] == middle.step
    assert "encode" not in vars(warm.pipe.vae)


@pytest.mark.parametrize("mask", [False, True])
def test_the_other_family_does_the_same(*, mask: bool) -> None:
    pipe = tiny_models.sdxl_pipeline()
    pipe.vae.register_to_config(force_upcast=True)
    model = Model(
        name="xl",
        title="XL",
        source="-",
        native_size=64,
        default_size=64,
        default_scheduler="DDIMScheduler",
        schedulers=("DDIMScheduler",),
        methods=("hidiffusion",),
    )
    preview = PreviewFactors(weights=((0.0,) * 3,) * 4, bias=(0.0,) * 3)
    warm = WarmPipeline(model, pipe, dict(pipe.scheduler.config), preview)
    pictures = {"image": photo()} | ({"mask": left_half()} if mask else {})
    request = _request("hidiffusion")
    first, again = (denoise(warm, request, Heard(), pictures=pictures) for _ in range(2))
    other = denoise(warm, request, Heard(), pictures={**pictures, "image": photo().rotate(180)})
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_strength_is_the_share_of_the_steps_and_the_distance_from_the_picture(
    warm: WarmPipeline,
) -> None:
    pictures = {"image": photo()}
    with torch.no_grad():
        start = warm.pipe.vae.encode(_tensor(photo())).latent_dist.mode()
    start *= warm.pipe.vae.config.scaling_factor
    distances = []
    for strength, steps in ((0.2, 1), (0.5, 3), (1.0, 6)):
        heard = Heard()
        latents = denoise(warm, _request(strength=strength), heard, pictures=pictures)
        assert heard.steps == [(step, steps) for step in range(1, steps + 1)]
        distances.append(float((latents - start).abs().mean()))
    assert distances == sorted(distances)


def _tensor(picture: PIL.Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    return pixels.float() / 127.5 - 1


def test_it_is_what_diffusers_own_pipeline_makes(warm: WarmPipeline) -> None:
    request = _request()
    ours = denoise(warm, request, Heard(), pictures={"image": photo()})
    warm.use_scheduler(request.scheduler)
    pipe = AutoPipelineForImage2Image.from_pipe(warm.pipe)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompt=request.prompt,
        image=photo(),
        strength=0.7,
        num_inference_steps=6,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images
    assert torch.allclose(ours, theirs, atol=1e-4), (ours - theirs).abs().max()


def test_an_autoencoder_keeps_its_type_and_place(warm: WarmPipeline) -> None:
    vae = warm.pipe.vae
    with encoding_in_tiles(vae, _interrupt):
        vae.to(torch.float64)
        with pytest.raises(KeyboardInterrupt):
            vae.encode(_tensor(photo()))
    assert (vae.dtype, "encode" in vars(vae)) == (torch.float32, False)


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_a_picture_fills_the_size_undistorted() -> None:
    rings = PIL.Image.radial_gradient("L").resize((200, 100)).convert("RGB")
    square = filling(rings, 50, 50)
    assert square.size == (50, 50)
    expected = rings.crop((50, 0, 150, 100)).resize((50, 50), PIL.Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(square, int) - np.asarray(expected, int)).max() <= 2


def test_transparency_shows_white(tmp_path: Path, new_generation: NewGeneration) -> None:
    store = open_store(StoreSettings(url=tmp_path.as_uri()))
    clear = PIL.Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    _put(store, "a.png", clear)
    generation = new_generation().model_copy(update={"inputs": {"img_1": "uploads/a.png"}})
    picture = load_picture(store, generation, "img_1")
    assert picture.getcolors() == [(64, (255, 255, 255))]


def _put(store: object, name: str, picture: PIL.Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    key = f"uploads/{name}"
    store.put(key, stream.getvalue(), "image/png")  # type: ignore[attr-defined]
    return key


@pytest.fixture(scope="module")
def child(start_child: Callable[..., Child]) -> Child:
    child = start_child()
    assert child.hear() == Warm(models=("tiny",), loads=1)
    return child


def _asking(
    child: Child, new: NewGeneration, *, mask: bool = False, **changes: object
) -> Generation:
    inputs = {"img_1": _put(child.store, "1.png", photo((140, 105)))}
    if mask:
        inputs["img_2"] = _put(child.store, "2.png", left_half((140, 105)))
        changes["mask"] = "img_2"
    generation = new(image="img_1", **{"strength": 0.5, **changes})
    return generation.model_copy(update={"inputs": inputs})


def test_the_process_makes_pictures_from_pictures_without_loading_anything(
    child: Child, new_generation: NewGeneration
) -> None:
    first, again, masked = (
        _asking(child, new_generation, mask=mask) for mask in (False, False, True)
    )
    pictures = []
    for generation in (first, again, masked):
        child.process.send(Run(generation=generation))
        events = [*child.events()]
        succeeded = events[-1]
        assert isinstance(succeeded, Succeeded), succeeded
        assert [e.step for e in events if isinstance(e, Stepped)] == [1, 2]
        assert succeeded.manifest.recipe["request"]["image"] == "img_1"
        assert "uploads/" not in str(succeeded.manifest.recipe)
        pictures.append(child.store.get(succeeded.manifest.image.key))
    assert pictures[0] == pictures[1] != pictures[2]
    child.process.send(Run(generation=new_generation()))
    said = [child.hear()]
    while not (isinstance(said[-1], Happened) and said[-1].event.type == "succeeded"):
        said.append(child.hear())
    assert not any(isinstance(message, Warm) for message in said)


@pytest.mark.parametrize("bits", [8, 16])
def test_what_the_mask_keeps_stays_to_the_last_bit(
    child: Child, new_generation: NewGeneration, bits: int
) -> None:
    generation = _asking(child, new_generation, mask=True, width=140 // 8 * 8, bit_depth=bits)
    succeeded = child.run(generation)[-1]
    assert isinstance(succeeded, Succeeded), succeeded
    image = pyvips.Image.new_from_buffer(child.store.get(succeeded.manifest.image.key), "").numpy()
    size = (generation.request.width, generation.request.height)
    drawn = np.asarray(filling(left_half((140, 105)), *size))
    given = np.asarray(filling(photo((140, 105)), *size), image.dtype) * (257 if bits == 16 else 1)
    assert np.array_equal(image[drawn == 0], given[drawn == 0])
    assert not np.array_equal(image[drawn == 255], given[drawn == 255])


def test_a_picture_that_is_gone_is_told(child: Child, new_generation: NewGeneration) -> None:
    generation = new_generation(image="img_9", strength=0.5)
    failed = child.run(generation)[-1]
    assert isinstance(failed, Failed)
    assert (failed.error.reason, failed.error.retryable) == ("INPUT_NOT_FOUND", False)
