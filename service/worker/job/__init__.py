"""What one attempt is: its identity, its state between steps, and what can go wrong with it."""
