"""What A1111's prompts mean: `(red:1.8)` weighs words, `<lora:ink:0.8>` names a LoRA.

They are turned into what this service has for it: compel's weights, `(red)1.8`, and `loras`. Its
weights without a number, `((red))` and `[red]`, are words to us as they always were: they stand in
many a plain text.
"""

import re
from dataclasses import dataclass

_LORA = re.compile(r"<lora:([^:<>]+)(?::(-?\d+(?:\.\d+)?))?(?::[^<>]*)?>", re.IGNORECASE)
_WEIGHT = re.compile(r"(?<!\\)\(([^()]*?)\s*:\s*(\d*\.?\d+)\s*\)")

#: In the place of brackets that are done, while those around them are looked for.
_OPEN, _CLOSE = "\ue000", "\ue001"


@dataclass(frozen=True)
class ReadPrompt:
    """A prompt in our own terms.

    Attributes:
        text: with weights as compel reads them, without LoRAs.
        loras: names and weights, as they were written.
        weighted: whether it has weights.
    """

    text: str
    loras: tuple[tuple[str, float], ...] = ()
    weighted: bool = False


def read_prompt(prompt: str) -> ReadPrompt:
    """Read a prompt that may have A1111's weights and LoRAs; any other comes back as it is."""
    loras = tuple((name.strip(), float(weight or 1)) for name, weight in _LORA.findall(prompt))
    text = re.sub(r"\s{2,}", " ", _LORA.sub("", prompt)).strip(" ,") if loras else prompt
    weighted = False
    while found := _WEIGHT.search(text):
        weighted = True
        inner = f"{_OPEN}{found[1]}{_CLOSE}{float(found[2]):g}"
        text = text[: found.start()] + inner + text[found.end() :]
    return ReadPrompt(text.replace(_OPEN, "(").replace(_CLOSE, ")"), loras, weighted)
