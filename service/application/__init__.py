"""The use cases. HTTP, gRPC and the command line call these and nothing deeper."""
