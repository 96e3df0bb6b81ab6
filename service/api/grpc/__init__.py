"""The gRPC front end: `proto/hidiffusion/v1`, served with health checking and reflection."""
