"""Compiled transformers: a new shift is new data, not a new graph."""

import torch
import torch._dynamo.testing
from diffusers import FlowMatchEulerDiscreteScheduler

from hidiffusion import transformer
from hidiffusion.transformer import TransformerConfig
from tests.hidiffusion.tiny.transformers import FAMILIES, Tiny, output


def test_regional_compilation_makes_no_graph_for_a_shift() -> None:
    """Full attention, then windows with another shift in every block and step."""
    tiny = Tiny(FAMILIES["flux"].model, FAMILIES["flux"].config | {"num_layers": 0})
    model, plain = tiny.build(), tiny.build()
    arguments = tiny.arguments(16, 16)
    counter = torch._dynamo.testing.CompileCounterWithBackend("eager")
    torch._dynamo.reset()
    model.compile_repeated_blocks(backend=counter, fullgraph=True)
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(6)
    config = TransformerConfig(full_share=0.3)
    sample = torch.zeros(1, 1)
    with (
        transformer.patched(model, config, scheduler=scheduler),
        transformer.patched(plain, config, scheduler=scheduler),
    ):
        for timestep in scheduler.timesteps:
            expected = output(plain, arguments)
            assert torch.allclose(output(model, arguments), expected, atol=1e-5)
            scheduler.step(sample, timestep, sample)
    # Two with full attention, as in the stock model, whose first block sees other strides than the
    # second, and two with windows.
    assert counter.frame_count == 4
    assert torch.allclose(output(model, arguments), output(plain, arguments), atol=1e-5)
    torch._dynamo.reset()
