"""Training of the small DiMR that draws the bundled model's nouns as classes."""
