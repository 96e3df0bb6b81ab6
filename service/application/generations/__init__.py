"""What becomes of a generation: asked after, watched, cancelled, forgotten."""
