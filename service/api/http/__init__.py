"""The HTTP front end: routes translate between the wire and the use cases, and decide nothing."""
