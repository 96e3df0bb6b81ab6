"""The image generation service: HTTP and gRPC in front, Redis between, warm GPU workers behind."""
