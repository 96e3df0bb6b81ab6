"""From what a client asks to an accepted generation."""
