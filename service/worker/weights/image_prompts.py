"""Pictures as prompts, by an IP-Adapter that is loaded once and put on for runs that ask for it.

diffusers' own loader changes a pipeline: other attention processors, a projection, an encoder of
pictures. What it changed is taken off again and kept. Putting it on costs nothing, and without it
the pipeline has the very objects that it came with.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.models.embeddings import (
    IPAdapterFaceIDImageProjection,
    IPAdapterFaceIDPlusImageProjection,
)
from torch import nn

from service.domain.models.catalog import Model
from service.domain.models.image_prompts import IpAdapter
from service.worker.job.failures import (
    ModelUnavailable,
    UnsupportedRequest,
    device_is_lost,
    is_out_of_memory,
)
from service.worker.weights.attention import use_attention

_FACES = (IPAdapterFaceIDImageProjection, IPAdapterFaceIDPlusImageProjection)


@dataclass(frozen=True)
class _Outfit:
    """What an IP-Adapter changes in a pipeline, as it is with one, or without."""

    processors: dict[str, Any]
    projection: Any
    kind: str | None
    encoder: Any
    reader: Any

    @classmethod
    def of(cls, pipe: Any) -> "_Outfit":
        """What a pipeline has now."""
        unet = pipe.unet
        return cls(
            processors=dict(unet.attn_processors),
            projection=unet.encoder_hid_proj,
            kind=unet.config.encoder_hid_dim_type,
            encoder=pipe.image_encoder,
            reader=pipe.feature_extractor,
        )

    def put_on(self, pipe: Any) -> None:
        """Let a pipeline have this."""
        pipe.unet.set_attn_processor(dict(self.processors))
        pipe.unet.encoder_hid_proj = self.projection
        pipe.unet.register_to_config(encoder_hid_dim_type=self.kind)
        pipe.register_modules(image_encoder=self.encoder, feature_extractor=self.reader)

    @property
    def modules(self) -> list[nn.Module]:
        """Whatever has weights."""
        parts = (*self.processors.values(), self.projection, self.encoder)
        return [part for part in parts if isinstance(part, nn.Module)]


@dataclass(frozen=True)
class WarmIpAdapter:
    """A loaded IP-Adapter, taken off."""

    outfit: _Outfit

    @property
    def weights(self) -> int:
        """Bytes of its parameters."""
        modules = self.outfit.modules
        return sum(weight.nbytes for module in modules for weight in module.parameters())

    @contextlib.contextmanager
    def worn(self, pipe: Any, scale: float) -> Iterator[None]:
        """Let a pipeline take pictures as prompts inside the block, as strongly as `scale` says."""
        own = _Outfit.of(pipe)
        self.outfit.put_on(pipe)
        try:
            pipe.set_ip_adapter_scale(scale)
            yield
        finally:
            own.put_on(pipe)


def offered_ip_adapter(model: Model) -> IpAdapter:
    """The IP-Adapter of a model.

    Raises:
        UnsupportedRequest: there is none in this worker's catalogue.
    """
    if model.ip_adapter is None:
        raise UnsupportedRequest(
            f"model {model.name!r} has no ip_adapter in this worker's catalogue; "
            "leave image_prompt out"
        )
    return model.ip_adapter


def load_ip_adapter(model: Model, pipe: Any, attention: str | None) -> WarmIpAdapter:
    """Load the IP-Adapter of a model; its pipeline is left as it was.

    Args:
        model: its entry in the catalogue.
        pipe: its pipeline.
        attention: computes what attention stays as it is with the adapter; None: torch.

    Raises:
        UnsupportedRequest: the catalogue has none.
        ModelUnavailable: it cannot be loaded, or is not for this model.
    """
    adapter = offered_ip_adapter(model)
    try:
        own = _Outfit.of(pipe)
        try:
            return WarmIpAdapter(_loaded(adapter, pipe, attention))
        finally:
            own.put_on(pipe)
            _drop_faces(pipe)
    except Exception as error:
        if is_out_of_memory(error) or device_is_lost(error):
            raise
        what = f"the IP-Adapter of model {model.name!r}"
        raise ModelUnavailable(what, adapter.source, error) from error


def _drop_faces(pipe: Any) -> None:
    """Take out the LoRAs that come with adapters for faces."""
    faces = [name for name in getattr(pipe.unet, "peft_config", {}) if name.startswith("faceid_")]
    if faces:
        pipe.delete_adapters(faces)


def _loaded(adapter: IpAdapter, pipe: Any, attention: str | None) -> _Outfit:
    pipe.register_modules(image_encoder=None, feature_extractor=None)
    pipe.load_ip_adapter(
        adapter.source,
        subfolder=adapter.subfolder,
        weight_name=adapter.file,
        image_encoder_folder=adapter.image_encoder,
        local_files_only=Path(adapter.source).is_dir(),
    )
    use_attention(pipe.unet, attention)  # the adapter has brought other processors
    outfit = _Outfit.of(pipe)
    if any(isinstance(layer, _FACES) for layer in outfit.projection.image_projection_layers):
        raise ValueError("it takes embeddings of faces, and there is no model of faces here")
    for module in outfit.modules:  # frozen, as every warm weight is
        module.requires_grad_(False)
    return outfit
