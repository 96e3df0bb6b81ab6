"""Autoencoders that accelerate keeps elsewhere between calls."""

import accelerate
import pytest
import torch
from accelerate.hooks import CpuOffload, UserCpuOffloadHook

from hidiffusion.decode import UnsupportedAutoencoderError, decode_tiles
from tests.hidiffusion.decode.small_vae import assembled, largest_difference, noise, small_vae


class _Previous(UserCpuOffloadHook):
    """The pipeline's part before the autoencoder; it counts how often it has to give way."""

    offloaded = 0

    def offload(self) -> None:
        self.offloaded += 1


CPU = torch.device("cpu")


def test_an_offloaded_autoencoder_is_brought_back_first() -> None:
    latents = noise(1, 4, 8, 8)
    with torch.no_grad():
        expected = small_vae().decode(latents).sample
    previous = _Previous(small_vae().to("meta"), CpuOffload(CPU))
    vae, _ = accelerate.cpu_offload_with_hook(small_vae(), CPU, prev_module_hook=previous)
    ours = assembled(decode_tiles(vae, latents, tile=32), expected)
    assert previous.offloaded == 1
    assert largest_difference(ours, expected) < 1e-4


def test_sequential_offload_is_refused_with_the_way_out() -> None:
    vae = accelerate.cpu_offload(small_vae(), execution_device=CPU)
    with pytest.raises(UnsupportedAutoencoderError, match="enable_model_cpu_offload"):
        decode_tiles(vae, noise(1, 4, 8, 8), tile=32)
