"""What is loaded for a run, what fits into memory, and the pictures a run starts from."""
