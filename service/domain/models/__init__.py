"""What a model can do and what may be asked of it."""
