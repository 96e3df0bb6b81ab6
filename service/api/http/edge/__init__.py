"""What every request passes: limits of connections, keys, forms, unknown parameters."""
