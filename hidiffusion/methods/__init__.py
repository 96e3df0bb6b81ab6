"""Ways to make a picture beyond native size, found by name in `hidiffusion.methods.registry`."""
