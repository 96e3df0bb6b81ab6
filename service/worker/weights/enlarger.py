"""Networks that enlarge a picture in one pass, read by spandrel from one file: ESRGAN, SwinIR, DAT.

spandrel knows some forty architectures by their weights' names. Their licences are their authors'.

`python -m service.worker.weights.enlarger FILE` prints what a file holds, as JSON.
"""

import json
import logging
import sys
from typing import Any

import torch
from torch import Tensor, nn

from service.domain.models.catalog import Model
from service.worker.job.failures import ModelUnavailable

_log = logging.getLogger(__name__)

#: Candidates for the margin around a tile, in pixels of the small picture.
MARGINS = (8, 16, 32, 64)

#: Half a step of 8 bits: what a margin may leave of difference.
TOLERANCE = 0.5 / 255

#: Side of the tile that the margin is measured on.
_PROBE = 32


class Enlarger:
    """A network that makes RGB pictures `scale` times larger, whole or tile by tile.

    Args:
        descriptor: what spandrel read: an `ImageModelDescriptor` for RGB.

    Attributes:
        scale: how many times.
        tiled: whether it may be given a part of a picture. Of a network that may look at the whole,
            as spandrel says, this is measured.
        margin: pixels of the small picture around a tile that it must see, measured on noise.
        difference: largest difference of a tile with this margin from the whole, on [0, 1].
    """

    def __init__(self, descriptor: Any) -> None:
        self._descriptor = descriptor
        self.scale: int = descriptor.scale
        self.margin, self.difference = _measured_margin(self)
        self.tiled = self.difference <= TOLERANCE or descriptor.tiling.name == "SUPPORTED"

    @property
    def components(self) -> dict[str, nn.Module]:
        """The network, as pipelines name their parts."""
        return {"network": self._descriptor.model}

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the network; it keeps float32 where spandrel knows that `dtype` does not do."""
        known = {
            torch.float16: self._descriptor.supports_half,
            torch.bfloat16: self._descriptor.supports_bfloat16,
        }
        self._descriptor.to(device, dtype if known.get(dtype) else torch.float32)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Enlarge `[1, 3, h, w]` on [0, 1] to `[1, 3, h * scale, w * scale]`, float32 on [0, 1]."""
        given = pixels.to(self._descriptor.device, self._descriptor.dtype)
        made: Tensor = self._descriptor(given)
        return made.float()


def load_enlarger(model: Model, device: torch.device, dtype: torch.dtype) -> Enlarger:
    """Read a network from the file that a catalogue's entry names.

    Args:
        model: the entry.
        device: where it shall run.
        dtype: of its weights, if its architecture bears it.

    Raises:
        ModelUnavailable: spandrel is not installed, does not know the file, or it is no network
            that makes RGB pictures so many times larger as the entry says.
    """
    descriptor = _read(model.name, model.source)
    if model.scales != (descriptor.scale,):
        raise ValueError(
            f"it enlarges {descriptor.scale} times: set scales to [{descriptor.scale}]"
        )
    descriptor.model.requires_grad_(False)
    descriptor.to(device)
    enlarger = Enlarger(descriptor)
    enlarger.to(device, dtype)
    _log.info(
        "%s is %s, computed %s: tiles with a margin of %d pixels are %.2g of 255 off",
        model.name,
        descriptor.architecture.name,
        "in tiles" if enlarger.tiled else "as a whole",
        enlarger.margin,
        enlarger.difference * 255,
    )
    return enlarger


def _read(name: str, source: str) -> Any:
    """What spandrel makes of a file: a descriptor of a network for RGB pictures."""
    try:
        import spandrel  # an extra, which few need
    except (ImportError, RuntimeError) as error:  # torchvision of another build of torch
        remedy = "install hidiffusion[upscalers], with a torchvision that fits its torch"
        raise ModelUnavailable(f"model {name!r}", source, error, remedy) from error
    descriptor = spandrel.ModelLoader().load_from_file(source)
    found = (descriptor.purpose, descriptor.input_channels, descriptor.output_channels)
    if found not in {("SR", 3, 3), ("Restoration", 3, 3)}:
        what = f"a network for {found[0]} from {found[1]} channels to {found[2]}"
        raise ValueError(f"{descriptor.architecture.name} is {what}, and none for RGB pictures")
    return descriptor


def _measured_margin(enlarger: Enlarger) -> tuple[int, float]:
    """The smallest margin that makes a tile of noise what it is in the whole, or the largest."""
    most = MARGINS[-1]
    noise = torch.rand(1, 3, *(2 * [_PROBE + 2 * most]), generator=torch.Generator().manual_seed(0))
    scale = enlarger.scale
    inner = slice(most * scale, (most + _PROBE) * scale)
    whole = enlarger(noise)[..., inner, inner]
    difference = 1.0
    for margin in MARGINS:
        seen = slice(most - margin, most + _PROBE + margin)
        tile = slice(margin * scale, (margin + _PROBE) * scale)
        difference = float((enlarger(noise[..., seen, seen])[..., tile, tile] - whole).abs().max())
        if difference <= TOLERANCE:
            return margin, difference
    return most, difference


def main() -> None:
    """Print what a file holds; whatever is wrong with it is one line on standard error."""
    (source,) = sys.argv[1:]
    try:
        descriptor = _read(source, source)
    except Exception as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
    found = {"architecture": descriptor.architecture.name, "scale": descriptor.scale}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
