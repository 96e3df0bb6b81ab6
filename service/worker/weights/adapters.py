"""Small weights on top of a pipeline's own: learned words and LoRAs.

Learned words come with the pipeline, for they act where a prompt has them alone. LoRAs are loaded
when a request first names them, stay beside the pipeline, and are switched on for each request.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from diffusers.loaders.textual_inversion import load_textual_inversion_state_dicts

from service.domain.models.adapters import Embedding, Lora, LoraChoice, Weights
from service.domain.models.catalog import Model
from service.worker.job.failures import ModelUnavailable, device_is_lost, is_out_of_memory

#: Names that files for two text encoders give the parts for each, the first encoder's first.
_PARTS = (("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1"))


def use_loras(pipe: Any, model: Model, chosen: Sequence[LoraChoice]) -> None:
    """Let these LoRAs act on a pipeline, and no others; without any it is what it was.

    Args:
        pipe: a diffusers pipeline of the model.
        model: offers them.
        chosen: what a request names.

    Raises:
        ModelUnavailable: one cannot be loaded, or is not for this model.
    """
    offered = {lora.name: lora for lora in model.loras}
    for choice in chosen:
        if choice.name not in _loaded(pipe):
            lora = offered[choice.name]
            what = f"LoRA {lora.name!r} of model {model.name!r}"
            _guarded(what, lora.source, partial(_load_lora, pipe, lora))
    if chosen:
        pipe.enable_lora()
        pipe.set_adapters([choice.name for choice in chosen], [choice.weight for choice in chosen])
    elif _loaded(pipe):
        pipe.disable_lora()


def load_embedding(pipe: Any, embedding: Embedding) -> None:
    """Teach a pipeline's text encoders one word.

    Raises:
        ModelUnavailable: it cannot be loaded, or is not for this model.
    """
    what = f"embedding {embedding.token!r}"
    _guarded(what, embedding.source, partial(_load_embedding, pipe, embedding))


def _loaded(pipe: Any) -> set[str]:
    if not hasattr(pipe, "get_list_adapters"):
        return set()
    return {name for names in pipe.get_list_adapters().values() for name in names}


def _load_lora(pipe: Any, lora: Lora) -> None:
    try:
        with warnings.catch_warnings():  # that there are others already is as it should be
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            pipe.load_lora_weights(lora.source, adapter_name=lora.name, **_where(lora))
        if lora.name not in _loaded(pipe):
            raise ValueError("it holds no weight that fits this model")
    except Exception:
        pipe.unload_lora_weights()  # some layers may have it and others not
        raise


def _load_embedding(pipe: Any, embedding: Embedding) -> None:
    if getattr(pipe, "text_encoder_2", None) is None:
        pipe.load_textual_inversion(embedding.source, token=embedding.token, **_where(embedding))
        return
    read: Any = load_textual_inversion_state_dicts
    (state,) = read([embedding.source], **_where(embedding))
    parts = next((names for names in _PARTS if {*names} <= {*state}), None)
    if parts is None:
        raise ValueError(
            f"it holds {', '.join(sorted(state))}, and two text encoders need "
            + " or ".join(" with ".join(names) for names in _PARTS)
        )
    encoders = (pipe.text_encoder, pipe.tokenizer), (pipe.text_encoder_2, pipe.tokenizer_2)
    for part, (encoder, tokenizer) in zip(parts, encoders, strict=True):
        pipe.load_textual_inversion(
            state[part], token=embedding.token, text_encoder=encoder, tokenizer=tokenizer
        )


def _where(entry: Weights) -> dict[str, Any]:
    """Arguments of diffusers' loaders; nobody asks a hub for what lies on this machine."""
    return {"weight_name": entry.file, "local_files_only": Path(entry.source).exists()}


def _guarded(what: str, source: str, load: Callable[[], None]) -> None:
    try:
        load()
    except Exception as error:
        if is_out_of_memory(error) or device_is_lost(error):
            raise
        raise ModelUnavailable(what, source, error) from error
