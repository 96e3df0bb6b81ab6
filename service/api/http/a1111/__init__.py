"""A1111's API, `/sdapi/v1`, over the same use cases, for the clients that speak it."""
