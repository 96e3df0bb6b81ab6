"""A generation from its record to its final event."""
