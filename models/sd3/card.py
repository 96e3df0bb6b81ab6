"""The card of the small transformer, as far as it is the same after every training."""

CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---

# emoji-sd3-256

A small diffusion transformer in the shape of Stable Diffusion 3.5: the same classes, blocks and
schedule, {parameters} parameters. It draws 24 nouns, in the latents of the bundled model's
autoencoder, natively at 256x256. It is here so that what this project does to transformers can be
looked at; it is no rival of anything.

![One sample per noun](../../docs/images/sd3-contact-sheet.png)

*"a cat", "a dog" and so on: the first sample of every noun, seed 0, {steps} steps, guidance
{guidance:g}, shown at half size.*

```python
from diffusers import StableDiffusion3Pipeline
from hidiffusion.methods import registry

pipe = StableDiffusion3Pipeline.from_pretrained(
    "models/emoji-sd3-256", text_encoder_3=None, tokenizer_3=None
)
pipe("a red apple", num_inference_steps={steps}, guidance_scale={guidance:g}).images[0]

registry.get("refine").generate(
    pipe, width=512, height=512, seed=7, prompt="a red apple",
    num_inference_steps={steps}, guidance_scale={guidance:g},
).images[0]
```

It knows {nouns}; one of them on white, with or without its natural colour.

Pictures and their licences are those of [fluent-emoji-256](../fluent-emoji-256/README.md), which
also lends the autoencoder's weights and the tokenizer: both are links. `bundled.json` names what it
learned on; with another encoder or vocabulary, train again. There is no third text encoder, and the
second is a link to the first.

Each noun's one picture was scaled to 0.6 to 1 of its size, shifted and mirrored anew for each of
its latents. The loss is that of Stable Diffusion 3 (Esser et al., arXiv 2403.03206): the velocity
on the straight line from data to noise, at times whose logits are normal. To train it again:
`python -m models.sd3 --device cuda`.

## Figures of this training

<!-- begin figures -->
<!-- end figures -->

## Beyond its native size

The same prompts and seed by each method; counted is in how many pictures the noun classifier sees
the noun, among all nouns that it knows. "direct" is the pipeline as it is, whose table of positions
ends at 512x512.

![Four nouns by each method](../../docs/images/sd3-beyond-native.png)

<!-- begin beyond -->
<!-- end beyond -->
"""
