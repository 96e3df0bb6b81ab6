"""gRPC stubs generated from proto/; regenerate with `make proto`, never edit."""
