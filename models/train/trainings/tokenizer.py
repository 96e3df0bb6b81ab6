"""A byte-pair vocabulary trained on the prompts, in CLIP's format."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from models.train.architecture import MAX_TOKENS

WORD_END = "</w>"


def train_tokenizer(corpus: Iterable[str], vocabulary: int) -> CLIPTokenizer:
    """Trains byte-pair merges on a corpus.

    Args:
        corpus: Prompts.
        vocabulary: Upper bound of the number of tokens: two marks, each byte inside and at the end
            of a word, and merges.

    Returns:
        A CLIP tokenizer of at most 77 tokens that can encode any text.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    clip = CLIPTokenizer()
    learner = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    learner.normalizer = clip.backend_tokenizer.normalizer
    learner.pre_tokenizer = clip.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(alphabet),
        special_tokens=[str(clip.bos_token), str(clip.eos_token)],
        initial_alphabet=alphabet,
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(corpus, trainer)
    learned = json.loads(learner.to_str())["model"]
    tokens: dict[str, int] = learned["vocab"]
    for byte in alphabet:
        tokens.setdefault(byte + WORD_END, len(tokens))
    # A list of pairs is what it takes, whatever its annotation says.
    merges: Any = [tuple(pair) for pair in learned["merges"]]
    return CLIPTokenizer(vocab=tokens, merges=merges, model_max_length=MAX_TOKENS)
