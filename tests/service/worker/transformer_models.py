"""A folder with a tiny Chroma that reads words, and the catalogue that `models add` makes of it."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from service.catalog.edit import add_model, entry_for
from service.catalog.inspect import inspect_model
from service.catalog.presets import preset_for
from tests.hidiffusion.tiny.transformer_pipelines import pipeline


def chroma_catalog(folder: Path, **changes: Any) -> Path:
    """Write the model and a catalogue of it alone, with changes to its entry; returns its path."""
    pipe = pipeline("chroma")
    letters = {letter: number for number, letter in enumerate("_abcdefghijklmnopqrstuvwxyz ")}
    words = Tokenizer(models.WordLevel(letters, unk_token="_"))
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    torch.manual_seed(0)
    config = T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    pipe.register_modules(
        text_encoder=T5EncoderModel(config),
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="_", unk_token="_", model_max_length=512
        ),
    )
    pipe.save_pretrained(folder / "chroma")
    path = folder / "catalog.json"
    found = inspect_model(folder / "chroma")
    entry = entry_for(found, preset_for(found, "chroma"), name="chroma", source="chroma")
    add_model(path, entry | changes)
    return path
