"""Checkpoints of the authors are used whole, or refused."""

import copy
import json

import pytest
import torch
from torch import Tensor

from hidiffusion.dimr import from_original
from hidiffusion.dimr.convert import RELEASED
from hidiffusion.errors import InvalidConfigError
from tests.hidiffusion.dimr.references import FOLDER, INDEX, checkpoint

CONFIG = INDEX["weights_2r"]["config"]


@pytest.mark.parametrize(
    ("name", "file", "tensors", "numbers"),
    [
        ("DiMR-XL-2R", "checkpoint_keys_xl_2r.json", 1018, 505_046_408),
        ("DiMR-G-2R", "checkpoint_keys_g_2r.json", 1446, 1_056_352_904),
    ],
)
def test_every_tensor_of_a_released_checkpoint_finds_its_place(
    name: str, file: str, tensors: int, numbers: int
) -> None:
    shapes = json.loads((FOLDER / file).read_text())
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    model = from_original(state, RELEASED[name])
    assert len(state) == tensors
    assert sum(parameter.numel() for parameter in model.parameters()) == numbers
    assert model.sample_size == (32, 32)
    assert model.null_class == 1000


def damaged(**changes: Tensor | None) -> dict[str, Tensor]:
    """Return the small checkpoint with tensors replaced, added or (None) taken away."""
    state = dict(checkpoint("weights_2r"))
    for name, tensor in changes.items():
        if tensor is None:
            del state[name]
        else:
            state[name] = tensor
    return state


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stages.0.class_embeds.weight": None}, "1 missing.*class_embed"),
        ({"stages.1.blocks.2.block2.w0.bias": None}, "of another shape.*blocks.2.ff"),
        ({"stages.1.blocks.2.block2.w1.bias": None}, "1 missing.*left over.*w0.bias"),
        ({"stages.1.class_embeds.weight": torch.zeros(11, 16)}, "1 left over"),
        ({"stages.0.blocks.9.block2.w1.bias": torch.zeros(64)}, "1 left over"),
        ({"step": torch.zeros(())}, "1 left over, such as step"),
        (
            {"stages.0.class_embeds.weight": torch.zeros(10, 32)},
            r"\(10, 32\) instead of \(11, 32\)",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    changes: dict[str, Tensor | None], told: str
) -> None:
    with pytest.raises(InvalidConfigError, match=told):
        from_original(damaged(**changes), CONFIG)


@pytest.mark.parametrize(
    ("entry", "value", "told"),
    [
        ("norm_type", "LN", "norm_type is 'LN'"),
        ("pe_type", "rotary", "it needs"),
        ("stages", CONFIG["stages"][::-1], "the first is a TransformerBlock"),
        ("stages", [CONFIG["stages"][0] | {"qk_norm": True}], "unknown entries .'qk_norm'"),
        ("stages", [CONFIG["stages"][0] | {"num_attention_heads": 5}], "among 5 heads"),
        ("stages", [CONFIG["stages"][0], CONFIG["stages"][1] | {"max_height": 9}], "9x8 cannot"),
    ],
)
def test_a_configuration_of_another_network_is_refused(
    entry: str, value: object, told: str
) -> None:
    config = copy.deepcopy(CONFIG) | {entry: value}
    with pytest.raises(InvalidConfigError, match=told):
        from_original(checkpoint("weights_2r"), config)
