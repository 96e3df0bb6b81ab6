"""The service, measured: what it adds, accepts and asks of Redis."""
