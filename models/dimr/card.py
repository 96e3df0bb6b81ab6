"""The card of the small DiMR, as far as it is the same after every training."""

CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: unconditional-image-generation
---

# emoji-classes-256

A small DiMR of two stages that draws 24 nouns as classes, in the latents of the bundled model's
autoencoder. It shows and tests `hidiffusion.dimr`; it is no rival of the bundled model.

```python
from hidiffusion.dimr import DiMRPipeline

pipe = DiMRPipeline.from_pretrained("models/emoji-classes-256")
pipe("fox", num_inference_steps=20, guidance_scale=2.0).images[0]
```

Pictures, their licences and the autoencoder, which is a link, are those of
[fluent-emoji-256](../fluent-emoji-256/README.md). Each latent is a noun's one picture or
its mirror image; trained on a GPU, scaled, shifted and turned as well. `encoder.json` names the
encoder: with another one, train again.

## Figures of this training

<!-- begin figures -->
<!-- end figures -->

## What its parts are worth

The same data and processor time for each network, at a smaller budget than above, from several
seeds: without the second resolution (a U-ViT with about as many parameters), and with adaptive
normalisation in place of the time-dependent one. Losses have the 95 % interval of Student's t over
the seeds, shares that of Wilson.

<!-- begin comparison -->
<!-- end comparison -->
"""
