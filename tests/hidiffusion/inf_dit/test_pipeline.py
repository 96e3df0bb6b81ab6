"""The pipeline: any size, streaming, cancelling, taking up again, and what it refuses."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from hidiffusion.inf_dit import ChunkDone, HeunState, InfDiTTransformer, InfDiTUpscalePipeline


def network(embed: int | None = None) -> InfDiTTransformer:
    torch.manual_seed(0)
    return InfDiTTransformer(
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=16,
        block_size=16,
        image_embed_dim=embed,
    )


@pytest.fixture(scope="module")
def pipe() -> InfDiTUpscalePipeline:
    made = InfDiTUpscalePipeline(network())
    made.set_progress_bar_config(disable=True)
    return made


def picture(height: int, width: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def upscale(
    pipe: InfDiTUpscalePipeline, image: Image.Image, scale: int = 4, **options
) -> np.ndarray:
    generator = torch.Generator().manual_seed(3)
    options = {"num_inference_steps": 2, "generator": generator, "chunk_blocks": 2} | options
    return np.asarray(pipe(image, scale, **options).images[0])


@pytest.mark.parametrize(("height", "width"), [(8, 12), (5, 13), (1, 3), (9, 2)])
@pytest.mark.parametrize("scale", [2, 4])
def test_any_size_becomes_so_many_times_larger(
    pipe: InfDiTUpscalePipeline, height: int, width: int, scale: int
) -> None:
    assert upscale(pipe, picture(height, width), scale).shape == (height * scale, width * scale, 3)


@pytest.mark.parametrize("chunk_blocks", [1, 3, None])
def test_chunks_do_not_change_the_picture(
    pipe: InfDiTUpscalePipeline, chunk_blocks: int | None
) -> None:
    one, other = (upscale(pipe, picture(13, 9), chunk_blocks=n) for n in (2, chunk_blocks))
    assert np.abs(one.astype(int) - other).max() <= 1


def test_regions_come_in_scan_order_while_the_last_evaluation_runs(
    pipe: InfDiTUpscalePipeline,
) -> None:
    heard: list[ChunkDone] = []
    whole = upscale(pipe, picture(9, 14))
    regions, seen_at = [], []
    for region in pipe.stream(
        picture(9, 14),
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(3),
        chunk_blocks=2,
        on_chunk=heard.append,
    ):
        regions.append(region)
        seen_at.append(heard[-1].done)
    # 3 x 4 blocks are 2 x 2 chunks; three evaluations.
    assert [each.done for each in heard] == list(range(1, 13))
    assert {each.total for each in heard} == {12}
    assert seen_at == [9, 10, 11, 12]
    # Wider than high, so the scan runs down the columns.
    assert [(each.top, each.left) for each in regions] == [(0, 0), (32, 0), (0, 32), (32, 32)]
    for region in regions:
        rows, columns = region.pixels.shape[:2]
        part = whole[region.top : region.top + rows, region.left : region.left + columns]
        assert np.array_equal(part, region.pixels)


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_run_taken_up_between_two_evaluations_gives_the_same_picture(
    pipe: InfDiTUpscalePipeline, after: int
) -> None:
    whole = upscale(pipe, picture(8, 8), num_inference_steps=3)
    kept: list[HeunState] = []

    def stop(state: HeunState) -> None:
        if state.evaluations == after:
            kept.append(copy.deepcopy(state))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale(pipe, picture(8, 8), num_inference_steps=3, on_evaluation=stop)
    again = upscale(pipe, picture(8, 8), num_inference_steps=3, begin=kept[0])
    assert np.array_equal(whole, again)


def test_a_run_of_another_size_cannot_be_taken_up(pipe: InfDiTUpscalePipeline) -> None:
    state = HeunState(1, torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="another run"):
        upscale(pipe, picture(8, 8), begin=state)


def test_it_is_saved_and_loaded(pipe: InfDiTUpscalePipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    loaded = InfDiTUpscalePipeline.from_pretrained(tmp_path, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    assert np.array_equal(upscale(pipe, picture(8, 8)), upscale(loaded, picture(8, 8)))


def test_positions_that_start_again_are_the_same_below_the_table(
    pipe: InfDiTUpscalePipeline,
) -> None:
    one, other = (upscale(pipe, picture(8, 8), rope_wrap=wrap) for wrap in (True, False))
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"scale": 3}, "scale is 3"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0"),
        ({"chunk_blocks": 0}, "chunk_blocks is 0"),
        ({"image_embeds": torch.ones(1, 4)}, "takes no image vector"),
    ],
)
def test_what_is_no_good_is_named(
    pipe: InfDiTUpscalePipeline, options: dict[str, object], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        upscale(pipe, picture(8, 8), **options)


def tower(activation: str) -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=24,
        hidden_act=activation,
    )
    return CLIPVisionModelWithProjection(config).eval()


def processor() -> CLIPImageProcessor:
    size = {"shortest_edge": 16}
    return CLIPImageProcessor(size=size, crop_size={"height": 16, "width": 16})


def test_the_vector_is_made_by_the_tower_or_given() -> None:
    pipe = InfDiTUpscalePipeline(network(24), tower("gelu"), processor())
    pipe.set_progress_bar_config(disable=True)
    vector = pipe.encode_image(picture(8, 8))
    assert float(vector.norm()) == pytest.approx(1, abs=1e-5)
    made = upscale(pipe, picture(8, 8))
    assert np.array_equal(made, upscale(pipe, picture(8, 8), image_embeds=vector))
    with pytest.raises(ValueError, match="length 2"):
        upscale(pipe, picture(8, 8), image_embeds=2 * vector)


def test_another_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="quick_gelu"):
        InfDiTUpscalePipeline(network(24), tower("quick_gelu"), processor())


def test_going_without_the_vector_is_said_and_never_silent() -> None:
    pipe = InfDiTUpscalePipeline(network(24))
    pipe.set_progress_bar_config(disable=True)
    with pytest.raises(ValueError, match="image_embeds='none'"):
        upscale(pipe, picture(8, 8))
    with pytest.warns(UserWarning, match="without the image vector"):
        upscale(pipe, picture(8, 8), image_embeds="none")
