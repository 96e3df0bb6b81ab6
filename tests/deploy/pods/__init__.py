"""Runs what a cluster would run from the rendered chart, without a cluster: `make pods`."""
