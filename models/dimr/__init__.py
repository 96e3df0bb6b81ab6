"""Training of the small DiMR that draws nouns as classes."""
