"""Inf-DiT gives the numbers of the authors' program, whole and chunk by chunk."""

import copy
import json

import pytest
import torch

from hidiffusion.inf_dit import HeunState, InfDiTTransformer
from hidiffusion.inf_dit.__main__ import main
from hidiffusion.inf_dit.convert import RELEASED, from_original, load_checkpoint
from hidiffusion.inf_dit.pipeline import InfDiTUpscalePipeline
from hidiffusion.inf_dit.run import Prepared, Upscaling
from hidiffusion.inf_dit.sampler import HeunSampler, edm_sigmas
from tests.hidiffusion.inf_dit.cases import (
    CASES,
    EVALUATIONS,
    FOLDER,
    SAMPLINGS,
    evaluate,
    model,
    tensor,
    weights,
)
from tests.hidiffusion.tiny.float32 import assert_meets

#: The reference's own limits, absolute, and that of two orders of summation in float64.
NETWORK, SAMPLING, TOKENS, EXACT = 2e-5, 5e-4, 5e-5, 1e-9


@pytest.mark.parametrize("case", EVALUATIONS)
def test_an_evaluation_gives_the_authors_numbers(case: str) -> None:
    exact, rounded = (evaluate(case, None, dtype) for dtype in (torch.float64, torch.float32))
    assert_meets(tensor(case, "out.D"), exact, rounded, NETWORK)


@pytest.mark.parametrize("chunk_blocks", [1, 2, 3])
@pytest.mark.parametrize("case", EVALUATIONS)
def test_chunks_of_any_size_give_the_whole_picture(case: str, chunk_blocks: int) -> None:
    chunked, whole = (evaluate(case, each, torch.float64) for each in (chunk_blocks, None))
    assert (chunked - whole).abs().max() < EXACT


def test_at_low_noise_the_network_itself_is_compared() -> None:
    # There the preconditioner shrinks the network's errors, so it is taken out again.
    case, scale = "a_2x3_sigma0.01", 0.01 * 0.5 / (0.01**2 + 0.25) ** 0.5
    skip = 0.25 / (0.01**2 + 0.25)
    residual = (evaluate(case, None, torch.float64) - skip * tensor(case, "in.x").double()) / scale
    patches = residual.view(1, 3, 8, 4, 12, 4).permute(0, 2, 4, 3, 5, 1).reshape(1, 96, 48)
    assert (patches - tensor(case, "out.final_tokens")).abs().max() < TOKENS


@pytest.mark.parametrize("case", SAMPLINGS)
def test_sampling_gives_the_authors_picture(case: str) -> None:
    exact, rounded = (run_sampling(case, None, dtype) for dtype in (torch.float64, torch.float32))
    assert_meets(tensor(case, "out.out"), exact.sample, rounded.sample, SAMPLING)


@pytest.mark.parametrize("chunk_blocks", [1, 2])
@pytest.mark.parametrize("case", SAMPLINGS)
def test_sampling_in_chunks_gives_the_authors_picture(case: str, chunk_blocks: int) -> None:
    chunked = run_sampling(case, chunk_blocks, torch.float64).sample
    assert (chunked - tensor(case, "out.out")).abs().max() < SAMPLING


def test_the_noise_levels_are_the_authors() -> None:
    for case in SAMPLINGS:
        sigmas = edm_sigmas(CASES[case]["steps"])
        torch.testing.assert_close(sigmas.float(), tensor(case, "out.sigmas"), rtol=1e-5, atol=0)


def run_sampling(case: str, chunk_blocks: int | None, dtype: torch.dtype) -> HeunState:
    network = copy.deepcopy(model(CASES[case]["weights"])).to(dtype)
    given = {
        name: tensor(case, f"in.{name}").to(dtype) for name in ("lr", "lr_up", "noise", "vector")
    }
    lr, lr_up = given["lr"], given["lr_up"]
    sampler = HeunSampler(edm_sigmas(CASES[case]["steps"]), network.config.block_size)
    begin = lr_up if CASES[case]["init_noise"] else None
    run = Upscaling(
        network,
        Prepared(lr, lr_up, *lr_up.shape[-2:]),
        sampler,
        sampler.start(given["noise"].clone(), begin),
        vector=given["vector"],
        chunk_blocks=chunk_blocks,
        rope_wrap=True,
        device=torch.device("cpu"),
    )
    with torch.no_grad():
        for _ in range(run.evaluations):
            for _ in run.evaluate():
                pass
    return run.state


def test_a_missing_tensor_is_named() -> None:
    state = weights("weights_a")
    del state["mixins.patch_embed.proj.weight"]
    with pytest.raises(ValueError, match=r"mixins\.patch_embed\.proj\.weight"):
        from_original(state, CASES["weights_a"]["config"])


def test_an_unknown_tensor_is_named() -> None:
    state = weights("weights_a") | {"mixins.surprise.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"mixins\.surprise\.weight"):
        from_original(state, CASES["weights_a"]["config"])


def test_a_tensor_of_another_shape_is_named() -> None:
    state = weights("weights_a")
    state["mixins.final_layer.linear.bias"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"mixins\.final_layer\.linear\.bias"):
        from_original(state, CASES["weights_a"]["config"])


def test_the_released_checkpoint_fits_by_names_and_shapes() -> None:
    shapes = json.loads((FOLDER / "released_keys.json").read_text())
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    network = from_original(state, RELEASED)
    ours = sum(parameter.numel() for parameter in network.parameters())
    unused = sum(
        state[name].numel()
        for name in state
        if "k_layer_norm" in name or "rope" in name or "position_embeddings.w" in name
    )
    assert ours == sum(tensor.numel() for tensor in state.values()) - unused


def test_a_checkpoint_file_becomes_a_folder(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "mp_rank_00_model_states.pt", tmp_path / "converted"
    torch.save({"module": weights("weights_a"), "global_steps": 3}, file)
    monkeypatch.setattr("hidiffusion.inf_dit.__main__.RELEASED", CASES["weights_a"]["config"])
    main([str(file), str(folder)])
    capsys.readouterr()
    network = InfDiTUpscalePipeline.from_pretrained(folder, local_files_only=True).transformer
    assert isinstance(network, InfDiTTransformer)
    expected = model("weights_a").patch_embed["proj"].weight.bfloat16()
    assert torch.equal(network.patch_embed["proj"].weight, expected.to(network.dtype))


def test_a_file_without_weights_is_refused(tmp_path) -> None:
    torch.save({"weights": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="module"):
        load_checkpoint(tmp_path / "other.pt")
