"""The gRPC front end: `proto/hidiffusion_api/v1`, served with health checking and reflection."""
