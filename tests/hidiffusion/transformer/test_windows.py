"""Windowed attention: equal to attending window by window, local, and as cheap as it says."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hidiffusion import transformer
from hidiffusion.transformer import TransformerConfig
from hidiffusion.transformer.attention import Cut
from hidiffusion.transformer.processors import windowed
from hidiffusion.unet.windows import WindowGrid, window_indices
from tests.hidiffusion.tiny.transformers import FAMILIES, NATIVE, TEXT, Tiny, output

CPU = torch.device("cpu")

#: Rows, columns and windows along each: square, wide, and sides that windows do not divide.
GRIDS = [(16, 16, 2, 2), (8, 20, 1, 4), (9, 11, 2, 3)]


def _attention_calls(model: Any, arguments: dict[str, Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Return the arguments of every attention that sees the picture, as the stock model has it."""
    seen: list[tuple[Any, dict[str, Any]]] = []
    names = ("hidden_states", "encoder_hidden_states", "attention_mask", "image_rotary_emb")

    def note(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append((module, dict(zip(names, args, strict=False)) | kwargs))

    handles = [
        module.register_forward_pre_hook(note, with_kwargs=True)
        for name, module in model.named_modules()
        if hasattr(module, "set_processor") and not name.startswith("context_refiner")
    ]
    output(model, arguments)
    for handle in handles:
        handle.remove()
    return [(module, {k: v for k, v in kwargs.items() if v is not None}) for module, kwargs in seen]


class Sample:
    """One attention call, and ways to ask it about parts of the sequence.

    Args:
        kwargs: arguments of the call.
        tokens: of the image.
        first: whether the image stands before the other tokens.
    """

    def __init__(self, kwargs: dict[str, Any], tokens: int, *, first: bool) -> None:
        self.kwargs = kwargs
        self.joint = "encoder_hidden_states" in kwargs
        self.first = first
        self.tokens = tokens
        self.others = 0 if self.joint else kwargs["hidden_states"].shape[1] - tokens

    def about(self, image: Tensor, places: Tensor) -> dict[str, Any]:
        """Return the call on some image tokens, which take the positions of `places`."""
        kwargs = dict(self.kwargs)
        begin = 0 if self.first else self.others
        text = torch.arange(self.others) + (self.tokens if self.first else 0)

        def part(index: Tensor) -> Tensor:
            pair = (begin + index, text) if self.first else (text, begin + index)
            return torch.cat(pair)

        hidden = kwargs["hidden_states"]
        kwargs["hidden_states"] = hidden[:, image if self.joint else part(image)]
        rotary = kwargs.get("image_rotary_emb")
        if rotary is not None and not torch.is_complex(rotary[0]):
            count = rotary[0].shape[0] - self.tokens  # text
            rows = torch.cat([torch.arange(count), count + places])
            kwargs["image_rotary_emb"] = tuple(x[rows] for x in rotary)
        elif rotary is not None:
            kwargs["image_rotary_emb"] = (rotary[0][places], rotary[1])
        if "freqs_cis" in kwargs:
            kwargs["freqs_cis"] = kwargs["freqs_cis"][:, part(places)]
        mask = kwargs.get("attention_mask")
        if mask is not None:
            count = mask.shape[-1] - self.tokens
            keys = part(image) if self.first else torch.cat([torch.arange(count), count + image])
            kwargs["attention_mask"] = (
                mask[:, keys] if mask.dim() == 2 else mask[:, :, keys][..., keys]
            )
        return kwargs

    def split(self, answer: Any, image: int) -> tuple[Tensor, Tensor]:
        """Return an answer's image tokens and the others."""
        if isinstance(answer, tuple):
            return answer
        if self.first:
            return answer[:, :image], answer[:, image:]
        return answer[:, answer.shape[1] - image :], answer[:, : answer.shape[1] - image]


def _window_by_window(module: Any, sample: Sample, made: Any, places: Tensor) -> tuple[Any, Any]:
    """Attend to one window after the other with the stock processor."""
    within = made.gather.numel() // made.num_windows
    outs = []
    for image in made.gather.long().view(made.num_windows, within):
        answer = module(**sample.about(image, places))
        outs.append(sample.split(answer, within)[0])
    owner = made.scatter.long()
    image = torch.cat(outs, dim=1)[:, owner]
    everything = sample.about(torch.arange(sample.tokens), places[owner % within])
    return image, sample.split(module(**everything), sample.tokens)[1]


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("grid", GRIDS, ids=["square", "wide", "odd"])
def test_folded_windows_equal_attention_window_by_window(
    family: str, tiny: Tiny, grid: tuple[int, int, int, int], shift: int
) -> None:
    """In every attention of the model, with its own mask of padded text, in float64."""
    rows, columns, down, across = grid
    model = tiny.build(torch.float64)
    if family == "sd3":
        model.pos_embed.pos_embed_max_size = 12  # the attention does not see positions
        rows, columns = min(rows, 12), min(columns, 12)
        down, across = min(down, 2), min(across, 2)
    arguments = tiny.arguments(rows, columns, batch=2)
    arguments = {key: _double(value) for key, value in arguments.items()}
    size, shape = (rows, columns), WindowGrid(down, across)
    one = window_indices(size, shape, (shift,), batch=1, device=CPU)
    both = window_indices(size, shape, (shift,), batch=2, device=CPU)
    height, width = -(-rows // down), -(-columns // across)
    places = (torch.arange(height)[:, None] * columns + torch.arange(width)).flatten()
    for module, kwargs in _attention_calls(model, arguments):
        sample = Sample(kwargs, rows * columns, first=family == "z-image")
        image, others = _window_by_window(module, sample, one, places)
        processor = windowed(module.processor, "")
        module.set_processor(processor)
        looked_up = places.repeat(one.num_windows) if family == "z-image" else None
        processor.cut = Cut(both, rows * columns, looked_up)
        tiled = places.repeat(one.num_windows)
        asked = sample.about(torch.arange(rows * columns), torch.arange(rows * columns))
        if family != "z-image":
            asked |= {
                key: value
                for key, value in sample.about(tiled, tiled).items()
                if key == "image_rotary_emb"
            }
        found = sample.split(module(**asked), rows * columns)
        assert torch.allclose(found[0], image, atol=1e-9)
        if others is not None:
            assert torch.allclose(found[1], others, atol=1e-9)


def _double(value: Any) -> Any:
    if isinstance(value, list):
        return [_double(each) for each in value]
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def test_a_window_hears_of_no_other(scheduler: Any) -> None:
    """One token changed: in one block only its window changes, and what text there is."""
    tiny = FAMILIES["qwen"]
    model = Tiny(tiny.model, tiny.config | {"num_layers": 1}).build()
    arguments = tiny.arguments(16, 16)
    changed = dict(arguments, hidden_states=arguments["hidden_states"].clone())
    changed["hidden_states"][:, 16 * 3 + 5] += 1
    config = TransformerConfig(full_share=0, shifts=lambda **_: 0)
    with transformer.patched(model, config, scheduler=scheduler):
        difference = (output(model, changed) - output(model, arguments)).abs().sum(-1)
    differs = difference.view(16, 16) > 0
    assert differs[:8, :8].all()
    assert not differs[8:].any()
    assert not differs[:, 8:].any()


@pytest.mark.parametrize("family", ["flux", "flux2", "qwen"])
def test_windows_take_the_positions_of_a_native_picture(tiny: Tiny, scheduler: Any) -> None:
    """A picture of four equal quarters is drawn as its quarter.

    One block, since text hears four pictures. SD3's positions are global, Z-Image pads.
    """
    config = tiny.config | {"num_layers": 1}
    if "num_single_layers" in config:
        config["num_single_layers"] = 0
    model = Tiny(tiny.model, config).build()
    small = tiny.arguments(NATIVE, NATIVE)
    large = tiny.arguments(2 * NATIVE, 2 * NATIVE)
    quarter = small["hidden_states"].view(1, NATIVE, NATIVE, -1)
    large["hidden_states"] = quarter.repeat(1, 2, 2, 1).flatten(1, 2)
    large["encoder_hidden_states"] = small["encoder_hidden_states"]
    large["pooled_projections"] = small.get("pooled_projections")
    large = {key: value for key, value in large.items() if value is not None}
    options = TransformerConfig(full_share=0, shifts=lambda **_: 0)
    native = output(model, small).view(1, NATIVE, NATIVE, -1)
    with transformer.patched(model, options, scheduler=scheduler):
        drawn = output(model, large).view(1, 2 * NATIVE, 2 * NATIVE, -1)
    assert torch.allclose(drawn, native.repeat(1, 2, 2, 1), atol=1e-5)


def test_flops_are_those_of_the_formula(family: str, tiny: Tiny, scheduler: Any) -> None:
    """4 dim (N (N / g^2 + T) + T (T + N)) for each attention over image and text."""
    with torch.device("meta"):
        model = tiny.build()
    arguments = {key: _meta(key, value) for key, value in tiny.arguments(16, 16).items()}
    config = TransformerConfig(full_share=0)
    with (
        transformer.patched(model, config, scheduler=scheduler),
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
    ):
        model(**arguments)
    counts = counter.get_flop_counts()["Global"]
    attended = {str(name): count for name, count in counts.items()}["aten.bmm"]

    def attention(tokens: int, text: int) -> int:
        return 4 * 32 * (tokens * (tokens // 4 + text) + text * (text + tokens))

    expected = {
        "flux": 4 * attention(256, TEXT),
        "chroma": 4 * attention(256, TEXT),
        "flux2": 4 * attention(256, TEXT),
        "qwen": 2 * attention(256, TEXT),
        # Text padded to 32; one refiner of the image alone, one of the text alone.
        "z-image": 2 * attention(256, 32) + attention(256, 0) + 4 * 32 * 32 * 32,
        # The first block has a second attention, of the image alone.
        "sd3": 2 * attention(256, TEXT) + attention(256, 0),
    }
    assert attended == expected[family]


def _meta(key: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_meta(key, each) for each in value]
    # Coordinates are read, so they stay.
    return value.to("meta") if isinstance(value, Tensor) and "ids" not in key else value


def test_the_attention_backend_stays_selectable(
    family: str, model: Any, tiny: Tiny, scheduler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`set_attention_backend` reaches windowed attention and is still set afterwards."""
    from hidiffusion.transformer import attention

    seen: list[Any] = []
    dispatch = attention.dispatch_attention_fn

    def spy(*args: Any, backend: Any = None, **kwargs: Any) -> Tensor:
        seen.append(backend)
        found: Tensor = dispatch(*args, backend=backend, **kwargs)
        return found

    monkeypatch.setattr(attention, "dispatch_attention_fn", spy)
    config = TransformerConfig(full_share=0)
    with transformer.patched(model, config, scheduler=scheduler):
        model.set_attention_backend("_native_math")
        output(model, tiny.arguments(12, 12))
    assert {str(getattr(backend, "value", backend)) for backend in seen} == {"_native_math"}
    if family != "sd3":
        block = (model.layers if family == "z-image" else model.transformer_blocks)[0]
        kept = (block.attention if family == "z-image" else block.attn).processor
        assert kept._attention_backend is not None
    model.reset_attention_backend()
