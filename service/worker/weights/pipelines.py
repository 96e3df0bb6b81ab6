"""Pipelines that are loaded once and stay warm."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from service.catalog.file import CatalogFile
from service.domain.models.catalog import Model
from service.domain.requests.request import ResolvedRequest
from service.settings import Settings
from service.worker.job.failures import (
    ModelUnavailable,
    UnsupportedRequest,
    device_is_lost,
    is_out_of_memory,
)
from service.worker.weights.attention import attention_of, checked_attention
from service.worker.weights.compiling import checked_backend
from service.worker.weights.controls import (
    WarmControlNet,
    check_fits,
    load_controlnet,
    offered_control,
)
from service.worker.weights.devices import chosen_device, chosen_dtype, dtype_for
from service.worker.weights.garbage import release_loaded
from service.worker.weights.image_prompts import WarmIpAdapter, load_ip_adapter
from service.worker.weights.memory import (
    MemoryModel,
    Profile,
    dtype_name,
    free_memory,
    load_profiles,
)
from service.worker.weights.warm import WarmPipeline, load_warm, network_of

_log = logging.getLogger(__name__)

#: What the keys of IP-Adapters begin with; names of models have no colon.
_IP_ADAPTER = "ip-adapter:"


class Pipelines:
    """The pipelines of one process, and what goes with them, as much as memory holds.

    Args:
        settings: of the whole service.

    Attributes:
        device: where they compute.
        dtype: what they compute in; an autoencoder that asks for float32 keeps it, and a model that
            overflows float16 gets bfloat16.
        memory: what fits.
        loads: how many pipelines, ControlNets and IP-Adapters were loaded since the process began.
        evictions: how many of them were dropped to make room.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.device = chosen_device(settings.worker.device)
        self.dtype = chosen_dtype(settings.worker.dtype, self.device)
        self._compile = checked_backend(settings.worker.compile)
        self._attention = checked_attention(settings.worker.attention)
        self.loads = 0
        self.evictions = 0
        self._file = CatalogFile(settings.catalog)
        self._catalog = self._file()
        self._warm: dict[str, WarmPipeline] = {}
        self._controlnets: dict[str, WarmControlNet] = {}  # by source: models may share one
        self._ip_adapters: dict[str, WarmIpAdapter] = {}
        self._used: dict[str, None] = {}  # the keys of all, the least recently used first
        self.memory = MemoryModel(
            settings.worker.memory_bytes or free_memory(self.device),
            self._profiles(),
        )

    def refresh(self) -> None:
        """Take in what has changed in the catalogue; not while a run uses a pipeline.

        A pipeline whose entry names other weights than those loaded is dropped.
        """
        catalog = self._file()
        if catalog is self._catalog:
            return
        self._catalog = catalog
        self.memory.profiles = self._profiles()
        for name, warm in [*self._warm.items()]:
            entry = catalog.find(name)
            if entry is None or _weights_of(entry, warm.model) != _weights_of(warm.model, entry):
                self.forget(name)
                self.forget(_IP_ADAPTER + name)
            else:
                self._warm[name] = replace(warm, model=entry)

    def _profiles(self) -> dict[str, Profile]:
        return load_profiles(self._settings.catalog, self._catalog, self.device, self.dtype)

    @property
    def names(self) -> tuple[str, ...]:
        """Models that are loaded."""
        return tuple(key for key in self._used if key in self._warm)

    def get(
        self,
        name: str,
        pixels: int = 0,
        controls: Sequence[str] = (),
        *,
        image_prompt: bool = False,
    ) -> WarmPipeline:
        """The pipeline of a model, loaded at first use, and room for a run of `pixels`.

        When memory is short, what was not used for longest is dropped.

        Args:
            name: of the model.
            pixels: of all pictures of the run together.
            controls: names of the ControlNets that guide it; they are loaded likewise.
            image_prompt: whether it takes a picture as a prompt; the IP-Adapter is loaded likewise.

        Raises:
            UnsupportedRequest: the catalogue has no such model, ControlNet or IP-Adapter.
            ModelUnavailable: one cannot be loaded.
        """
        wanted = self._keys(name, controls, image_prompt=image_prompt)
        self._make_room(name, wanted, pixels)
        if name not in self._warm:
            self._warm[name] = self._loaded(name)
        self._use(name)
        warm = self._warm[name]
        guides = tuple(self._control(warm, control) for control in controls)
        adapter = self._ip_adapter(warm) if image_prompt else None
        self._make_room(name, wanted, pixels)
        if not guides and adapter is None:
            return warm
        return replace(warm, controlnets=guides, ip_adapter=adapter)

    def computes(self, name: str) -> dict[str, str]:
        """What a model computes on and in, as far as it decides the picture."""
        model = self._model(name)
        facts = {"device": self.device.type, "dtype": dtype_name(dtype_for(model, self.dtype))}
        attention = attention_of(model, self._attention)
        chosen = {"quantization": model.quantization, "attention": attention}
        return facts | {name: value for name, value in chosen.items() if value}

    def has_room(self, name: str) -> bool:
        """Whether a model fits beside those that are loaded."""
        return self._missing_bytes(name, 0) <= 0

    def keep_only(
        self, name: str, controls: Sequence[str] = (), *, image_prompt: bool = False
    ) -> None:
        """Drop everything but one pipeline and these things that go with it."""
        kept = self._keys(name, controls, image_prompt=image_prompt)
        for other in [*self._used]:
            if other not in kept:
                self.forget(other)
                self.evictions += 1

    def forget(self, key: str) -> None:
        """Drop a pipeline, by name, or what goes with one; the next use loads it again."""
        self._used.pop(key, None)
        self._warm.pop(key, None)
        self._controlnets.pop(key, None)
        self._ip_adapters.pop(key, None)
        release_loaded()

    def _keys(self, name: str, controls: Sequence[str], *, image_prompt: bool) -> list[str]:
        """Of a pipeline and of what goes with it: ControlNets have their source, to be shared."""
        model = self._model(name)
        nets = [offered_control(model, control).source for control in controls]
        return [name, *nets, *([_IP_ADAPTER + name] if image_prompt else [])]

    def _control(self, warm: WarmPipeline, name: str) -> Any:
        net = offered_control(warm.model, name)
        if net.source not in self._controlnets:
            self._controlnets[net.source] = load_controlnet(net, self.device, self.dtype)
            self.loads += 1
        self._use(net.source)
        check_fits(net, self._controlnets[net.source], network_of(warm.pipe))
        return self._controlnets[net.source].module

    def _ip_adapter(self, warm: WarmPipeline) -> WarmIpAdapter:
        key = _IP_ADAPTER + warm.model.name
        if key not in self._ip_adapters:
            self._ip_adapters[key] = load_ip_adapter(warm.model, warm.pipe, self._attention)
            self.loads += 1
        self._use(key)
        return self._ip_adapters[key]

    def _use(self, key: str) -> None:
        """Note what was used last."""
        self._used.pop(key, None)
        self._used[key] = None

    def _make_room(self, name: str, wanted: Collection[str], pixels: int) -> None:
        while self._missing_bytes(name, pixels) > 0:
            oldest = next((other for other in self._used if other not in wanted), None)
            if oldest is None:
                return
            _log.info("dropping %s to make room for %s", oldest, name)
            self.forget(oldest)
            self.evictions += 1

    def _missing_bytes(self, name: str, pixels: int) -> int:
        """How much more memory it would take than there is."""
        models = sum(map(self._weights, {*self._warm, name}))
        beside: list[Any] = [*self._controlnets.values(), *self._ip_adapters.values()]
        held: int = models + sum(part.weights for part in beside)
        return self.memory.run(name, pixels) + held - self.memory.budget

    def _weights(self, name: str) -> int:
        known = self.memory.weights(name)
        return known if known or name not in self._warm else self._warm[name].weights

    def _model(self, name: str) -> Model:
        model = self._catalog.find(name)
        if model is None:
            raise UnsupportedRequest(
                f"model {name!r} is not in this worker's catalogue; "
                f"use one of {', '.join(self._catalog.names)}"
            )
        return model

    def _loaded(self, name: str) -> WarmPipeline:
        model = self._model(name)
        try:
            dtype, attention = dtype_for(model, self.dtype), attention_of(model, self._attention)
            warm = load_warm(model, self.device, dtype, self._compile, attention)
        except ModelUnavailable:
            raise
        except Exception as error:
            if is_out_of_memory(error) or device_is_lost(error):
                raise
            raise ModelUnavailable(f"model {name!r}", model.source, error) from error
        self.loads += 1
        return warm


def needs_of(request: ResolvedRequest) -> dict[str, Any]:
    """What a request needs beside its model, as arguments of `Pipelines.get`."""
    names = [control.name for control in request.controls]
    return {"controls": names, "image_prompt": request.image_prompt is not None}


def _weights_of(model: Model, of: Model | None = None) -> Any:
    """What decides which weights a loaded pipeline of `model` holds.

    LoRAs count that `of` offers too: a pipeline loads them when they are first asked for.
    """
    names = {lora.name for lora in (of or model).loras} & {lora.name for lora in model.loras}
    fields = {"source", "revision", "variant", "vae", "embeddings", "ip_adapter", "name"}
    fields |= {"quantization", "offload", "bfloat16"}
    loras = {lora.name: (lora.source, lora.file) for lora in model.loras if lora.name in names}
    return model.model_dump(include=fields), loras
