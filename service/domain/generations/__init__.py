"""What a generation is, what happens to it, who waits and what is drawn together."""
