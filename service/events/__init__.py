"""One Redis Stream per generation."""
