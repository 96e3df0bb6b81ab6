"""The front ends: HTTP and gRPC over the same use cases."""
