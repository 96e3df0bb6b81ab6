"""Training of the small diffusion transformer in Stable Diffusion 3's shape."""
