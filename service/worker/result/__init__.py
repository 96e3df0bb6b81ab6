"""From latents to tiles, picture and manifest."""
